/** Who may subscribe to what, and what a subscription never gives away: spec/06 §3, spec/12 §6.1. */
import fc from 'fast-check'
import { eventually } from '../support/eventually.js'
import { neverFails, noObject, oddSegment, refusesAll } from '../support/hostile.js'
import { Receiver } from '../support/receiver.js'
import { Subscriber } from '../support/subscriber.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { expectStatus, refusal, Wire } from '../support/wire.js'

const sam = 'user:sam'
const kim = 'user:kim'
const notAllowed = (what: string) => refusal('UNAUTHORIZED', `Principal is not allowed to ${what}`)

let wire: Wire
let subscriber: Subscriber
let receiver: Receiver
const webhook = (more: object) => ({ type: 'webhook', webhook: { url: receiver.url() }, ...more })

beforeAll(async () => {
  wire = await Wire.start()
  subscriber = new Subscriber(wire)
  receiver = await Receiver.start()
  await wire.register('mine', {}, sam)
})
afterAll(async () => {
  await receiver.stop()
  await wire.stop()
})
beforeEach(() => {
  receiver.answer = {}
})

describe('an ordinary principal', () => {
  it('subscribes to streams that it may read, and manages what it made; nobody else but a bypass principal does', async () => {
    await wire.spawned('/mine/read', {}, sam)
    const id = subscriber.fresh('own')
    const body = webhook({ streams: ['mine/read/main', 'plain/free'] })

    await subscriber.made(id, body, { as: sam })
    expect((await subscriber.put(id, body, { as: sam })).status).toBe(200)
    expect((await subscriber.ask('POST', `${id}/streams`, { streams: ['plain/more'] }, { as: sam })).status).toBe(204)

    for (const [method, below, sent] of [
      ['GET', id, undefined],
      ['PUT', id, webhook({ streams: ['plain/free'] })],
      ['POST', `${id}/streams`, { streams: ['plain/free'] }],
      ['DELETE', `${id}/streams/plain/free`, undefined],
      ['POST', `${id}/claim`, { worker: 'w' }],
      ['DELETE', id, undefined],
    ] as const) {
      const { status, body: said } = await subscriber.ask(method, below, sent, { as: kim })
      expect([method, below, status, said]).toEqual([method, below, 401, notAllowed(`manage subscription "${id}"`)])
    }
    expect((await subscriber.ask('GET', id)).status).toBe(200)
    expect((await subscriber.delete(id, { as: sam })).status).toBe(204)
    expect((await subscriber.ask('GET', id)).status).toBe(404)
  })

  it('gets neither patterns nor what it may not read, nor what is not there yet; and leaves no trace', async () => {
    await wire.spawned('/mine/secret', {}, sam)
    const refused: readonly (readonly [object, number, object])[] = [
      [webhook({ pattern: 'plain/**' }), 401, notAllowed('use patterns in subscription "try"')],
      [webhook({ streams: ['plain/a', 'mine/secret/main'] }), 401, notAllowed('read /mine/secret')],
      [webhook({ streams: ['mine/unborn/main'] }), 404, refusal('NOT_FOUND', 'Entity not found at /mine/unborn')],
      [webhook({ streams: ['m%69ne/secret/main'] }), 404, refusal('NOT_FOUND', 'Entity not found at /m%69ne/secret')],
      [webhook({ streams: ['mine//secret/main'] }), 400, refusal('INVALID_REQUEST', 'Stream paths must be sent in their plain form')],
      [webhook({ streams: ['mine/secret/attachments/a'] }), 401, notAllowed('read /mine/secret')],
      [webhook({ streams: ['_electric/shared-state/x'] }), 401, notAllowed('read shared state')],
      [webhook({ streams: ['runners/unborn/wake'] }), 404, refusal('NOT_FOUND', 'Runner not found')],
    ]

    for (const [body, status, said] of refused) {
      const answer = await subscriber.put('try', body, { as: kim })
      expect([body, answer.status, answer.body]).toEqual([body, status, said])
    }
    expect((await subscriber.ask('POST', 'try/streams', { streams: ['mine/secret/main'] }, { as: kim })).status).toBe(401)
    expect(await wire.sql(`SELECT id FROM subscriptions WHERE id = 'try'`)).toEqual([])
  })

  it('has no wakes announced on a stream that only the server, or a handler, writes', async () => {
    await wire.spawned('/mine/announced', {}, sam)
    for (const wake_stream of [
      'mine/announced/main',
      'runners/r1/wake',
      '_webhooks/a',
      '__ds/x',
      '_electric/shared-state/y',
      'v1/stream/__ds/x',
    ])
      expect((await subscriber.put('try', { type: 'pull-wake', streams: ['plain/a'], wake_stream }, { as: sam })).status).toBe(401)
    expect((await subscriber.put('try', { type: 'pull-wake', streams: ['plain/a'], wake_stream: 'mine/announced/main' })).status).toBe(401)
    expect(await wire.events('/mine/announced')).toHaveLength(1)
  })

  it('looks on: its wakes tell where the stream stands, give no right to write, and move no status', async () => {
    await wire.spawned('/mine/watched', {}, sam)
    const id = subscriber.fresh('observer')
    await subscriber.made(id, webhook({ streams: ['mine/watched/main'] }), { as: sam })

    await wire.send('/mine/watched', { payload: 'hello' }, sam)

    const [delivery] = await eventually(() => receiver.of(id).length > 0 && receiver.of(id))
    const { wake_id, generation, callback_token } = delivery?.body ?? ({} as never)
    expect(Object.keys(delivery?.body ?? {}).sort()).toEqual([
      'callback_token',
      'callback_url',
      'generation',
      'streams',
      'subscription_id',
      'wake_id',
    ])
    const claim = await wire.ask(
      'POST',
      `/_electric/wake-callbacks/${wake_id}`,
      { wakeId: wake_id, epoch: generation },
      {
        headers: { authorization: `Bearer ${callback_token}` },
      },
    )
    expect([claim.status, claim.body]).toEqual([200, { ok: true }])
    expect(await wire.statusOf('/mine/watched')).toBe('idle')
    expect(await wire.sql(`SELECT FROM write_tokens WHERE path = '/mine/watched/main'`)).toEqual([])
  })
})

