/** Wakes that were given up: who sees them, and what becomes of them. */
import fc from 'fast-check'
import { eventually } from '../support/eventually.js'
import { neverFails, oddSegment } from '../support/hostile.js'
import { Receiver } from '../support/receiver.js'
import { Subscriber } from '../support/subscriber.js'
import { type Answer, expectStatus, refusal, Wire } from '../support/wire.js'

const [sam, kim] = ['user:sam', 'user:kim']
const notDead = refusal('NOT_FOUND', 'No dead letter has this wake id')

interface Letter {
  readonly wake_id: string
  readonly subscription_id: string
}

describe.each(['postgres', 'http'] as const)('a dead letter, streams: %s,', (streams) => {
  let wire: Wire
  let subscriber: Subscriber
  let receiver: Receiver

  beforeAll(async () => {
    wire = await Wire.start({ streams, env: { ELECTRIC_AGENTS_MAX_DELIVERY_ATTEMPTS: '1', ELECTRIC_AGENTS_MAX_LOST_LEASES: '1' } })
    subscriber = new Subscriber(wire)
    receiver = await Receiver.start()
    await wire.register('mine', {}, sam)
  })
  afterAll(async () => {
    await receiver.stop()
    await wire.stop()
  })
  beforeEach(() => {
    receiver.answer = { status: 500 }
  })

  const list = async (as?: string, query = ''): Promise<readonly Letter[]> =>
    expectStatus(200, await wire.ask('GET', `/_electric/dead-letters${query}`, undefined, as === undefined ? {} : { as })).body as Letter[]
  const letterOf = async (id: string): Promise<Letter> =>
    await eventually(async () => (await list()).find(({ subscription_id }) => subscription_id === id))
  const redeliver = async (wakeId: string, as?: string): Promise<Answer> =>
    await wire.ask('POST', `/_electric/dead-letters/${wakeId}/redeliver`, undefined, as === undefined ? {} : { as })
  const forget = async (wakeId: string, as?: string): Promise<Answer> =>
    await wire.ask('DELETE', `/_electric/dead-letters/${wakeId}`, undefined, as === undefined ? {} : { as })

  /** A subscription of `as` whose only delivery has failed. */
  async function dead(as?: string): Promise<{ readonly id: string; readonly path: string; readonly letter: Letter }> {
    const [id, path] = [subscriber.fresh('dead'), subscriber.fresh('plain/dead')]
    await subscriber.stream(path)
    const body = { type: 'webhook', streams: [path], webhook: { url: receiver.url() } }
    await subscriber.made(id, body, as === undefined ? {} : { as })
    await subscriber.append(path, { n: 1 })
    return { id, path, letter: await letterOf(id) }
  }

  it('says what was given up, and why', async () => {
    const { id, path, letter } = await dead()

    expect(letter).toEqual({
      wake_id: expect.stringMatching(/^w_[0-9a-f]{24}$/),
      subscription_id: id,
      generation: 1,
      target: { type: 'webhook', url: receiver.url() },
      reason: 'the handler answered 500',
      attempts: 1,
      acked_before: { [`/${path}`]: '0000000000000000_0000000000000000' },
      created_at: expect.stringMatching(/Z$/),
      failed_at: expect.stringMatching(/Z$/),
    })
  })

  it('is delivered again once, with what was pending', async () => {
    const { id, path, letter } = await dead()
    receiver.answer = { body: { done: true } }

    const again = await redeliver(letter.wake_id)
    const twice = await redeliver(letter.wake_id)

    expect([again.status, again.body]).toEqual([200, { ok: true, wake_id: expect.stringMatching(/^w_/) }])
    expect([twice.status, twice.body]).toEqual([404, notDead])
    await eventually(async () => (await subscriber.ackedOf(id, path)) === (await subscriber.tailOf(path)))
    expect(receiver.of(id).map(({ body }) => body.generation)).toEqual([1, 2])
    expect(await list()).not.toContainEqual(expect.objectContaining({ wake_id: letter.wake_id }))
  })

  it('whose events were acknowledged for its sake sets the cursor back', async () => {
    receiver.answer = {} // takes the wake, and is never heard of again
    const [id, path] = [subscriber.fresh('dead'), subscriber.fresh('plain/lost')]
    await subscriber.stream(path)
    const before = await subscriber.tailOf(path)
    await subscriber.made(id, { type: 'webhook', streams: [path], webhook: { url: receiver.url() }, lease_ttl_ms: 1_000 })
    const tail = await subscriber.append(path, { n: 1 })
    const letter = await letterOf(id)
    expect(await subscriber.ackedOf(id, path)).toBe(tail)
    receiver.answer = { body: { done: true } }

    expectStatus(200, await redeliver(letter.wake_id))

    const [, second] = await eventually(() => receiver.of(id).length === 2 && receiver.of(id))
    expect(second?.body.streams).toEqual([{ path, link_type: 'explicit', acked_offset: before, tail_offset: tail, has_pending: true }])
    await eventually(async () => (await subscriber.ackedOf(id, path)) === tail)
  })

  it('waits while a wake of its subscription is in the hands of its handler', async () => {
    const { id, path, letter } = await dead()
    receiver.answer = {}
    await subscriber.append(path, { n: 2 })
    await eventually(async () => (await wire.sql('SELECT FROM subscriptions WHERE id = $1 AND lease_until IS NOT NULL', id)).length === 1)

    const busy = await redeliver(letter.wake_id)

    expect([busy.status, (busy.body as { error: { code: string } }).error.code]).toEqual([409, 'WAKE_UNDER_WAY'])
    expect((await list()).map(({ wake_id }) => wake_id)).toContain(letter.wake_id)
  })

  it('waits while a handler is being called about its subscription, which would acknowledge what is set back', async () => {
    const { id, path, letter } = await dead()
    let goOn = (): void => undefined
    const until = new Promise<void>((resolve) => {
      goOn = resolve
    })
    receiver.answer = { body: { done: true }, until }
    const tail = await subscriber.append(path, { n: 2 })
    await eventually(() => receiver.of(id).length === 2)

    const busy = await redeliver(letter.wake_id)
    goOn()
    await eventually(async () => (await subscriber.ackedOf(id, path)) === tail)

    expect([busy.status, (busy.body as { error: { code: string } }).error.code]).toEqual([409, 'WAKE_UNDER_WAY'])
    expect((await list()).map(({ wake_id }) => wake_id)).toContain(letter.wake_id)
  })

  it('can be forgotten, and then is none', async () => {
    const { id, letter } = await dead()

    expect((await forget(letter.wake_id)).status).toBe(204)

    for (const answer of [await forget(letter.wake_id), await redeliver(letter.wake_id)])
      expect([answer.status, answer.body]).toEqual([404, notDead])
    expect(receiver.of(id)).toHaveLength(1)
  })

  it('of a deleted subscription can only be forgotten', async () => {
    const { id, letter } = await dead()
    await subscriber.delete(id)

    expect((await redeliver(letter.wake_id)).status).toBe(404)
    expect((await forget(letter.wake_id)).status).toBe(204)
  })

  it('is seen and seen to by the owner of its entity, or of its subscription, and by nobody else', async () => {
    const policy = { targets: [{ type: 'webhook', url: receiver.url() }] }
    await wire.spawned('/mine/dead', { dispatch_policy: policy, initialMessage: 'x' }, sam)
    const own = String((await wire.sql(`SELECT id FROM subscriptions WHERE entity_url = '/mine/dead'`))[0]?.id)
    const ofEntity = await letterOf(own)
    expect(ofEntity).toMatchObject({ entity_url: '/mine/dead' })
    const { letter: ofSubscription } = await dead(sam)
    const { letter: ofNobody } = await dead()

    const seen = async (as: string) => (await list(as)).map(({ wake_id }) => wake_id)
    expect((await seen(sam)).sort()).toEqual([ofEntity.wake_id, ofSubscription.wake_id].sort())
    expect(await seen(kim)).toEqual([])
    for (const { wake_id } of [ofEntity, ofSubscription, ofNobody])
      for (const answer of [await redeliver(wake_id, kim), await forget(wake_id, kim)]) expect(answer.status).toBe(401)
    expect((await redeliver(ofNobody.wake_id, sam)).status).toBe(401)
    expect((await forget(ofEntity.wake_id, sam)).status).toBe(204)
    expect((await redeliver(ofSubscription.wake_id, sam)).status).toBe(200)
  })

  it('comes in pages, each letter once', async () => {
    for (let count = 0; count < 3; count += 1) await dead()
    const all = (await list()).map(({ wake_id }) => wake_id)

    const paged: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: Answer = expectStatus(
        200,
        await wire.ask('GET', `/_electric/dead-letters?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`),
      )
      paged.push(...(page.body as Letter[]).map(({ wake_id }) => wake_id))
      cursor = page.headers.get('electric-next-cursor')
    }

    expect(paged).toEqual(all)
    for (const limit of ['0', '1001', 'x']) expect((await wire.ask('GET', `/_electric/dead-letters?limit=${limit}`)).status).toBe(400)
  })

  it('has no odd name, and its list no odd cursor', async () => {
    const ways = fc.constantFrom(['DELETE', ''], ['POST', '/redeliver'])
    await neverFails(
      fc.tuple(ways, oddSegment),
      async ([[method, below], id]) => await wire.askRaw(String(method), `/_electric/dead-letters/${id}${below}`),
    )
    const position = fc.record({
      failed_us: fc.oneof(fc.maxSafeInteger(), fc.jsonValue()),
      wake_id: fc.oneof(fc.string(), fc.constantFrom('\0', '\ud800')),
    })
    const cursors = fc.oneof(
      fc.string(),
      position.map((value) => Buffer.from(JSON.stringify(value)).toString('base64url')),
    )
    await neverFails(
      cursors,
      async (cursor) => await wire.ask('GET', `/_electric/dead-letters?cursor=${encodeURIComponent(cursor.toWellFormed())}`),
    )
  })
})
