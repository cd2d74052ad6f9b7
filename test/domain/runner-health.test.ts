import fc from 'fast-check'
import { type Diagnostics, healthOf, knownDiagnostics, livenessOf } from '../../src/domain/runner-health.js'

const complete: Diagnostics = {
  status: 'streaming',
  stream_connected: true,
  last_heartbeat_ok: true,
  last_claim_result: 'claimed',
  started_at: '2026-11-22T09:31:34.961Z',
  stream_connected_since: '2026-11-22T09:31:35.037Z',
  last_error: null,
  last_error_at: null,
  last_heartbeat_at: '2026-11-22T09:31:35.069Z',
  last_claim_at: '2026-11-22T09:31:35.826Z',
  last_dispatch_at: '2026-11-22T09:31:35.873Z',
  reconnect_count: 0,
  events_received: 1,
  claims_succeeded: 1,
  claims_skipped: 0,
  claims_failed: 0.5,
}

describe('diagnostics', () => {
  it('are kept where they are known', () => {
    expect(knownDiagnostics({ ...complete }, 100)).toEqual(complete)
    expect(knownDiagnostics({ last_claim_result: null }, 100)).toEqual({ last_claim_result: null })
  })

  it.each([
    { status: 'dancing' },
    { stream_connected: 1 },
    { last_heartbeat_ok: null },
    { last_claim_result: 'maybe' },
    { last_error: 7 },
    { reconnect_count: -1 },
    { events_received: '1' },
    { claims_failed: null },
    { something_new: true },
    JSON.parse('{"__proto__":{"status":"streaming"},"constructor":1,"toString":2}'),
    {},
  ])('are dropped where they are not: %p counts as nothing', (sent) => {
    expect(knownDiagnostics(sent, 100)).toBeNull()
    expect(knownDiagnostics({ ...sent, events_received: 3 }, 100)).toEqual({ events_received: 3 })
  })

  it('are text that fits into a row', () => {
    expect(knownDiagnostics({ last_error: 'a\0b\ud800' }, 100)).toEqual({ last_error: 'a\u{fffd}b\u{fffd}' })
    expect(knownDiagnostics({ last_error: `${'x'.repeat(9)}🏃` }, 10)).toEqual({ last_error: `${'x'.repeat(9)}\u{fffd}` })
  })

  it('never hold what no client may say, whatever was sent', () => {
    const sent = fc.dictionary(fc.constantFrom(...Object.keys(complete), 'other', '__proto__'), fc.jsonValue())
    fc.assert(
      fc.property(sent, (drawn) => {
        const known = knownDiagnostics(drawn, 100)
        expect(Object.keys(known ?? {}).every((name) => name in complete)).toBe(true)
        expect(knownDiagnostics({ ...known }, 100)).toEqual(known)
      }),
    )
  })
})

describe('a runner', () => {
  it.each([
    ['enabled', 5_000, 'online'],
    ['enabled', 0, 'expired'],
    ['enabled', -5_000, 'expired'],
    ['enabled', null, 'offline'],
    ['disabled', 5_000, 'offline'],
    ['disabled', -5_000, 'offline'],
    ['disabled', null, 'offline'],
  ] as const)('that is %s with %p ms of its lease left is %s', (admin_status, leaseLeftMs, liveness) => {
    expect(livenessOf({ admin_status, leaseLeftMs })).toBe(liveness)
  })

  const well = { admin_status: 'enabled', leaseLeftMs: 5_000, diagnostics: complete } as const
  it.each([
    ['all is well', {}, 'healthy', []],
    ['disabled', { admin_status: 'disabled' }, 'unhealthy', ['Runner is disabled']],
    ['lease over', { leaseLeftMs: -12_345 }, 'unhealthy', ['Heartbeat lease expired 12s ago']],
    ['never seen', { leaseLeftMs: null, diagnostics: null }, 'degraded', ['Runner has never sent a heartbeat']],
    ['disconnected', { diagnostics: { stream_connected: false } }, 'degraded', ['Client reports stream disconnected']],
    ['heartbeat failed', { diagnostics: { last_heartbeat_ok: false } }, 'degraded', ['Client reports last heartbeat failed']],
    ['five reconnects', { diagnostics: { reconnect_count: 5 } }, 'healthy', []],
    ['six reconnects', { diagnostics: { reconnect_count: 6 } }, 'degraded', ['Client has reconnected 6 times']],
    ['seen without diagnostics', { diagnostics: null }, 'degraded', ['No client diagnostics available']],
    ['disabled and never seen', { admin_status: 'disabled', leaseLeftMs: null, diagnostics: null }, 'unhealthy', ['Runner is disabled']],
    [
      'the worst of several',
      { leaseLeftMs: -1, diagnostics: { stream_connected: false } },
      'unhealthy',
      ['Heartbeat lease expired 0s ago', 'Client reports stream disconnected'],
    ],
  ] as const)('is as well as the table says: %s', (_, more, status, issues) => {
    expect(healthOf({ ...well, ...more })).toEqual({ status, issues })
  })
})