describe('the subscription of an entity', () => {
  let handler: WebhookHandler
  let own: string
  beforeAll(async () => {
    handler = await WebhookHandler.start({ baseUrl: () => wire.url, handler: async () => undefined })
    await wire.spawned('/mine/served', { dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] } }, sam)
    own = String((await wire.sql(`SELECT id FROM subscriptions WHERE entity_url = '/mine/served'`))[0]?.id)
  })
  afterAll(async () => await handler.stop())

  it('is managed by nobody but bypass principals, and cannot be retargeted by a PUT', async () => {
    const theft = webhook({ streams: ['mine/served/main'] })
    for (const as of [sam, kim]) {
      expect((await subscriber.ask('GET', own, undefined, { as })).status).toBe(401)
      expect((await subscriber.delete(own, { as })).status).toBe(401)
      expect((await subscriber.put(own, webhook({ streams: ['plain/a'] }), { as })).status).toBe(401)
    }
    const { status, body } = await subscriber.put(own, theft)
    expect([status, body]).toEqual([
      409,
      refusal('SUBSCRIPTION_ALREADY_EXISTS', 'Subscription already exists with different configuration'),
    ])
    expect(await subscriber.get(own)).toMatchObject({
      id: own,
      type: 'webhook',
      streams: [{ path: 'mine/served/main', link_type: 'explicit' }],
    })
    expect(await wire.sql('SELECT webhook_url FROM subscriptions WHERE id = $1', own)).toEqual([{ webhook_url: handler.url }])
  })

  it('comes back with the next message after a bypass principal deleted it', async () => {
    expect((await subscriber.delete(own)).status).toBe(204)

    await wire.send('/mine/served', { payload: 'still there' }, sam)

    await eventually(() => handler.log.timesHandled('still there') === 1)
  })

  it('takes over an id that somebody else took before, without their streams', async () => {
    const scope = subscriber.fresh('scope')
    const policy = { targets: [{ type: 'webhook', url: handler.url, subscription_id: scope }] }
    await wire.spawned('/mine/first', { dispatch_policy: policy }, sam)
    const first = String((await wire.sql(`SELECT id FROM subscriptions WHERE entity_url = '/mine/first'`))[0]?.id)
    await subscriber.delete(first)
    await subscriber.made(first, webhook({ streams: ['plain/theirs'] }), { as: kim })

    await wire.send('/mine/first', { payload: 'mine' }, sam)

    await eventually(() => handler.log.timesHandled('mine') === 1)
    expect((await subscriber.get(first)).streams.map(({ path }) => path)).toEqual(['mine/first/main'])
    expect(receiver.of(first)).toEqual([])
  })

  it('has an id of a bearable length', async () => {
    const policy = { targets: [{ type: 'webhook', url: handler.url, subscription_id: 'é'.repeat(401) }] }
    expect((await wire.spawn('/mine/long', { dispatch_policy: policy }, sam)).status).toBe(400)
    const longest = { targets: [{ type: 'webhook', url: handler.url, subscription_id: 'é'.repeat(400) }] }
    const url = `/mine/${'x'.repeat(990)}`
    expectStatus(201, await wire.spawn(url, { dispatch_policy: longest, initialMessage: 'long' }, sam))
    await eventually(() => handler.log.timesHandled('long') === 1)
  })
})

