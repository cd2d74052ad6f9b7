import { AgentsError } from '../../src/domain/errors.js'
import { configurationOf, subscriptionRequest } from '../../src/domain/subscription-request.js'

const webhook = { type: 'webhook', pattern: 't/**', webhook: { url: 'https://x.example' } }

function refusalOf(sent: unknown, id = 's'): string {
  try {
    subscriptionRequest('', id, sent)
    return 'passes'
  } catch (failure) {
    if (!(failure instanceof AgentsError)) throw failure
    return `${failure.refusal.status} ${failure.refusal.code} ${failure.refusal.message}`
  }
}

describe('a PUT of a subscription is refused, in this order,', () => {
  it.each([
    ['no object', [], 'Request body must be a JSON object'],
    ['no object', null, 'Request body must be a JSON object'],
    ['empty', {}, 'type must be "webhook" or "pull-wake"'],
    ['another type', { type: 'push' }, 'type must be "webhook" or "pull-wake"'],
    ['streams that are none', { type: 'webhook', streams: 'a' }, 'streams must contain only strings'],
    ['a stream that is no text', { type: 'webhook', streams: ['a', 1] }, 'streams must contain only strings'],
    ['neither pattern nor streams', { type: 'webhook', streams: [], lease_ttl_ms: 1 }, 'At least one of pattern or streams is required'],
    ['a blank pattern', { type: 'webhook', pattern: '//' }, 'At least one of pattern or streams is required'],
    ['a short lease', { type: 'webhook', pattern: 'a', lease_ttl_ms: 999 }, 'lease_ttl_ms must be an integer from 1000 to 600000'],
    ['a long lease', { type: 'webhook', pattern: 'a', lease_ttl_ms: 600_001 }, 'lease_ttl_ms must be an integer from 1000 to 600000'],
    ['a broken lease', { type: 'webhook', pattern: 'a', lease_ttl_ms: 1_000.5 }, 'lease_ttl_ms must be an integer from 1000 to 600000'],
    ['a lease in words', { type: 'webhook', pattern: 'a', lease_ttl_ms: '2000' }, 'lease_ttl_ms must be an integer from 1000 to 600000'],
    ['no URL', { type: 'webhook', pattern: 'a' }, 'webhook subscriptions require webhook.url'],
    ['an empty URL', { type: 'webhook', pattern: 'a', webhook: { url: '' } }, 'webhook subscriptions require webhook.url'],
    ['no wake stream', { type: 'pull-wake', pattern: 'a' }, 'pull-wake subscriptions require wake_stream'],
    ['a wake stream of slashes', { type: 'pull-wake', pattern: 'a', wake_stream: '/' }, 'pull-wake subscriptions require wake_stream'],
  ])('where its body is %s', (_what, sent, message) => {
    expect(refusalOf(sent)).toBe(`400 INVALID_REQUEST ${message}`)
  })

  it('where a text would not fit into an index', () => {
    expect(refusalOf({ ...webhook, pattern: 'p'.repeat(2_001) })).toBe('400 INVALID_REQUEST pattern must have at most 2000 bytes')
    expect(refusalOf({ ...webhook, streams: ['s'.repeat(2_000)] })).toBe('400 INVALID_REQUEST Stream names have at most 2000 bytes')
    expect(refusalOf(webhook, 'é'.repeat(251))).toBe('400 INVALID_REQUEST Subscription ids have at most 500 bytes')
  })
})

describe('the configuration of a subscription', () => {
  const of = (sent: object, mount: '' | '/v1/stream' = '') => configurationOf(subscriptionRequest(mount, 's', sent))

  it('is the same whatever the order of streams, their slashes, and the URL of the webhook', () => {
    const one = { ...webhook, streams: ['b', '/a/', 'a'] }
    expect(of(one)).toBe(of({ ...one, streams: ['a', 'b'], webhook: { url: 'https://other.example' } }))
  })

  it('differs by everything else', () => {
    const all = [
      of(webhook),
      of(webhook, '/v1/stream'),
      of({ ...webhook, pattern: 'u/**' }),
      of({ ...webhook, streams: ['a'] }),
      of({ ...webhook, lease_ttl_ms: 2_000 }),
      of({ ...webhook, description: 'd' }),
      of({ type: 'pull-wake', pattern: 't/**', wake_stream: 'w' }),
      of({ type: 'pull-wake', pattern: 't/**', wake_stream: 'v' }),
    ]
    expect(new Set(all).size).toBe(all.length)
  })
})
