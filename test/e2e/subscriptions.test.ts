/** The subscription API: spec/06 §3, on both of its views, against plain receivers and pull-wake workers. */
import { eventually } from '../support/eventually.js'
import { Receiver } from '../support/receiver.js'
import { Subscriber } from '../support/subscriber.js'
import { expectStatus, refusal, Wire } from '../support/wire.js'

const views = [
  ['postgres', ''],
  ['postgres', '/v1/stream'],
  ['http', ''],
] as const
const notFound = refusal('SUBSCRIPTION_NOT_FOUND', 'Subscription not found')
const fenced = refusal('FENCED', 'Wake generation is stale')

describe.each(views)('subscriptions with streams in %s, at "%s":', (streams, prefix) => {
  let subscriber: Subscriber
  let receiver: Receiver
  const webhook = (more: object, path?: string) => ({ type: 'webhook', webhook: { url: receiver.url(path) }, ...more })
  const pull = (more: object, wakeStream: string) => ({ type: 'pull-wake', wake_stream: wakeStream, ...more })

  beforeAll(async () => {
    subscriber = new Subscriber(await Wire.start({ streams }), prefix)
    receiver = await Receiver.start()
  })
  afterAll(async () => {
    await receiver.stop()
    await subscriber.wire.stop()
  })
  beforeEach(() => {
    receiver.answer = {}
  })

  it('one is made once, confirmed by its repetition, and refused under another configuration', async () => {
    const id = subscriber.fresh('sub')
    const body = { ...webhook({ pattern: 'none/**', streams: ['none/b', '/none/a/'] }), lease_ttl_ms: 5_000, description: 'd' }

    const made = await subscriber.put(id, body)
    const confirmed = await subscriber.put(id, { ...body, pattern: '/none/**/', streams: ['none/a', 'none/b', 'none/a'] })
    const other = await subscriber.put(id, { ...body, lease_ttl_ms: 5_001 })

    const zero = '0000000000000000_0000000000000000'
    expect(made.status).toBe(201)
    expect(made.headers.get('content-type')).toBe('application/json')
    expect(made.body).toEqual({
      id,
      subscription_id: id,
      type: 'webhook',
      pattern: 'none/**',
      streams: [
        { path: 'none/a', link_type: 'explicit', acked_offset: zero },
        { path: 'none/b', link_type: 'explicit', acked_offset: zero },
      ],
      webhook: {
        url: receiver.url(),
        signing: {
          alg: 'ed25519',
          kid: expect.stringMatching(/^ds_/),
          jwks_url: expect.stringMatching(new RegExp(`^http://127\\.0\\.0\\.1:\\d+${prefix}/__ds/jwks\\.json$`)),
        },
      },
      lease_ttl_ms: 5_000,
      description: 'd',
      created_at: expect.stringMatching(/^\d{4}-.*Z$/),
      status: 'active',
    })
    expect([confirmed.status, (confirmed.body as { created_at: string }).created_at]).toEqual([
      200,
      (made.body as { created_at: string }).created_at,
    ])
    expect([other.status, other.body]).toEqual([
      409,
      refusal('SUBSCRIPTION_ALREADY_EXISTS', 'Subscription already exists with different configuration'),
    ])
    expect(other.headers.get('content-type')).toBe('application/json')
  })

  it('deletion answers 204 whether or not there is one, and leaves nothing behind', async () => {
    const id = subscriber.fresh('a b/c')
    await subscriber.made(id, webhook({ streams: ['gone/a'] }))

    expect((await subscriber.delete(id)).status).toBe(204)
    expect((await subscriber.delete(id)).status).toBe(204)
    const found = await subscriber.ask('GET', encodeURIComponent(id))
    expect([found.status, found.body]).toEqual([404, notFound])
    expect(await subscriber.wire.sql('SELECT FROM subscription_links WHERE subscription_id = $1', id)).toEqual([])
  })

  it('what stood on a stream before is not replayed; what comes after wakes, and is acknowledged by a callback once', async () => {
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/after')]
    await subscriber.stream(path, { old: 1 }, { old: 2 })
    await subscriber.made(id, webhook({ streams: [path] }))
    const before = await subscriber.tailOf(path)
    expect(await subscriber.ackedOf(id, path)).toBe(before)

    const tail = await subscriber.append(path, { new: 1 })

    const [delivery] = await eventually(() => receiver.of(id).length > 0 && receiver.of(id))
    const { wake_id, generation, callback_token, callback_url, ...rest } = delivery?.body ?? ({} as never)
    expect(rest).toEqual({
      subscription_id: id,
      streams: [{ path, link_type: 'explicit', acked_offset: before, tail_offset: tail, has_pending: true }],
    })
    expect(new URL(callback_url).pathname).toBe(`${prefix}/__ds/subscriptions/${id}/callback`)
    const body = { wake_id, generation, acks: [{ stream: path, offset: tail }], done: true }
    const [first, second] = [
      await subscriber.say('callback', id, callback_token, body),
      await subscriber.say('callback', id, callback_token, body),
    ]
    expect([first.status, first.body, second.status, second.body]).toEqual([200, { ok: true, next_wake: false }, 409, fenced])
    expect(await subscriber.ackedOf(id, path)).toBe(tail)
  })

  it('another handler is called at once, whatever the former one has asked for; the same one is not', async () => {
    receiver.answer = { status: 503, headers: { 'retry-after': '600' } }
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/moved')]
    const waiting = async () =>
      await subscriber.wire.sql('SELECT due_at, failures FROM subscriptions WHERE id = $1 AND failures > 0 AND called_until IS NULL', id)
    await subscriber.stream(path)
    await subscriber.made(id, webhook({ streams: [path] }, '/former'))
    const tail = await subscriber.append(path, { a: 1 })
    await eventually(async () => (await waiting()).length === 1)
    const before = await waiting()
    receiver.answer = { body: { done: true } }

    expectStatus(200, await subscriber.put(id, webhook({ streams: [path] }, '/former')))
    expect(await waiting()).toEqual(before)
    expectStatus(200, await subscriber.put(id, webhook({ streams: [path] }, '/other')))

    await eventually(async () => (await subscriber.ackedOf(id, path)) === tail)
    expect(receiver.of(id).map((delivery) => delivery.path)).toEqual(['/former', '/other'])
  })

  it('a stream that is linked before it exists wakes with its first entry', async () => {
    receiver.answer = { body: { done: true } }
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/unborn')]
    await subscriber.made(id, webhook({ streams: [path] }))

    await subscriber.streamWith(path, { first: true })

    await eventually(async () => receiver.of(id).length === 1 && (await subscriber.ackedOf(id, path)) === (await subscriber.tailOf(path)))
  })

  it('the deletion of a stream that does not exist takes nothing from whoever waits for its name', async () => {
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/expected')]
    await subscriber.made(id, pull({ streams: [path] }, `wakes/${id}`))

    expect((await subscriber.deleteStream(path, { as: 'user:stranger' })).status).toBe(404)

    expect((await subscriber.get(id)).streams).toMatchObject([{ path, link_type: 'explicit' }])
    await subscriber.streamWith(path, { first: true })
    expect((await subscriber.claimed(id, 'worker')).streams).toMatchObject([{ path, has_pending: true }])
  })

  it('a deletion takes the links to its stream along; repeated, it takes those along that a lost one left', async () => {
    const [id, path, lost] = [subscriber.fresh('sub'), subscriber.fresh('plain/deleted'), subscriber.fresh('plain/lost')]
    for (const name of [path, lost]) await subscriber.streamWith(name, { first: true })
    await subscriber.made(id, pull({ streams: [path, lost] }, `wakes/${id}`))

    expect((await subscriber.deleteStream(path)).status).toBe(204)
    const { streamsUrl } = subscriber.wire.house
    if (streamsUrl !== undefined) await fetch(`${streamsUrl}/${lost}`, { method: 'DELETE' }) // by a process that died after it
    expect((await subscriber.deleteStream(lost)).status).toBe(streamsUrl === undefined ? 204 : 404)

    expect((await subscriber.get(id)).streams).toEqual([])
  })

  it('a stream that is made anew while it is deleted is linked as every stream that stands', async () => {
    const [id, folder] = [subscriber.fresh('sub'), subscriber.fresh('renewed')]
    await subscriber.made(id, pull({ pattern: `${folder}/*` }, `wakes/${id}`))
    const standing: string[] = []

    for (let nth = 0; nth < 60; nth += 1) {
      const path = `${folder}/${nth}`
      await subscriber.stream(path)
      const deleted = subscriber.deleteStream(path)
      const made = [subscriber.putStream(path)]
      for (let more = 0; more < 3; more += 1) {
        await new Promise((resolve) => setTimeout(resolve, 1))
        made.push(subscriber.putStream(path))
      }
      await Promise.all([deleted, ...made])
      if (await subscriber.stands(path)) standing.push(path)
    }

    expect((await subscriber.get(id)).streams.map(({ path }) => path)).toEqual(standing.sort())
    expect(standing).not.toEqual([])
  })

  it('a pattern links what is there at its tail, and what comes later from its beginning', async () => {
    receiver.answer = { body: { done: true } }
    const folder = subscriber.fresh('patterns')
    await subscriber.streamWith(`${folder}/old`, { old: true })
    const id = subscriber.fresh('sub')
    if (streams === 'http') await subscriber.made(`${id}-explicit`, webhook({ streams: [`${folder}/old`] })) // the registry hears of it (0013)
    await subscriber.made(id, webhook({ pattern: `${folder}/*` }))
    expect((await subscriber.get(id)).streams).toEqual([
      { path: `${folder}/old`, link_type: 'glob', acked_offset: await subscriber.tailOf(`${folder}/old`) },
    ])

    await subscriber.streamWith(`${folder}/new`, { first: true })

    const [delivery] = await eventually(() => receiver.of(id).length > 0 && receiver.of(id))
    expect(delivery?.body.streams).toContainEqual(expect.objectContaining({ path: `${folder}/new`, acked_offset: '-1', has_pending: true }))
    await eventually(async () => (await subscriber.ackedOf(id, `${folder}/new`)) === (await subscriber.tailOf(`${folder}/new`)))
    expect(receiver.of(id)).toHaveLength(1)
  })

  it('what a forked stream inherits wakes nobody, neither a pattern nor who linked its name before; what it is sent does', async () => {
    receiver.answer = { body: { done: true } }
    const folder = subscriber.fresh('forks')
    await subscriber.stream(`${folder}/source`, { old: 1 }, { old: 2 })
    const [pattern, explicit] = [subscriber.fresh('sub'), subscriber.fresh('sub')]
    await subscriber.made(pattern, webhook({ pattern: `${folder}/*` }))
    await subscriber.made(explicit, webhook({ streams: [`${folder}/fork`] }))

    await subscriber.forked(`${folder}/fork`, `${folder}/source`)

    const inherited = await subscriber.tailOf(`${folder}/fork`)
    for (const id of [pattern, explicit]) expect(await subscriber.ackedOf(id, `${folder}/fork`)).toBe(inherited)
    await subscriber.append(`${folder}/fork`, { new: 1 })

    const tail = await subscriber.tailOf(`${folder}/fork`)
    for (const id of [pattern, explicit]) {
      await eventually(async () => (await subscriber.ackedOf(id, `${folder}/fork`)) === tail)
      expect(receiver.of(id)).toHaveLength(1)
      expect(receiver.of(id)[0]?.body.streams).toContainEqual(
        expect.objectContaining({ path: `${folder}/fork`, acked_offset: inherited, tail_offset: tail }),
      )
    }
  })

  it('explicit links come and go, whatever the form of their names; what a pattern links stays', async () => {
    const folder = subscriber.fresh('links')
    const id = subscriber.fresh('sub')
    await subscriber.made(id, webhook({ pattern: `${folder}/*` }))
    await subscriber.stream(`${folder}/a`)

    expect(
      (await subscriber.ask('POST', `${id}/streams`, { streams: [`${folder}/a`, `${folder}/x/b`, `/${folder}/x/c%20c`] })).status,
    ).toBe(204)
    expect((await subscriber.get(id)).streams.map(({ path, link_type }) => [path, link_type])).toEqual([
      [`${folder}/a`, 'explicit'],
      [`${folder}/x/b`, 'explicit'],
      [`${folder}/x/c%20c`, 'explicit'],
    ])
    for (const name of [`${folder}/a`, encodeURIComponent(`${folder}/x/b`), `${folder}/x/c%20c`, `${folder}/x/none`])
      expect((await subscriber.ask('DELETE', `${id}/streams/${name}`)).status).toBe(204)

    expect((await subscriber.get(id)).streams.map(({ path, link_type }) => [path, link_type])).toEqual([[`${folder}/a`, 'glob']])
    expect((await subscriber.ask('POST', `${id}/streams`, { streams: [] })).status).toBe(204)
    const refused = await subscriber.ask('POST', `${id}/streams`, { streams: [''] })
    expect([refused.status, refused.body]).toEqual([400, refusal('INVALID_REQUEST', 'streams must be a non-empty string array')])
    expect((await subscriber.ask('POST', 'none/streams', { streams: ['a'] })).body).toEqual(notFound)
    expect((await subscriber.ask('DELETE', 'none/streams/a')).body).toEqual(notFound)
  })

  it('a link that is added again keeps its cursor', async () => {
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/kept')]
    await subscriber.stream(path)
    await subscriber.made(id, pull({ streams: [path] }, 'wakes/kept'))
    const before = await subscriber.ackedOf(id, path)
    await subscriber.append(path, { n: 1 })

    await subscriber.ask('POST', `${id}/streams`, { streams: [path] })

    expect(await subscriber.ackedOf(id, path)).toBe(before)
  })

  it('a webhook moves with a repeated PUT, and is called at its new place', async () => {
    receiver.answer = { body: { done: true } }
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/moved')]
    await subscriber.made(id, webhook({ streams: [path] }, '/one'))

    expect((await subscriber.put(id, webhook({ streams: [path] }, '/two'))).status).toBe(200)
    await subscriber.streamWith(path, {})

    await eventually(() => receiver.of(id).length > 0)
    expect(receiver.of(id).map((delivery) => delivery.path)).toEqual(['/two'])
  })

  it('a webhook that answers done acknowledges what it was shown', async () => {
    let answerNow = () => undefined as unknown
    const until = new Promise((resolve) => {
      answerNow = () => resolve(undefined) as unknown
    })
    receiver.answer = { body: { done: true }, until }
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/sync')]
    await subscriber.stream(path)
    await subscriber.made(id, webhook({ streams: [path] }))
    const shown = await subscriber.append(path, { n: 1 })
    await eventually(() => receiver.of(id).length === 1)
    const later = await subscriber.append(path, { n: 2 })

    answerNow()

    await eventually(() => receiver.of(id).length === 2)
    expect(receiver.of(id)[1]?.body).toMatchObject({ generation: 2, streams: [{ acked_offset: shown, tail_offset: later }] })
    await eventually(async () => (await subscriber.ackedOf(id, path)) === later)
  })

  it('a webhook that answers done ends its wake, also where a stream that it was shown has left meanwhile', async () => {
    let answerNow = () => undefined as unknown
    const until = new Promise((resolve) => {
      answerNow = () => resolve(undefined) as unknown
    })
    receiver.answer = { body: { done: true }, until }
    const [id, stays, leaves] = [subscriber.fresh('sub'), subscriber.fresh('plain/stays'), subscriber.fresh('plain/leaves')]
    for (const path of [stays, leaves]) await subscriber.stream(path)
    await subscriber.made(id, webhook({ streams: [stays, leaves] }))
    for (const path of [leaves, stays]) await subscriber.append(path, {})
    await eventually(() => receiver.of(id).length === 1)

    expect((await subscriber.ask('DELETE', `${id}/streams/${encodeURIComponent(leaves)}`)).status).toBe(204)
    const later = await subscriber.append(stays, {})
    answerNow()

    await eventually(async () => (await subscriber.ackedOf(id, stays)) === later)
    expect(receiver.of(id).map(({ body }) => body.generation)).toEqual([1, 2])
  })

  it('a webhook that fails is shown as failed until it is well', async () => {
    receiver.answer = { status: 500 }
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/failing')]
    await subscriber.stream(path)
    await subscriber.made(id, webhook({ streams: [path] }))
    await subscriber.append(path, {})
    await eventually(async () => (await subscriber.get(id)).status === 'failed')

    receiver.answer = { body: { done: true } }

    await eventually(
      async () =>
        (await subscriber.get(id)).status === 'active' && (await subscriber.ackedOf(id, path)) === (await subscriber.tailOf(path)),
    )
    expect(new Set(receiver.of(id).map(({ body }) => body.wake_id)).size).toBe(1)
  })

  it('a pull-wake is announced, claimed by one, acknowledged, and released to the next', async () => {
    const [id, path, wakes] = [subscriber.fresh('pull'), subscriber.fresh('plain/pulled'), subscriber.fresh('wakes/pulled')]
    await subscriber.stream(path)
    const made = await subscriber.made(id, pull({ streams: [path] }, `/${wakes}`))
    expect(made).toMatchObject({ type: 'pull-wake', wake_stream: wakes })
    const tail = await subscriber.append(path, { n: 1 })
    await eventually(async () => (await subscriber.wire.ask('HEAD', `${prefix}/${wakes}`)).status === 200)
    const [event] = await eventually(async () => (await subscriber.entries(wakes)).length > 0 && (await subscriber.entries(wakes)))
    expect(event).toEqual({ type: 'wake', subscription_id: id, stream: path, generation: 1, ts: expect.any(Number) })

    const first = await subscriber.claim(id, 'worker-1')
    const busy = await subscriber.claim(id, 'worker-2')
    const { token, wake_id } = first.body as { token: string; wake_id: string }

    expect(first.body).toEqual({
      wake_id: expect.stringMatching(/^w_[0-9a-f]{24}$/),
      generation: 1,
      token: expect.any(String),
      lease_ttl_ms: 30_000,
      streams: [{ path, link_type: 'explicit', acked_offset: expect.any(String), tail_offset: tail, has_pending: true }],
    })
    expect([busy.status, busy.text]).toEqual([409, '{"error":{"code":"ALREADY_CLAIMED","current_holder":"worker-1","generation":1}}'])
    const alive = await subscriber.say('ack', id, token, { wake_id, generation: 1 })
    const acked = await subscriber.say('ack', id, token, { wake_id, generation: 1, acks: [{ path: `/${path}`, offset: tail }], done: true })
    expect([alive.body, acked.body]).toEqual([
      { ok: true, next_wake: false },
      { ok: true, next_wake: false },
    ])
    const idle = await subscriber.claim(id, 'worker-2')
    expect([idle.status, idle.body]).toEqual([409, refusal('NO_PENDING_WORK', 'Subscription has no pending work')])

    await subscriber.append(path, { n: 2 })
    const second = await subscriber.claimed(id, 'worker-1') // whether or not it was announced by now
    const released = await subscriber.say('release', id, second.token, { wake_id: second.wake_id, generation: second.generation })
    const third = await subscriber.claimed(id, 'worker-2')

    expect([second.generation, released.status, released.text, third.generation]).toEqual([2, 204, '', 3])
    expect((await subscriber.say('ack', id, second.token, { wake_id: second.wake_id, generation: 2, done: true })).body).toEqual(fenced)
  })

  it('acknowledgements are all taken or none, and never beyond what is there', async () => {
    const [id, path] = [subscriber.fresh('pull'), subscriber.fresh('plain/acks')]
    await subscriber.stream(path, { n: 0 })
    await subscriber.made(id, pull({ streams: [path] }, 'wakes/acks'))
    const before = await subscriber.ackedOf(id, path)
    const tail = await subscriber.append(path, { n: 1 })
    const { token, wake_id, generation } = await subscriber.claimed(id, 'w')
    const beyond = '9999999999999999_9999999999999999'
    const zero = '0000000000000000_0000000000000000'

    const refusals: readonly (readonly [object, string])[] = [
      [{ stream: 'plain/other', offset: tail }, 'Ack references an unknown subscription stream'],
      [{ offset: tail }, 'Ack references an unknown subscription stream'],
      [{ stream: path, offset: '-1' }, 'Ack offset must not be -1'],
      [{ stream: path, offset: zero }, 'Ack offset regresses the committed cursor'],
      [{ stream: path, offset: beyond }, 'Ack offset is beyond stream tail'],
      [{ stream: path, offset: '' }, 'Ack offset is malformed'],
      [{ stream: path, offset: `${tail}x` }, 'Ack offset is malformed'],
    ]
    for (const [ack, message] of refusals) {
      const answer = await subscriber.say('ack', id, token, {
        wake_id,
        generation,
        acks: [{ stream: path, offset: tail }, ack],
        done: true,
      })
      expect([answer.status, answer.body]).toEqual([409, refusal('INVALID_OFFSET', message)])
    }

    expect(await subscriber.ackedOf(id, path)).toBe(before)
    expect((await subscriber.say('ack', id, token, { wake_id, generation, acks: [{ path, offset: before }] })).status).toBe(200)
  })

  it('the token alone says who speaks, and of which wake', async () => {
    const [id, other, path] = [subscriber.fresh('pull'), subscriber.fresh('pull'), subscriber.fresh('plain/tokens')]
    await subscriber.stream(path)
    for (const one of [id, other]) await subscriber.made(one, pull({ streams: [path] }, 'wakes/tokens'))
    const hook = subscriber.fresh('hook')
    await subscriber.made(hook, webhook({ streams: ['plain/nothing'] }))
    await subscriber.append(path, {})
    const { token, wake_id, generation } = await subscriber.claimed(id, 'w')
    const { token: foreign } = await subscriber.claimed(other, 'w')
    const body = { wake_id, generation, done: true }
    const outcome = async (...asked: Parameters<Subscriber['say']>) => {
      const { status, body: said } = await subscriber.say(...asked)
      return [status, (said as { error: { message: string } }).error.message]
    }

    expect(await outcome('ack', 'none', token, body)).toEqual([404, 'Subscription not found'])
    expect(await outcome('ack', hook, token, body)).toEqual([400, 'Subscription is not pull-wake'])
    expect(await outcome('release', hook, token, body)).toEqual([400, 'Subscription is not pull-wake'])
    expect(await outcome('ack', id, 'forged', body)).toEqual([401, 'Token invalid'])
    expect(await outcome('ack', id, foreign, body)).toEqual([401, 'Token invalid'])
    expect(await outcome('ack', id, token, { ...body, generation: generation + 1 })).toEqual([409, 'Wake generation is stale'])
    expect(await outcome('ack', id, token, { ...body, wake_id: 'w_000000000000000000000000' })).toEqual([409, 'Wake generation is stale'])
    expect(await outcome('release', id, token, {})).toEqual([409, 'Wake generation is stale'])
    expect((await subscriber.say('callback', id, token, body)).status).toBe(200)
  })

  it.each<{ readonly what: string; readonly headers: Readonly<Record<string, string>> }>([
    { what: 'missing', headers: {} },
    { what: 'of another scheme', headers: { authorization: 'Basic abc' } },
    { what: 'without a scheme', headers: { authorization: 'abc' } },
    { what: 'without a token', headers: { authorization: 'Bearer ' } },
    { what: 'of a scheme that only begins alike', headers: { authorization: 'Bearerabc', 'electric-claim-token': ' ' } },
  ])('an Authorization header that is $what is refused before the subscription is looked up', async ({ headers }) => {
    const id = subscriber.fresh('pull')
    await subscriber.made(id, pull({ streams: ['plain/headers'] }, 'wakes/headers'))

    for (const at of [id, 'none'])
      for (const verb of ['callback', 'ack', 'release']) {
        const { status, body } = await subscriber.ask('POST', `${at}/${verb}`, {}, { headers })
        expect([at, verb, status, body]).toEqual([at, verb, 401, refusal('TOKEN_INVALID', 'Missing or malformed Authorization header')])
      }
    const headed = await subscriber.ask('POST', 'none/ack', {}, { headers: { ...headers, 'electric-claim-token': 'x' } })
    expect([headed.status, headed.body]).toEqual([404, notFound])
  })

  it('a worker whose lease has ended is fenced by the next one, not joined', async () => {
    const [id, path] = [subscriber.fresh('pull'), subscriber.fresh('plain/lapsed')]
    await subscriber.stream(path)
    await subscriber.made(id, { ...pull({ streams: [path] }, 'wakes/lapsed'), lease_ttl_ms: 1_000 })
    await subscriber.append(path, {})
    const dead = await subscriber.claimed(id, 'dead')

    const next = await eventually(async () => {
      const { status, body } = await subscriber.claim(id, 'next')
      return status === 200 && (body as { generation: number; token: string })
    })

    expect(next.generation).toBeGreaterThan(dead.generation)
    expect(next.token).not.toBe(dead.token)
    expect((await subscriber.say('ack', id, dead.token, { wake_id: dead.wake_id, generation: dead.generation })).body).toEqual(fenced)
  })

  it('a deletion ends the wake in flight: what is said of it later changes nothing', async () => {
    let answerNow = () => undefined as unknown
    const until = new Promise((resolve) => {
      answerNow = () => resolve(undefined) as unknown
    })
    receiver.answer = { body: { done: true }, until }
    const [id, path] = [subscriber.fresh('sub'), subscriber.fresh('plain/deleted')]
    await subscriber.stream(path)
    await subscriber.made(id, webhook({ streams: [path] }))
    await subscriber.append(path, {})
    const [delivery] = await eventually(() => receiver.of(id).length > 0 && receiver.of(id))

    await subscriber.delete(id)
    const late = await subscriber.say('callback', id, delivery?.body.callback_token ?? '', {})
    expect([late.status, late.body]).toEqual([404, notFound])
    await subscriber.made(id, webhook({ streams: [path] }))
    const before = await subscriber.get(id)
    answerNow()
    const resaid = await subscriber.say('callback', id, delivery?.body.callback_token ?? '', {
      wake_id: delivery?.body.wake_id,
      generation: delivery?.body.generation,
      done: true,
    })

    expect([resaid.status, resaid.body]).toEqual([409, fenced])
    expect(await subscriber.get(id)).toEqual(before)
  })

  it('no wake is lost between a link that is made and an append at the same moment', async () => {
    receiver.answer = { body: { done: true } }
    const rounds = Array.from({ length: streams === 'http' ? 8 : 25 }, () => ({
      id: subscriber.fresh('race'),
      path: subscriber.fresh('plain/race'),
      unborn: subscriber.fresh('plain/unborn-race'),
    }))

    await Promise.all(
      rounds.map(async ({ id, path, unborn }) => {
        await subscriber.stream(path, { n: 0 })
        await Promise.all([
          subscriber.made(id, webhook({ streams: [path, unborn] })),
          subscriber.append(path, { n: 1 }),
          subscriber.streamWith(unborn, { n: 1 }),
        ])
      }),
    )

    for (const { id, path, unborn } of rounds)
      for (const one of [path, unborn]) await eventually(async () => (await subscriber.ackedOf(id, one)) === (await subscriber.tailOf(one)))
  })

  it('many who make the same subscription at once make one', async () => {
    const id = subscriber.fresh('sub')
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => subscriber.put(id, webhook({ pattern: 'at-once/**', streams: ['at-once/a'] }))),
    )

    expect(answers.map(({ status }) => status).sort()).toEqual([...Array.from({ length: 11 }, () => 200), 201])
  })

  it('other control routes and methods are refused', async () => {
    const elsewhere = await subscriber.wire.ask('GET', `${prefix}/__ds/elsewhere`)
    expect([elsewhere.status, elsewhere.body]).toEqual([404, refusal('SUBSCRIPTION_NOT_FOUND', 'Durable Streams control route not found')])
    for (const below of [
      '',
      '/subscriptions',
      '/subscriptions/',
      '/subscriptions/x/elsewhere',
      '/subscriptions/x/claim/y',
      '/subscriptions//claim',
    ])
      expect((await subscriber.wire.ask('POST', `${prefix}/__ds${below}`, {})).status).toBe(404)
    for (const [method, below] of [
      ['POST', 'x'],
      ['GET', 'x/claim'],
      ['PUT', 'x/ack'],
      ['DELETE', 'x/streams'],
      ['GET', 'x/streams/a/b'],
    ] as const) {
      const wrong = await subscriber.ask(method, below)
      expect([wrong.status, wrong.headers.get('content-type'), wrong.text]).toEqual([405, 'text/plain', 'Method not allowed'])
    }
  })

  it('URLs that lead nowhere good are refused, and nothing is kept of them', async () => {
    const id = subscriber.fresh('sub')
    for (const url of ['http://10.0.0.1/x', 'https://192.168.1.1/x', 'https://localhost/x', 'ftp://x.example/', 'nonsense']) {
      const { status, body } = await subscriber.put(id, { type: 'webhook', streams: ['a'], webhook: { url } })
      expect([url, status, (body as { error: { code: string } }).error.code]).toEqual([url, 400, 'WEBHOOK_URL_REJECTED'])
    }
    expect((await subscriber.ask('GET', id)).status).toBe(404)
  })

  if (prefix !== '') return // the rest is about entities, whose streams are not below /v1/stream

  it.each(['SIGSTOP', 'SIGKILL'])('a webhook whose wake meets an entity after %s is told of the others', async (signal) => {
    receiver.answer = { status: 500 }
    const [id, type] = [subscriber.fresh('sub'), subscriber.fresh('kind')]
    await subscriber.wire.register(type)
    await subscriber.made(id, webhook({ pattern: `${type}/**` }))
    await subscriber.wire.spawned(`/${type}/one`)
    await eventually(() => receiver.of(id).length === 1)

    expectStatus(200, await subscriber.wire.signal(`/${type}/one`, { signal }))
    receiver.answer = { body: { done: true } }
    await subscriber.wire.spawned(`/${type}/two`)

    await eventually(async () => (await subscriber.ackedOf(id, `${type}/two/main`)) === (await subscriber.tailOf(`${type}/two/main`)))
  })

  it.each(['SIGSTOP', 'SIGKILL'])('a pull-wake about an entity after %s is not handed out: the next one is', async (signal) => {
    const [id, type, wakes] = [subscriber.fresh('pull'), subscriber.fresh('kind'), subscriber.fresh('wakes/held')]
    await subscriber.wire.register(type)
    await subscriber.made(id, pull({ pattern: `${type}/**` }, `/${wakes}`))
    await subscriber.wire.spawned(`/${type}/one`)
    expectStatus(200, await subscriber.wire.signal(`/${type}/one`, { signal }))
    await subscriber.wire.spawned(`/${type}/two`)

    const claimed = await subscriber.claimed(id, 'worker-1')

    expect(claimed.generation).toBe(2)
    expect(await subscriber.wire.statusOf(`/${type}/two`)).toBe('running')
    expect(await subscriber.wire.statusOf(`/${type}/one`)).toBe(signal === 'SIGSTOP' ? 'paused' : 'killed')
  })
})
