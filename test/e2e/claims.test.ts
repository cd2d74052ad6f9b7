/** Who may work on a wake, and who may write: spec/06 §7–8, spec/03 §8.2–8.5. */
import fc from 'fast-check'
import type { EntityUrl } from '../../src/domain/ids.js'
import { subscriptionOf } from '../../src/domain/subscriptions.js'
import { eventually } from '../support/eventually.js'
import { bearer, dispatchRows, HandHeld } from '../support/hand-held.js'
import { neverFails, noObject, oddSegment } from '../support/hostile.js'
import { Subscriber } from '../support/subscriber.js'
import type { Wake } from '../support/wake.js'
import { type Answer, expectStatus, refusal, Wire } from '../support/wire.js'

const invalidToken = refusal('UNAUTHORIZED', 'Invalid write token')
const fenced = refusal('FENCED', 'Wake generation is stale')
const note = (key: string) => ({ type: 'state:notes', key, value: { text: key }, headers: { operation: 'insert' } })

/** Every kind of call that a runtime makes about a wake. */
const callsOf = ({ epoch, wakeId, streamPath }: Wake) => [
  { epoch, wakeId },
  { generation: epoch, wake_id: wakeId },
  { epoch },
  {},
  { epoch, acks: [{ path: streamPath, offset: '0000000000000000_0000000000000002' }] },
  { epoch, acks: [], done: true },
  { epoch, wakeId, acks: [{ path: streamPath, offset: '0000000000000000_0000000000000002' }], done: true },
]