describe('a deletion of a subscription whose wake is about an entity', () => {
  it('leaves the entity idle, and its handler without the right to write', async () => {
    await wire.spawned('/mine/freed', {}, sam)
    const id = subscriber.fresh('handler')
    await subscriber.made(id, webhook({ pattern: 'mine/freed/**' }))
    await wire.send('/mine/freed', { payload: 'x' }, sam)
    await eventually(async () => (await wire.statusOf('/mine/freed')) === 'running' && receiver.of(id).length === 1)
    await eventually(async () => (await wire.sql('SELECT FROM subscriptions WHERE id = $1 AND lease_until IS NOT NULL', id)).length === 1)
    const { wakeId, claimToken } = Object(receiver.of(id)[0]?.body) as { wakeId: string; claimToken: string }
    const token = { headers: { authorization: `Bearer ${claimToken}` } }
    const claimed = await wire.ask('POST', `/_electric/wake-callbacks/${wakeId}`, { wakeId }, token)
    const { writeToken } = expectStatus(200, claimed).body as { writeToken: string }

    await subscriber.delete(id)

    expect(await wire.statusOf('/mine/freed')).toBe('idle')
    const write = await wire.ask('POST', '/mine/freed/main', [{ type: 'x', key: 'k', headers: { operation: 'insert' } }], {
      headers: { authorization: `Bearer ${writeToken}`, 'content-type': 'application/json' },
    })
    expect(write.status).toBe(401)
    const done = await wire.ask('POST', `/_electric/wake-callbacks/${wakeId}`, { epoch: 1, done: true }, token)
    expect([done.status, (done.body as { error: { code: string } }).error.code]).toEqual([409, 'FENCED'])
    expect(await wire.statusOf('/mine/freed')).toBe('idle')
  })
})

describe('the two views', () => {
  it('do not show each other what they have, and share the names', async () => {
    const other = new Subscriber(wire, '/v1/stream')
    const id = subscriber.fresh('view')
    await subscriber.made(id, webhook({ streams: ['v1/stream/a'] }))

    expect((await other.ask('GET', id)).status).toBe(404)
    expect((await other.ask('POST', `${id}/streams`, { streams: ['a'] })).status).toBe(404)
    expect((await other.put(id, webhook({ streams: ['a'] }))).status).toBe(409)
    expect((await other.delete(id)).status).toBe(204)
    expect((await subscriber.get(id)).streams).toHaveLength(1)
  })

  it.each(['/v1/stream/__ds/x', '/__ds/x', '/v1/stream/__ds', '/v1/stream/%5F%5Fds/x', '/v1/x/../stream/__ds/x'])(
    'are no stream: %s',
    async (path) => {
      const { status } = await wire.askRaw('PUT', path)
      expect(status).toBeGreaterThanOrEqual(400)
      expect(status).toBeLessThan(500)
      expect(await wire.sql(`SELECT path FROM streams WHERE path LIKE '%ds%'`)).toEqual([])
    },
  )
})

