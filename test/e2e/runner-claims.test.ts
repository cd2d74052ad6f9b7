/** The claim route: spec/07 §3.7, row by row, claims that race, are stale, forged or hostile. */
import fc from 'fast-check'
import { eventually } from '../support/eventually.js'
import { type Announced, bearer, HandRunner, subscriptionOf } from '../support/hand-runner.js'
import { neverFails, noObject, oddSegment, refusesAll } from '../support/hostile.js'
import { expectStatus, refusal, Wire } from '../support/wire.js'

const noWork = { status: 409, body: refusal('NO_PENDING_WORK', 'Subscription has no pending work') }
const taken = (holder: string, generation: number) => ({
  status: 409,
  body: refusal('ALREADY_CLAIMED', JSON.stringify({ error: { code: 'ALREADY_CLAIMED', current_holder: holder, generation } })),
})

describe('a claim', () => {
  let wire: Wire
  let runner: HandRunner
  beforeAll(async () => {
    wire = await Wire.start({ env: { ELECTRIC_AGENTS_ANNOUNCE_AGAIN_MS: '600000' } })
    await wire.register('sams', {}, 'user:sam')
    runner = await HandRunner.start(wire, 'r1', 'user:sam')
  })
  afterAll(async () => await wire.stop())

  /** Rows of dispatch, by table. */
  const dispatchRows = async () =>
    await Promise.all(
      ['subscriptions', 'subscription_links', 'write_tokens', 'consumer_claims', 'entity_dispatch_state', 'wake_notifications'].map(
        async (table) => await wire.sql(`SELECT xmin::text, t.* FROM ${table} t ORDER BY t::text`),
      ),
    )
  /** A subscription as the API makes them, of whoever may. */
  async function subscribed(id: string, path: string, more: { readonly type?: string; readonly runner?: string } = {}): Promise<void> {
    await wire.sql(
      `INSERT INTO subscriptions (tenant_id, id, type, configuration, wake_stream, lease_ttl_ms, runner_id, entity_url)
       VALUES ('default', $1, $2, 'test', '/runners/r1/wake', 30000, $3, $4)`,
      id,
      more.type ?? 'pull-wake',
      more.runner ?? null,
      more.runner === undefined ? null : path.slice(0, -'/main'.length),
    )
    await wire.sql(
      `INSERT INTO subscription_links (tenant_id, path, subscription_id, is_explicit, is_glob, acked) VALUES ('default', $1, $2, true, false, '-1')`,
      path,
      id,
    )
  }

  it('is answered with the wake, exactly (spec/07 §6.1)', async () => {
    const event = await runner.woken('/sams/exact', { tags: { a: 'b' }, args: { x: 1 } })
    expect(event).toEqual({
      type: 'wake',
      subscription_id: expect.stringMatching(/^runner:r1:[0-9a-f]{16}$/),
      stream: 'sams/exact/main',
      generation: 1,
      ts: expect.any(Number),
    })

    const wake = await runner.claimed(event)

    const wakeId = expect.stringMatching(/^w_[0-9a-f]{24}$/)
    expect(wake).toEqual({
      consumerId: wakeId,
      wakeId,
      epoch: 1,
      streamPath: '/sams/exact/main',
      streams: [{ path: '/sams/exact/main', offset: expect.any(String) }],
      callback: expect.stringMatching(new RegExp(`/_electric/wake-callbacks/${wake.wakeId}$`)),
      claimToken: expect.any(String),
      triggerEvent: 'message_received',
      entity: {
        type: 'sams',
        status: 'idle',
        url: '/sams/exact',
        streams: { main: '/sams/exact/main' },
        tags: { a: 'b' },
        spawnArgs: { x: 1 },
        createdBy: '/principal/user%3Asam',
      },
      principal: { url: '/principal/user%3Asam', key: 'user:sam', kind: 'user', id: 'sam' },
      subscription_id: event.subscription_id,
      wake_id: wake.wakeId,
      generation: 1,
    })
    expect(wake.consumerId).toBe(wake.wakeId)
    expect(await wire.statusOf('/sams/exact')).toBe('running')
  })

  it('whose wake is done meets NO_PENDING_WORK, and all that it held is given back (spec/07 §6.1)', async () => {
    const event = await runner.woken('/sams/done')
    const wake = await runner.claimed(event)
    const token = await runner.writeToken(wake)

    expect(await runner.done(wake)).toMatchObject({ status: 200, body: { ok: true, next_wake: false } })

    expect(await runner.claim(event)).toMatchObject(noWork)
    expect(await wire.statusOf('/sams/done')).toBe('idle')
    expect((await runner.append(wake, token, { type: 'run', key: 'r', value: {}, headers: { operation: 'insert' } })).status).toBe(401)
    expect(await wire.sql('SELECT active_consumer_id FROM entity_dispatch_state WHERE entity_url = $1', '/sams/done')).toEqual([
      { active_consumer_id: null },
    ])
  })

  describe('is refused in this order (spec/07 §3.7):', () => {
    let event: Announced
    beforeAll(async () => {
      event = await runner.woken('/sams/order')
    })

    it('1: by the form of its body, before anything is looked up', async () => {
      for (const [body, path, message] of [
        [{ subscription_id: 7 }, '/subscription_id', 'must be string'],
        [{ stream: null }, '/stream', 'must be string'],
        [{ generation: '1' }, '/generation', 'must be number'],
        [{ type: {} }, '/type', 'must be string'],
      ] as const)
        expect(await runner.claim(body, { id: 'none', as: 'user:kim' })).toMatchObject({
          status: 400,
          body: refusal('INVALID_REQUEST', 'Request body does not match API schema', [{ path, message }]),
        })
      expect(await runner.claim('{', { id: 'none' })).toMatchObject({ status: 400, body: refusal('INVALID_REQUEST', 'Invalid JSON body') })
      expect(await runner.claim({ ...event, subscription_id: 'a\0' }, { id: 'none' })).toMatchObject({
        status: 400,
        body: refusal('INVALID_REQUEST', 'Text must not contain U+0000 or lone surrogates'),
      })
    })

    it('1: by a runner that is not there', async () => {
      expect(await runner.claim(event, { id: 'none', as: 'user:kim' })).toMatchObject({
        status: 404,
        body: refusal('NOT_FOUND', 'Runner not found'),
      })
    })

    it('1: for everybody but the owner, system principals included, whatever else is wrong', async () => {
      await runner.administer('disable')
      for (const as of ['user:kim', 'system:framework', 'system:dev-local'])
        expect(await runner.claim({ ...event, subscription_id: 'x' }, { as })).toMatchObject({
          status: 403,
          body: refusal('UNAUTHORIZED', 'Runner claim requires the authenticated owner'),
        })
    })

    it('2: while the runner is disabled, whatever the event says', async () => {
      expect(await runner.claim({ ...event, subscription_id: 'runner:r2:x' })).toMatchObject({
        status: 409,
        body: refusal('NOT_RUNNING', 'Runner is disabled'),
      })
      await runner.administer('enable')
    })

    it.each(['x', '', 'runner:r', 'runner:r1x', 'runner:r10:x', 'runner:r2:x', 'RUNNER:r1:x', ' runner:r1', 'webhook:r1'])(
      '3: for the subscription %p of somebody else',
      async (subscription_id) => {
        expect(await runner.claim({ ...event, subscription_id })).toMatchObject({
          status: 400,
          body: refusal('INVALID_REQUEST', 'Wake event subscription_id does not match runner'),
        })
      },
    )

    it.each([{}, { subscription_id: 'runner:r1' }, { subscription_id: 'runner:r1:' }, { subscription_id: 'runner:r1:0123456789abcdef' }])(
      '4: 204 without a body for a subscription that is not there: %j',
      async (body) => {
        expect(await runner.claim(body)).toMatchObject({ status: 204, text: '' })
      },
    )

    it('4: of others that claim: who has it, as the subscription says it', async () => {
      await runner.claimed(event)

      expect(await runner.claim(event)).toMatchObject(taken('r1', 1))
    })

    it('6: for streams of no entity, which wake it no more', async () => {
      await wire.ask('PUT', '/loose', '{}', { headers: { 'content-type': 'application/json' } })
      await wire.ask('POST', '/loose', '{}', { headers: { 'content-type': 'application/json' } })
      await subscribed('runner:r1:loose', '/loose')

      expect(await runner.claim({ subscription_id: 'runner:r1:loose' })).toMatchObject({
        status: 404,
        body: refusal('NOT_FOUND', 'Claim stream is not attached to an entity'),
      })
      expect(await runner.claim({ subscription_id: 'runner:r1:loose' })).toMatchObject(noWork)
    })
  })

  it('after the entity was killed meanwhile is answered 204', async () => {
    const event = await runner.woken('/sams/killed')
    expectStatus(200, await wire.kill('/sams/killed', 'user:sam'))

    expect(await runner.claim(event)).toMatchObject({ status: 204, text: '' })
    expect(await wire.statusOf('/sams/killed')).toBe('killed')
  })

  it('races with others, through all replicas: one wins, all others are told who', async () => {
    const event = await runner.woken('/sams/race')

    const answers = await Promise.all(Array.from({ length: 20 }, async () => await runner.claim(event)))

    const [won, ...others] = answers.toSorted((one, other) => one.status - other.status)
    expect(won?.status).toBe(200)
    for (const lost of others) expect(lost).toMatchObject(taken('r1', 1))
    expect(await wire.sql(`SELECT status, runner_id FROM consumer_claims WHERE entity_url = '/sams/race'`)).toEqual([
      { status: 'active', runner_id: 'r1' },
    ])
  })

  it('races with a kill: either it is 204, or the wake that it got is fenced', async () => {
    for (let round = 0; round < 8; round += 1) {
      const url = `/sams/race-kill-${round}`
      const event = await runner.woken(url)

      const [claim, kill] = await Promise.all([runner.claim(event), wire.kill(url, 'user:sam')])

      expect(kill.status).toBe(200)
      expect([200, 204]).toContain(claim.status)
      if (claim.status === 200) {
        const wake = claim.body as { readonly wakeId: string; readonly claimToken: string; readonly epoch: number }
        const late = await wire.ask('POST', `/_electric/wake-callbacks/${wake.wakeId}`, wake, { headers: bearer(wake.claimToken) })
        expect(late.status).toBe(409)
      }
      expect(await wire.statusOf(url)).toBe('killed')
    }
  })

  it('that is held shows the runner as its holder, whoever calls back for it', async () => {
    const event = await runner.woken('/sams/holder')
    const wake = await runner.claimed(event)
    await runner.writeToken(wake)

    expect(await runner.claim(event)).toMatchObject(taken('r1', 1))
    expect((await subscriptionOf(wire, '/sams/holder')).holder).toBe('r1')
  })

  describe('of an old generation', () => {
    let first: Announced
    beforeAll(async () => {
      first = await runner.woken('/sams/old')
      await runner.done(await runner.claimed(first))
      await wire.send('/sams/old', { payload: 'more' }, 'user:sam')
      await runner.event('/sams/old', 2) // else a claim may be faster, and the wake is announced to nobody
    })

    it('gets the wake that waits to be claimed: any hint will do', async () => {
      expect((await runner.claimed(first)).epoch).toBe(2)
    })

    it('is told who has the current one, and touches no row', async () => {
      const before = await dispatchRows()

      expect(await runner.claim(first)).toMatchObject(taken('r1', 2))
      expect(await dispatchRows()).toEqual(before)
    })

    it('meets NO_PENDING_WORK when all is done, and touches no row', async () => {
      const [{ wake_id: wakeId }] = (await wire.sql(
        `SELECT wake_id FROM consumer_claims WHERE entity_url = '/sams/old' AND status = 'active'`,
      )) as [{ wake_id: string }]
      expect(wakeId).toMatch(/^w_/)
      await wire.send('/sams/old', { payload: 'later' }, 'user:sam')
      await wire.sql(`UPDATE subscriptions SET lease_until = now() WHERE entity_url = '/sams/old'`)
      const next = await runner.event('/sams/old', 3)
      await runner.done(await runner.claimed(next))
      const before = await dispatchRows()

      for (const generation of [1, 2, -1, 0.5]) expect(await runner.claim({ ...first, generation })).toMatchObject(noWork)
      expect(await dispatchRows()).toEqual(before)
    })

    it('takes no lock: it is answered while the subscription is in the hands of somebody else', async () => {
      const holding = wire.sql(`
        WITH held AS (SELECT id FROM subscriptions WHERE entity_url = '/sams/old' FOR UPDATE) SELECT pg_sleep(20) FROM held`)
      holding.catch(() => undefined) // ended below
      await eventually(
        async () =>
          (await wire.sql(`SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20) FROM held%' AND wait_event = 'PgSleep'`))
            .length === 1,
      )

      expect(await runner.claim(first)).toMatchObject(noWork)

      await wire.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)
      await holding.catch(() => undefined)
    })

    it('of the future is looked up like any other', async () => {
      expect(await runner.claim({ ...first, generation: 1e15 })).toMatchObject(noWork)
    })
  })

  describe('with a forged subscription', () => {
    it('of a webhook, whatever its name: 204, and the webhook keeps its wake', async () => {
      await wire.spawned('/chat/webhook', {
        initialMessage: 'hello',
        dispatch_policy: { targets: [{ type: 'webhook', url: 'http://127.0.0.1:9/', subscription_id: 'runner:r1:forged' }] },
      })
      const { id, wake_id: wakeId } = await subscriptionOf(wire, '/chat/webhook')
      expect(id).toMatch(/^runner:r1:forged:/)

      expect(await runner.claim({ subscription_id: id })).toMatchObject({ status: 204 })
      expect(await subscriptionOf(wire, '/chat/webhook')).toMatchObject({ wake_id: wakeId, holder: null })
      await wire.kill('/chat/webhook')
    })

    it('of another runner under a name of this one: 204', async () => {
      await wire.spawned('/chat/others', { initialMessage: 'hello' })
      await subscribed('runner:r1:others', '/chat/others/main', { runner: 'r2' })

      expect(await runner.claim({ subscription_id: 'runner:r1:others' })).toMatchObject({ status: 204 })
    })

    it('never says more of what is not its own than that it is not there', async () => {
      const event = await runner.woken('/sams/secret')
      const kims = await HandRunner.start(wire, 'kims', 'user:kim')

      expect(await kims.claim(event)).toMatchObject({ status: 400 })
      expect(await kims.claim({ ...event, subscription_id: `runner:kims:${event.subscription_id}` })).toMatchObject({
        status: 204,
        text: '',
      })
      expect((await runner.claimed(event)).epoch).toBe(1)
    })
  })

  it('whose wake gets heartbeats has its lease moved, everywhere it shows (spec/06 §10)', async () => {
    const wake = await runner.claimed(await runner.woken('/sams/lease'))
    const shown = async () =>
      await wire.sql(
        `SELECT s.lease_until, c.lease_expires_at, d.active_lease_expires_at
           FROM subscriptions s, consumer_claims c, entity_dispatch_state d
          WHERE s.wake_id = $1 AND c.consumer_id = $1 AND d.active_consumer_id = $1`,
        wake.wakeId,
      )
    const [before] = await shown()

    expectStatus(200, await runner.heartbeatOf(wake))

    const [after] = await shown()
    expect(Number(after?.lease_until)).toBeGreaterThan(Number(before?.lease_until))
    expect(after?.lease_expires_at).toEqual(after?.lease_until)
    expect(after?.active_lease_expires_at).toEqual(after?.lease_until)
  })

  it('shows in the health of its runner, and no longer when it is over', async () => {
    const healthy = await HandRunner.start(wire, 'healthy', 'user:sam')
    await healthy.heartbeat()
    const event = await healthy.woken('/sams/healthy')
    expect((await healthy.health()).dispatch).toMatchObject({ entities_with_active_claim: 0, entities_with_outstanding_wake: 1 })

    const wake = await healthy.claimed(event)
    expect(await healthy.health()).toMatchObject({
      claims: { active_count: 1, active: [{ consumer_id: wake.wakeId, epoch: 1, entity_url: '/sams/healthy' }] },
      dispatch: { entities_with_active_claim: 1, entities_with_outstanding_wake: 0 },
    })

    await healthy.done(wake)
    expect(await healthy.health()).toMatchObject({
      claims: { active_count: 0 },
      dispatch: { entities_with_active_claim: 0, entities_with_outstanding_wake: 0 },
    })
  })

  describe('in hostile requests', () => {
    const odd = fc.oneof(
      fc.string({ maxLength: 40 }),
      fc.constantFrom('\0', '\ud800', 'runner:r1', 'runner:r1:', 'runner:r1:\0', 'runner:r1:%', "runner:r1:'", 'runner:r1:__proto__'),
      fc.integer({ min: 1, max: 20_000 }).map((length) => `runner:r1:${'x'.repeat(length)}`),
    )
    const number = fc.oneof(fc.double(), fc.maxSafeInteger(), fc.constantFrom(-0, 1e308, -1e308, 0.1, 2 ** 63))
    const event = fc.record(
      { type: odd, subscription_id: odd, stream: odd, generation: number, ts: fc.oneof(number, odd) },
      { requiredKeys: [] },
    )

    it('is refused for what is no wake event', async () => {
      const wrong = fc
        .record(
          {
            type: fc.constantFrom(1, null, [], {}),
            subscription_id: fc.constantFrom(1, null, [], {}, true),
            generation: fc.constantFrom('1', null, [], {}),
            ts: fc.constantFrom(null, [], {}),
          },
          { requiredKeys: [] },
        )
        .filter((body) => Object.keys(body).length > 0)
        .map((body) => JSON.stringify(body))

      await refusesAll(wire, fc.oneof(noObject, wrong), async (body) => await runner.claim(body))
    })

    it('is refused for runners that are not there', async () => {
      await refusesAll(wire, oddSegment, async (id) => await wire.askRaw('POST', `/_electric/runners/${id}/claim`, '{}'))
    })

    it('never fails, and gives nothing of another runner’s away', async () => {
      const secret = await runner.woken('/sams/kept')
      const stranger = await HandRunner.start(wire, 'stranger', 'user:kim')
      const forged = fc.oneof(
        event,
        event.map((drawn) => ({ ...drawn, subscription_id: secret.subscription_id })),
        event.map((drawn) => ({ ...secret, ...drawn })),
      )

      await neverFails(forged, async (body) => {
        const answer = await stranger.claim(body)
        expect([204, 400, 409]).toContain(answer.status)
        return answer
      })
      expect((await runner.claimed(secret)).epoch).toBe(1)
    })

    it('never fails for its own runner either, and claims at most once', async () => {
      const own = await runner.woken('/sams/mine')

      await neverFails(
        event.map((drawn) => ({ ...own, ...drawn })),
        async (body) => await runner.claim(body),
      )
      const claims = await wire.sql(`SELECT status FROM consumer_claims WHERE entity_url = '/sams/mine'`)
      expect(claims.length).toBeLessThanOrEqual(1)
      expect((await runner.claim(own)).status).toBe(claims.length === 0 ? 200 : 409)
    })
  })
})