describe.each(['postgres', 'http'] as const)('a wake, streams: %s,', (streams) => {
  let wire: Wire
  let held: HandHeld
  let entities = 0
  const fresh = (): string => {
    entities += 1
    return `/held/e${entities}`
  }

  beforeAll(async () => {
    wire = await Wire.start({ streams, env: { ELECTRIC_AGENTS_DEADLINES_EVERY_MS: '50' } })
    held = await HandHeld.start(wire, 'held', { state_schemas: { run: {}, 'state:notes': { type: 'object', required: ['text'] } } })
  })
  afterAll(async () => {
    await held.stop()
    await wire.stop()
  })

  /** Every call is refused with this status, and nothing has changed. */
  async function refused(calls: readonly unknown[], say: (body: unknown) => Promise<Answer>, status: number, code: string) {
    const before = await dispatchRows(wire)
    for (const body of calls) {
      const answer = await say(body)
      expect({ body, status: answer.status, answer: answer.body }).toMatchObject({ body, status, answer: { error: { code } } })
    }
    expect(await dispatchRows(wire)).toEqual(before)
  }

  it('has another epoch than every other one of its entity, and none goes back, whichever subscriptions they are of', async () => {
    const subscriber = new Subscriber(wire)
    const url = fresh()
    const epochs = [(await held.woken(url)).epoch]

    for (const ids of [['once'], ['once'], ['once', 'twice']]) {
      for (const id of ids) await subscriber.made(id, { type: 'pull-wake', wake_stream: `wakes/${id}`, pattern: `${url.slice(1)}/**` })
      expectStatus(200, await wire.send(url, { payload: 'more' }))
      const claimed = await Promise.all(ids.map(async (id) => (await subscriber.claimed(id, 'worker')).generation))
      expect(Math.min(...claimed)).toBeGreaterThan(Math.max(...epochs))
      epochs.push(...claimed)
      for (const id of ids) await subscriber.delete(id)
    }

    expect(new Set(epochs).size).toBe(epochs.length)
  })

  it('of somebody who stood where the subscription of a new entity belongs ends with it: nobody writes or is busy for it any more', async () => {
    const policy = { targets: [{ type: 'webhook', url: held.handler.url, subscription_id: 'own' }] } as const
    const url = fresh() as EntityUrl
    await wire.register(`plain-${streams}`)
    const plain = `/plain-${streams}/a`
    await wire.spawned(plain)
    await new Subscriber(wire).made(subscriptionOf(url, policy).id, {
      type: 'webhook',
      streams: [`${plain.slice(1)}/main`],
      webhook: { url: held.handler.url },
    })
    expectStatus(200, await wire.send(plain, { payload: 'first' }))
    const wake = await held.wake(plain)
    const writeToken = held.tokenIn(await held.claim(wake))
    expect(await wire.statusOf(plain)).toBe('running')

    await wire.spawned(url, { dispatch_policy: policy, initialMessage: 'first' })

    expect(await held.append(plain, [note('late')], writeToken)).toMatchObject({ status: 401, body: invalidToken })
    expect(await held.heartbeat(wake)).toMatchObject({ status: 409, body: fenced })
    expect(await wire.statusOf(plain)).toBe('idle')
    expect(await wire.sql('SELECT status FROM consumer_claims WHERE consumer_id = $1', wake.wakeId)).toEqual([{ status: 'expired' }])
    expect(await wire.sql('SELECT active_consumer_id FROM entity_dispatch_state WHERE entity_url = $1', plain)).toEqual([
      { active_consumer_id: null },
    ])
    expect((await held.wake(url)).entity.url).toBe(url)
  })

  describe('its id alone is worth nothing:', () => {
    let wake: Wake
    let other: Wake
    beforeAll(async () => {
      wake = await held.woken(fresh())
      other = await held.woken(fresh())
    })

    const forgeries: readonly { readonly what: string; readonly headers: () => Readonly<Record<string, string>> }[] = [
      { what: 'no token', headers: () => ({}) },
      { what: 'an empty token', headers: () => ({ authorization: 'Bearer ', 'electric-claim-token': ' ' }) },
      { what: 'the wake id as a token', headers: () => bearer(wake.wakeId) },
      { what: 'the token of another subscription', headers: () => bearer(other.claimToken) },
      { what: 'a token with a changed name', headers: () => bearer(`${other.claimToken.split('.')[0]}.${wake.claimToken.split('.')[1]}`) },
      { what: 'a token cut short', headers: () => bearer(wake.claimToken.slice(0, -2)) },
      { what: 'a wrong token before a right one', headers: () => ({ ...bearer(wake.claimToken), 'electric-claim-token': 'x' }) },
    ]
    it.each(forgeries)('$what is refused with 401', async ({ headers }) => {
      await refused(callsOf(wake), (body) => held.say(wake, body, headers()), 401, 'TOKEN_INVALID')
    })

    it('an unknown wake is 404, whatever token comes with it', async () => {
      const unknown = { wakeId: 'w_000000000000000000000000' }
      await refused(callsOf(wake), (body) => held.say(unknown, body, bearer(wake.claimToken)), 404, 'WAKE_CALLBACK_NOT_FOUND')
    })

    it('a body about another wake or generation is FENCED', async () => {
      const { epoch, wakeId } = wake
      const bodies = [
        { epoch: epoch + 1, wakeId },
        { epoch, wakeId: other.wakeId },
        { epoch: epoch + 1 },
        { generation: epoch - 1, done: true },
        { epoch, wakeId: other.wakeId, done: true },
      ]
      await refused(bodies, (body) => held.say(wake, body, bearer(wake.claimToken)), 409, 'FENCED')
    })

    it('the write token of a wake claims nothing, and its claim token writes nothing', async () => {
      const { wake: mine, writeToken } = await held.claimed(fresh())

      await refused(callsOf(mine), (body) => held.say(mine, body, bearer(writeToken)), 401, 'TOKEN_INVALID')
      await refused([[note('a')]], (body) => held.append(mine.entity.url, body, mine.claimToken), 401, 'UNAUTHORIZED')
    })
  })

  it('that is over is over: neither its token nor its late calls touch the next one', async () => {
    const { wake: first, writeToken: firstToken } = await held.claimed(fresh())
    const { url } = first.entity
    const read = await held.tailOf(url)
    expectStatus(200, await wire.send(url, { payload: 'second' }))
    expect((await held.done(first, read)).body).toEqual({ ok: true, next_wake: true })
    const second = await held.wake(url, 2)

    expect(second.epoch).toBe(first.epoch + 1)
    await refused(callsOf(first), (body) => held.say(first, body, bearer(first.claimToken)), 409, 'FENCED')
    await refused(callsOf(second), (body) => held.say(second, body, bearer(first.claimToken)), 401, 'TOKEN_INVALID')
    expect((await held.append(url, [note('late')], firstToken)).body).toEqual(invalidToken)
    const secondToken = held.tokenIn(await held.claim(second))
    expect((await held.append(url, [note('late')], firstToken)).body).toEqual(invalidToken)
    expect((await held.done(first)).body).toEqual(fenced)
    expect(await wire.statusOf(url)).toBe('running')
    expectStatus(204, await held.append(url, [note('in time')], secondToken))
    expect((await held.done(second)).body).toEqual({ ok: true, next_wake: false })
    expect(await wire.statusOf(url)).toBe('idle')
  })

  it('claimed again, through any replica, gives the same write token', async () => {
    const wake = await held.woken(fresh())

    const tokens = await Promise.all(
      [0, 1, 0, 1].map(async (nth) => held.tokenIn(await held.claim(wake, wake.claimToken, wire.house.urls[nth % wire.house.urls.length]))),
    )

    expect(new Set(tokens).size).toBe(1)
    expectStatus(204, await held.append(wake.entity.url, [note('a')], tokens[0] ?? ''))
    expect(await wire.sql(`SELECT status FROM consumer_claims WHERE wake_id = $1`, wake.wakeId)).toEqual([{ status: 'active' }])
  })

  it('claimed again by a run that was paused meanwhile goes on to its checkpoint', async () => {
    const { wake, writeToken } = await held.claimed(fresh())
    expectStatus(200, await wire.signal(wake.entity.url, { signal: 'SIGSTOP' }))

    expect(held.tokenIn(await held.claim(wake))).toBe(writeToken)
    expectStatus(204, await held.append(wake.entity.url, [note('last words')], writeToken))
    expectStatus(200, await held.done(wake))
    expect(await wire.statusOf(wake.entity.url)).toBe('paused')
  })

  it('done twice is FENCED the second time, and released once', async () => {
    const { wake } = await held.claimed(fresh())
    const tail = await held.tailOf(wake.entity.url)

    expect((await held.done(wake)).body).toEqual({ ok: true, next_wake: false })
    expect((await held.done(wake)).body).toEqual(fenced)
    expect(await wire.statusOf(wake.entity.url)).toBe('idle')
    expect(await wire.sql('SELECT status, acked_streams FROM consumer_claims WHERE wake_id = $1', wake.wakeId)).toEqual([
      { status: 'released', acked_streams: { [wake.streamPath]: tail } },
    ])
  })

  it('acknowledges nothing unless all of its acks are right', async () => {
    const { wake } = await held.claimed(fresh())
    const { streamPath: path } = wake
    const tail = await held.tailOf(wake.entity.url)
    const offsets = { before: '0000000000000000_0000000000000000', beyond: '0000000000000000_0000000000000999' }
    const good = { path, offset: tail }
    const wrong: readonly [object, string][] = [
      [{ path: '/held/nobody/main', offset: tail }, 'Ack references an unknown subscription stream'],
      [{ path, offset: '-1' }, 'Ack offset must not be -1'],
      [{ path, offset: offsets.before }, 'Ack offset regresses the committed cursor'],
      [{ path, offset: offsets.beyond }, 'Ack offset is beyond stream tail'],
    ]

    for (const [ack, message] of wrong)
      for (const done of [undefined, true]) {
        const before = await dispatchRows(wire)
        const answer = await held.heartbeat(wake, { acks: [good, ack], done })
        expect([answer.status, answer.body]).toEqual([409, refusal('INVALID_OFFSET', message)])
        expect(await dispatchRows(wire)).toEqual(before)
      }
    expectStatus(200, await held.heartbeat(wake, { acks: [{ stream: path.slice(1), offset: tail }, good] }))
    expect(await wire.sql('SELECT acked FROM subscription_links WHERE path = $1', path)).toEqual([{ acked: tail }])
  })

  it('that acknowledges the very offset it was sent acknowledges nothing: its work comes again', async () => {
    const { wake } = await held.claimed(fresh())
    const [{ offset } = { offset: '' }] = wake.streams

    expect((await held.done(wake, offset)).body).toEqual({ ok: true, next_wake: true })
    expect((await held.wake(wake.entity.url, 2)).streams).toEqual(wake.streams)
  })

  it('of a pattern, whose entity is killed meanwhile, ends with its done, and the next entity’s comes at once', async () => {
    const [type, id] = ['watched', 'watcher']
    await wire.register(type)
    const watches = { type: 'webhook', pattern: `${type}/**`, webhook: { url: held.handler.url } }
    expectStatus(201, await wire.ask('PUT', `/__ds/subscriptions/${id}`, watches))
    await wire.spawned(`/${type}/first`)
    const wake = await held.wake(`/${type}/first`)
    held.tokenIn(await held.claim(wake))
    expectStatus(200, await wire.kill(`/${type}/first`))
    await wire.spawned(`/${type}/second`)

    const other = await held.heartbeat(wake, { acks: [{ path: `/${type}/none/main`, offset: await held.tailOf(wake.entity.url) }] })
    expect([other.status, other.body]).toEqual([409, refusal('INVALID_OFFSET', 'Ack references an unknown subscription stream')])
    expect(expectStatus(200, await held.done(wake)).body).toEqual({ ok: true, next_wake: true })
    const next = await held.wake(`/${type}/second`)
    expect(next.epoch).toBe(wake.epoch + 1)
    expect(expectStatus(200, await held.done(next)).body).toEqual({ ok: true, next_wake: false })
    expectStatus(204, await wire.ask('DELETE', `/__ds/subscriptions/${id}`))
  })

  describe('its write token', () => {
    it('ends with done', async () => {
      const { wake, writeToken } = await held.claimed(fresh())
      await held.done(wake)

      expect((await held.append(wake.entity.url, [note('a')], writeToken)).body).toEqual(invalidToken)
    })

    it('ends with a kill, with 401', async () => {
      const { wake, writeToken } = await held.claimed(fresh())
      expectStatus(200, await wire.kill(wake.entity.url))

      expect((await held.append(wake.entity.url, [note('a')], writeToken)).body).toEqual(invalidToken)
      expect((await held.claim(wake)).body).toEqual(fenced)
      expect((await held.done(wake)).body).toEqual(fenced)
      expect(await wire.statusOf(wake.entity.url)).toBe('killed')
    })

    it('ends with the lease, and with the next claim', async () => {
      const { wake, writeToken } = await held.claimed(fresh())
      const { url } = wake.entity
      await held.endLease(wake)

      expect((await held.append(url, [note('a')], writeToken)).body).toEqual(invalidToken)
      const next = await held.wake(url, 2)
      const nextToken = held.tokenIn(await held.claim(next))
      expect((await held.append(url, [note('a')], writeToken)).body).toEqual(invalidToken)
      expectStatus(204, await held.append(url, [note('a')], nextToken))
      expect(await wire.sql('SELECT status FROM consumer_claims WHERE entity_url = $1 ORDER BY epoch', url)).toEqual([
        { status: 'expired' },
        { status: 'active' },
      ])
    })

    it('is the only one that writes: no token, a wrong one, another entity’s and the stored one do not', async () => {
      const url = fresh()
      const spawned = expectStatus(201, await wire.spawn(url, { initialMessage: 'first' }))
      const wake = await held.wake(url)
      const stored = spawned.headers.get('x-write-token') ?? 'none'
      const { writeToken: others } = await held.claimed(fresh())
      const append =
        (token: string, headers = {}) =>
        () =>
          held.append(url, [note('a')], token, headers)
      const bodies = [[note('a')]]
      for (const claims of [false, true]) {
        const right = claims ? held.tokenIn(await held.claim(wake)) : 'unclaimed'
        for (const token of ['', 'x', stored, others, right.toUpperCase(), wake.claimToken])
          await refused(bodies, append(token), 401, 'UNAUTHORIZED')
        await refused(bodies, append(right, { 'electric-claim-token': 'x' }), 401, 'UNAUTHORIZED')
        if (claims) expectStatus(204, await append('somebody', { 'electric-claim-token': right })())
      }
    })

    it('writes while its entity is paused or stopping, and not when it has stopped', async () => {
      const { wake, writeToken } = await held.claimed(fresh())
      const { url } = wake.entity
      for (const status of ['paused', 'stopping']) {
        await wire.putInto(status, url)
        expectStatus(204, await held.append(url, [note(status)], writeToken))
      }
      await wire.putInto('stopped', url)
      const producer = { 'producer-id': `entity-${url}`, 'producer-epoch': '1', 'producer-seq': '0' }
      const answer = await held.append(url, [note('stopped')], writeToken, producer)

      expect([answer.status, answer.body]).toEqual([409, refusal('NOT_RUNNING', 'Entity is stopped')])
      expect(answer.headers.get('producer-expected-seq')).toBe('0')
    })

    it('gets the answers of the stream layer as they are', async () => {
      const { wake, writeToken } = await held.claimed(fresh())
      const { url } = wake.entity
      const as = (epoch: number, seq: number, more: object = {}) =>
        held.append(url, [note(`${epoch}-${seq}`)], writeToken, {
          'producer-id': `entity-${url}`,
          'producer-epoch': String(epoch),
          'producer-seq': String(seq),
          ...more,
        })
      const shown = ({ status, headers }: Answer, ...names: string[]) => [status, ...names.map((name) => headers.get(name))]

      expect(shown(await as(1, 0), 'producer-epoch', 'producer-seq', 'stream-next-offset')).toEqual([200, '1', '0', await held.tailOf(url)])
      expect(shown(await as(1, 0), 'producer-epoch', 'producer-seq')).toEqual([204, '1', '0'])
      expect(shown(await as(1, 5), 'producer-expected-seq', 'producer-received-seq')).toEqual([409, '1', '5'])
      expect(shown(await as(0, 0), 'producer-epoch')).toEqual([403, '1'])
      expect(shown(await as(1, 1, { 'content-type': 'text/plain' }), 'producer-expected-seq')).toEqual([409, '1'])
      expect(shown(await held.append(url, [], writeToken))).toEqual([400])
      expect(shown(await held.append(url, '[nope', writeToken))).toEqual([400])
      expect(shown(await held.append(url, '', writeToken))).toEqual([400])
      expect((await held.append(url, '', 'wrong')).body).toEqual(invalidToken) // the token comes first (spec/03 §8.2)
      expect((await held.append(url, [note('x')], 'wrong', { 'producer-id': 'alone' })).body).toEqual(invalidToken)
      expect((await wire.events(url)).filter(({ type }) => type === 'state:notes').map(({ key }) => key)).toEqual(['1-0'])
    })

    it('brings events through the gate of the type, all or none', async () => {
      const { wake, writeToken } = await held.claimed(fresh())
      const { url } = wake.entity
      const before = await wire.events(url)
      const bad = { ...note('b'), value: { words: 'no text' } }
      const attempt = async (events: unknown, token = writeToken) => {
        const { status, body } = await held.append(url, events, token)
        return [status, (body as { error?: { code: string; message: string } }).error?.code]
      }

      expect(await attempt([note('a'), bad])).toEqual([422, 'SCHEMA_VALIDATION_FAILED'])
      expect(await attempt([note('a'), { ...note('c'), type: 'unheard' }])).toEqual([422, 'UNKNOWN_EVENT_TYPE'])
      expect(await attempt(`\u{feff}${JSON.stringify([bad])}`)).toEqual([422, 'SCHEMA_VALIDATION_FAILED']) // a byte order mark is stored with nothing
      expect(await attempt([bad], 'wrong')).toEqual([401, 'UNAUTHORIZED'])
      expect(await attempt({ ...bad, headers: { operation: 'delete' }, old_value: { words: 1 } })).toEqual([
        422,
        'SCHEMA_VALIDATION_FAILED',
      ])
      expect(await wire.events(url)).toEqual(before)
      expectStatus(204, await held.append(url, { ...bad, value: undefined, headers: { operation: 'delete' } }, writeToken))
    })

    it('brings many megabytes through the gate in slices, as if at once, and draws rows from all of them', async () => {
      const { wake, writeToken } = await held.claimed(fresh())
      const { url } = wake.entity
      const many = Array.from({ length: 3_000 }, (_, index) => ({ ...note(`n${index}`), value: { text: 'x'.repeat(400) } }))
      const run = (key: string) => ({ type: 'run', key, value: { status: 'started' }, headers: { operation: 'insert' } })
      const bad = { ...note('b'), value: { words: 'no text' } }
      const status = async (body: unknown) => (await held.append(url, body, writeToken)).status

      expect(await status([bad, ...many])).toBe(422)
      expect(await status([...many, bad])).toBe(422)
      expect(await status(`${JSON.stringify([bad, ...many]).slice(0, -1)},]`)).toBe(400) // no JSON has no events
      expect(await status([run('first'), ...many, run('last')])).toBe(204)
      const rows = async () => await wire.sql(`SELECT key FROM projections WHERE entity_url = $1 AND type = 'run' ORDER BY key`, url)
      await eventually(async () => (await rows()).length === 2)
      expect(await rows()).toEqual([{ key: 'first' }, { key: 'last' }])
    })

    it('lets its handler speak for the agent, and nobody else', async () => {
      const { wake, writeToken } = await held.claimed(fresh())
      const { writeToken: others } = await held.claimed(fresh())
      await wire.spawned(fresh())
      const target = `/held/e${entities}`
      const say = async (token: string) =>
        await wire.ask(
          'POST',
          `/_electric/entities${target}/send`,
          { payload: 'hi', from_agent: wake.entity.url },
          { headers: bearer(token) },
        )

      for (const token of [others, 'x', wake.claimToken]) expect((await say(token)).status).toBe(400)
      expectStatus(200, await say(writeToken))
      expect((await wire.events(target)).filter(({ type }) => type === 'inbox').map(({ value }) => value?.from_agent)).toEqual([
        wake.entity.url,
      ])
      await held.done(wake)
      expect((await say(writeToken)).status).toBe(400)
    })
  })

  it('acknowledged by several calls at once stands at the furthest of them', async () => {
    const { wake, writeToken } = await held.claimed(fresh())
    const { url } = wake.entity
    const tails: string[] = []
    for (let nth = 0; nth < 12; nth += 1) {
      const appended = expectStatus(204, await held.append(url, [note(`n${nth}`)], writeToken))
      tails.push(appended.headers.get('stream-next-offset') ?? '')
    }

    const at = wire.house.url
    const said = tails.map((offset) => ({ epoch: wake.epoch, acks: [{ path: wake.streamPath, offset }] }))
    const path = `/_electric/wake-callbacks/${wake.wakeId}`
    const answers = await Promise.all(
      said.map(async (body) => await wire.ask('POST', path, body, { headers: bearer(wake.claimToken), at })),
    )

    const taken = tails.filter((_, index) => answers[index]?.status === 200)
    expect(await wire.sql('SELECT acked FROM subscription_links WHERE path = $1', wake.streamPath)).toEqual([{ acked: taken.at(-1) }])
    expectStatus(200, await held.done(wake))
  })

  it('takes no text that a row cannot hold for an offset', async () => {
    const { wake } = await held.claimed(fresh())
    const acks = ['0000000000000000_0000000000000001\u0000', '0000000000000000_0000000000000001\ud800'].map((offset) => ({
      acks: [{ path: wake.streamPath, offset }],
    }))

    await refused(acks, (body) => held.say(wake, body, bearer(wake.claimToken)), 400, 'INVALID_REQUEST')
  })

  it('whatever is said about it is answered without a 5xx, and hurts nobody', async () => {
    const { wake, writeToken } = await held.claimed(fresh())
    const { url } = wake.entity
    const offset = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.constantFrom('0000000000000000_0000000000000001\u0000', '~', '-1', '\ud800'),
    )
    const ack = fc.oneof(fc.record({ path: fc.constantFrom(wake.streamPath, '', '/', '\u0000'), offset }), fc.jsonValue({ maxDepth: 1 }))
    const said = fc.record(
      {
        epoch: fc.oneof(fc.constant(wake.epoch), fc.double(), fc.jsonValue({ maxDepth: 1 })),
        acks: fc.oneof(fc.array(ack, { maxLength: 4 }), fc.jsonValue({ maxDepth: 1 })),
        wakeId: fc.oneof(fc.constant(wake.wakeId), fc.string({ unit: 'binary', maxLength: 30 })),
        done: fc.constantFrom(false, null, 'true', 1),
      },
      { requiredKeys: [] },
    )

    await neverFails(said, (body) => held.say(wake, body, bearer(wake.claimToken)))
    await neverFails(noObject, (body) => held.say(wake, body, bearer(wake.claimToken)))
    await neverFails(oddSegment, (segment) => wire.askRaw('POST', `/_electric/wake-callbacks/${segment}`, '{}'))
    await neverFails(
      fc.string({ unit: 'grapheme-ascii', maxLength: 300 }).map((text) => text.replaceAll(/[^!-~]/g, '')),
      (token) => held.say(wake, {}, bearer(token)),
    )
    if (streams === 'postgres') await neverFails(noObject, (body) => held.append(url, body, writeToken)) // the foreign test server chokes on nesting
    expectStatus(200, await held.done(wake))
    await eventually(async () => (await wire.statusOf(url)) === 'idle')
  })
})