describe('whatever is sent', () => {
  const anyBody = fc.record(
    {
      type: fc.oneof(fc.constantFrom('webhook', 'pull-wake'), fc.jsonValue()),
      pattern: fc.oneof(fc.string(), fc.constantFrom('**', '*/**/%2A', '/'), fc.jsonValue()),
      streams: fc.oneof(
        fc.array(fc.oneof(fc.string(), fc.constantFrom('a', '\0', '\ud800', '..', '?x', '__ds/x')), { maxLength: 4 }),
        fc.jsonValue(),
      ),
      webhook: fc.oneof(
        fc.record({ url: fc.oneof(fc.webUrl(), fc.string(), fc.constantFrom('http://127.0.0.1:1/', 'http://[::1', 'http://%00/')) }),
        fc.jsonValue(),
      ),
      wake_stream: fc.oneof(fc.string(), fc.constantFrom('wakes/w'), fc.jsonValue()),
      lease_ttl_ms: fc.oneof(fc.constantFrom(1_000, 600_000), fc.jsonValue()),
      description: fc.oneof(fc.string({ unit: 'binary' }), fc.jsonValue()),
    },
    { requiredKeys: [] },
  )
  const paths = ['/__ds/subscriptions', '/v1/stream/__ds/subscriptions'] as const
  const prefix = fc.constantFrom(...paths)
  const token = { headers: { authorization: 'Bearer dzo.x' } }

  afterEach(async () => {
    await wire.sql(`DELETE FROM subscriptions WHERE entity_url IS NULL`)
  })

  it('a PUT makes a subscription, confirms it, or is refused', async () => {
    await neverFails(
      fc.tuple(prefix, oddSegment, anyBody),
      async ([at, id, body]) => await wire.askRaw('PUT', `${at}/${id}`, JSON.stringify(body)),
      150,
    )
  })

  it('a body that is no object is refused', async () => {
    await refusesAll(wire, fc.tuple(prefix, noObject), async ([at, body]) => await wire.askRaw('PUT', `${at}/odd`, body))
    await refusesAll(wire, fc.tuple(prefix, noObject), async ([at, body]) => await wire.askRaw('POST', `${at}/odd/streams`, body), 40)
    await refusesAll(wire, fc.tuple(prefix, noObject), async ([at, body]) => await wire.askRaw('POST', `${at}/odd/claim`, body), 40)
  })

  it('odd ids and streams name nothing', async () => {
    const below = fc.constantFrom('', '/claim', '/streams/x', '/elsewhere')
    await neverFails(
      fc.tuple(prefix, fc.constantFrom('GET', 'DELETE', 'POST', 'PATCH'), oddSegment, below),
      async ([at, method, id, rest]) => {
        const path = `${at}/${id}${rest}`
        return await wire.askRaw(method, path, '{"worker":"w"}')
      },
    )
    await subscriber.made('known', webhook({ streams: ['plain/x'] }))
    await neverFails(
      fc.tuple(oddSegment, oddSegment),
      async ([one, other]) => await wire.askRaw('DELETE', `${paths[0]}/known/streams/${one}/${other}`),
    )
    expect((await subscriber.get('known')).streams).toHaveLength(1)
  })

  it('what holders say is heard, or refused', async () => {
    await subscriber.stream('plain/heard')
    await subscriber.made('heard', { type: 'pull-wake', streams: ['plain/heard'], wake_stream: 'wakes/heard' })
    await subscriber.append('plain/heard', {})
    const claimed = await subscriber.claimed('heard', 'w')
    const said = fc.record(
      {
        wake_id: fc.oneof(fc.constant(claimed.wake_id), fc.jsonValue()),
        generation: fc.oneof(fc.constant(claimed.generation), fc.jsonValue()),
        acks: fc.oneof(
          fc.array(
            fc.record({
              stream: fc.oneof(fc.constant('plain/heard'), fc.string()),
              offset: fc.oneof(fc.string(), fc.constantFrom('~', '\0', '0000000000000000_0000000000000001\0', '\ud800', '-1')),
            }),
            { maxLength: 3 },
          ),
          fc.jsonValue(),
        ),
      },
      { requiredKeys: [] },
    )

    await neverFails(
      fc.tuple(fc.constantFrom('ack', 'callback'), said),
      async ([verb, body]) => await subscriber.say(verb as 'ack', 'heard', claimed.token, body),
      150,
    )
    await neverFails(
      fc.tuple(prefix, oddSegment),
      async ([at, id]) => await wire.ask('POST', `${at}/${id}/release`, '{}', token).catch(() => ({ status: 400 }) as never),
    )
  })
})