describe('in production', () => {
  let wire: Wire
  let held: HandHeld
  beforeAll(async () => {
    const env = { NODE_ENV: 'production', ELECTRIC_INSECURE: undefined, ELECTRIC_AGENTS_OUTBOUND_PRIVATE: 'allow' }
    wire = await Wire.startBare({ env })
    const ann = 'user:ann'
    held = await HandHeld.start(wire, 'held', {}, ann)
    await wire.spawned('/held/p', { initialMessage: 'first' }, ann)
  })
  afterAll(async () => {
    await held.stop()
    await wire.stop()
  })

  it('callbacks and appends need their tokens and no principal; everything else needs one', async () => {
    expect((await wire.get('/held/p')).status).toBe(401)
    const wake = await eventually(() => held.wakesOf('/held/p')[0])

    expect((await held.say(wake, { epoch: wake.epoch, wakeId: wake.wakeId }, {})).body).toMatchObject({ error: { code: 'TOKEN_INVALID' } })
    const writeToken = held.tokenIn(await held.claim(wake))
    const appended = expectStatus(204, await held.append('/held/p', [note('a')], writeToken))
    expect((await held.append('/held/p', [note('a')], 'x')).body).toEqual(invalidToken)
    expectStatus(200, await held.heartbeat(wake))
    expectStatus(200, await held.done(wake, appended.headers.get('stream-next-offset') ?? ''))
    expect((await wire.get('/held/p', 'user:ann')).body).toMatchObject({ status: 'idle' })
  })
})
