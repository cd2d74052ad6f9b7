import fc from 'fast-check'
import { neverFails, noObject, oddSegment, refusesAll } from '../support/hostile.js'
import { type Ask, expectStatus, refusal, Wire } from '../support/wire.js'

const tagPath = (url: string, key: string) => `/_electric/entities${url}/tags/${key}`
const invalid = (message: string, details?: unknown) => refusal('INVALID_REQUEST', message, details)
const times = <Result>(count: number, work: (index: number) => Promise<Result>) =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index)))

interface Changed {
  readonly tags: Readonly<Record<string, string>>
  readonly updated_at: number
  readonly txid?: number
}

class Tagger {
  readonly wire: Wire
  #fresh = 0

  constructor(wire: Wire) {
    this.wire = wire
  }

  /** Round robin over the replicas. */
  at(index: number): Ask {
    return { at: this.wire.house.urls[index % this.wire.house.urls.length] ?? this.wire.url }
  }

  /**
   * For writes to one stream at once: the foreign test server loses appends when two clients send them together (spec/14 §5, D1b), which
   * we report (test/streams/http/losses.test.ts); so they take one replica there, and all replicas where the streams are ours.
   */
  atOnce(index: number): Ask {
    return this.wire.house.streamsUrl !== undefined ? {} : this.at(index)
  }

  async freshEntity(body: object = {}): Promise<string> {
    this.#fresh += 1
    const url = `/chat/tagged-${this.#fresh}`
    await this.wire.spawned(url, body)
    return url
  }

  set = async (url: string, key: string, value: string, ask: Ask = {}) =>
    await this.wire.ask('POST', tagPath(url, encodeURIComponent(key)), { value }, ask)
  drop = async (url: string, key: string, ask: Ask = {}) =>
    await this.wire.ask('DELETE', tagPath(url, encodeURIComponent(key)), undefined, ask)

  async changed(...asked: Parameters<Tagger['set']>): Promise<Changed> {
    return expectStatus(200, await this.set(...asked)).body as Changed
  }

  async dropped(...asked: Parameters<Tagger['drop']>): Promise<Changed> {
    return expectStatus(200, await this.drop(...asked)).body as Changed
  }

  async tagsOf(url: string): Promise<unknown> {
    return ((await this.wire.get(url)).body as Changed).tags
  }

  async tagEvents(url: string) {
    return (await this.wire.events(url)).filter(({ type }) => type === 'tags')
  }
}

/** What a reader of the stream believes. */
function believed(events: Awaited<ReturnType<Tagger['tagEvents']>>): Map<string, unknown> {
  const tags = new Map<string, unknown>()
  for (const { key, value, headers } of events) headers.operation === 'delete' ? tags.delete(key) : tags.set(key, value?.value)
  return tags
}

describe.each(['postgres', 'http'] as const)('tags with streams in %s:', (streams) => {
  let tagger: Tagger
  beforeAll(async () => {
    tagger = new Tagger(await Wire.start({ replicas: 2, streams }))
  })
  afterAll(async () => await tagger.wire.stop())

  it('set, update, delete, set in this order appear on the stream, each once (DEVIATE)', async () => {
    const url = await tagger.freshEntity()

    await tagger.changed(url, 'color', 'blue')
    await tagger.changed(url, 'color', 'red', tagger.at(1))
    await tagger.dropped(url, 'color')
    await tagger.changed(url, 'color', 'green', tagger.at(1))

    const change = (operation: string, value?: string) => ({
      type: 'tags',
      key: 'color',
      ...(value === undefined ? {} : { value: { key: 'color', value } }),
      headers: { operation, timestamp: expect.stringMatching(/^\d{4}-.*Z$/), offset: expect.any(String) },
    })
    expect(await tagger.tagEvents(url)).toEqual([
      change('insert', 'blue'),
      change('update', 'red'),
      change('delete'),
      change('insert', 'green'),
    ])
    expect(await tagger.tagsOf(url)).toEqual({ color: 'green' })
  })

  it.each([10, 60])('%d keys set at once through two replicas all survive (MUST)', async (count) => {
    const url = await tagger.freshEntity({ tags: { kept: 'yes' } })

    const changes = await times(count, async (index) => await tagger.changed(url, `k${index}`, String(index), tagger.atOnce(index)))

    const expected = Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, String(index)]))
    expect(await tagger.tagsOf(url)).toEqual({ kept: 'yes', ...expected })
    expect(believed(await tagger.tagEvents(url))).toEqual(new Map(Object.entries(expected)))
    expect(changes.every(({ txid }) => Number.isSafeInteger(txid))).toBe(true)
  })

  it('the stream ends with the tags of the row, whoever changed one key at once (DEVIATE)', async () => {
    const url = await tagger.freshEntity()

    await times(60, async (index) =>
      index % 3 === 0
        ? await tagger.dropped(url, `k${index % 2}`, tagger.atOnce(index))
        : await tagger.changed(url, `k${index % 2}`, String(index), tagger.atOnce(index + 1)),
    )

    const events = await tagger.tagEvents(url)
    expect(believed(events)).toEqual(new Map(Object.entries((await tagger.tagsOf(url)) as object)))
    for (const key of ['k0', 'k1']) expect(operationsMakeSense(events.filter((event) => event.key === key))).toBe(true)
  })

  it('a kill among changes leaves no change without its event, and none after its end', async () => {
    const url = await tagger.freshEntity()

    const answers = await times(30, async (index) =>
      index === 15 ? await tagger.wire.kill(url) : await tagger.set(url, `k${index}`, 'x', tagger.atOnce(index)),
    )

    expect(answers.filter(({ status }) => status !== 200).every(({ status }) => status === 409)).toBe(true)
    expect(believed(await tagger.tagEvents(url))).toEqual(new Map(Object.entries((await tagger.tagsOf(url)) as object)))
    expect((await tagger.wire.events(url)).at(-1)).toMatchObject({ type: 'signal', value: { signal: 'SIGKILL' } })
  })
})

/** An insert follows nothing or a delete, everything else an insert or update. */
function operationsMakeSense(events: readonly { readonly headers: Readonly<Record<string, unknown>> }[]): boolean {
  const operations = events.map(({ headers }) => headers.operation)
  return operations.every((operation, index) => {
    const wasSet = index > 0 && operations[index - 1] !== 'delete'
    return operation === 'insert' ? !wasSet : wasSet
  })
}

describe('a tag', () => {
  let wire: Wire
  let tagger: Tagger
  beforeAll(async () => {
    wire = await Wire.start()
    tagger = new Tagger(wire)
    await wire.register('sams', {}, 'user:sam')
    await wire.spawned('/sams/a', { args: { x: 1 } }, 'user:sam')
    await wire.spawned('/chat/a')
  })
  afterAll(async () => await wire.stop())

  describe.each([
    ['POST', { value: 'x' }, 'tag updated'],
    ['DELETE', undefined, 'tag deleted'],
  ])('%s checks in this order (spec/02 §10.1, §10.2):', (method, body, refused) => {
    const change = async (url: string, as?: string, sent: unknown = body) =>
      await wire.ask(method, tagPath(url, 'k'), sent, as === undefined ? {} : { as })

    it('1: the entity exists, before anything else is looked at', async () => {
      expect(await change('/chat/none', 'user:kim', '{')).toMatchObject({
        status: 404,
        body: refusal('NOT_FOUND', 'Entity not found at /chat/none'),
      })
      expect(await change('/none/a', 'user:kim', '{')).toMatchObject({
        status: 404,
        body: refusal('UNKNOWN_ENTITY_TYPE', 'Entity type "none" not found'),
      })
    })

    it('a malformed escape in the key is a 400 (DEVIATE), after the permission (spec/03 §1.3)', async () => {
      expect(await wire.ask(method, tagPath('/chat/a', '%zz'), body, { as: 'user:kim' })).toMatchObject({
        status: 401,
        body: refusal('UNAUTHORIZED', 'Principal is not allowed to write /chat/a'),
      })
      expect(await wire.askRaw(method, tagPath('/chat/a', '%zz'), '{"value":"x"}')).toMatchObject({
        status: 400,
        body: invalid('Malformed percent-encoding in the path'),
      })
    })

    it('3: permission to write', async () => {
      await wire.kill('/chat/a')
      expect(await change('/chat/a', 'user:kim')).toMatchObject({
        status: 401,
        body: refusal('UNAUTHORIZED', 'Principal is not allowed to write /chat/a'),
      })
    })

    it('4: principals have no tags of others', async () => {
      await wire.get('/principal/user:sam', 'user:sam')
      await wire.putInto('stopped', '/principal/user%3Asam')
      expect(await change('/principal/user:sam', 'user:sam')).toMatchObject({
        status: 400,
        body: invalid(`Principal entities are built in and cannot be ${refused}`),
      })
      await wire.putInto('idle', '/principal/user%3Asam')
    })

    it.each(['stopping', 'stopped', 'killed'])(
      '5: an entity that is %s takes no change, not even one that changes nothing (MUST)',
      async (status) => {
        const url = await tagger.freshEntity({ tags: { k: 'x' } })
        await wire.putInto(status, url)

        expect(await change(url)).toMatchObject({ status: 409, body: refusal('NOT_RUNNING', 'Entity is not accepting writes') })
        expect(await tagger.tagsOf(url)).toEqual({ k: 'x' })
      },
    )

    it.each(['spawning', 'running', 'idle', 'paused'])('5: an entity that is %s takes changes, and stays what it is', async (status) => {
      const url = await tagger.freshEntity({ tags: { k: 'former' } })
      await wire.putInto(status, url)

      expect((await change(url)).status).toBe(200)
      expect(await wire.statusOf(url)).toBe(status)
    })
  })

  it('2: needs a body with a string value, before the permission; other members are ignored', async () => {
    const answer = async (body: unknown, as = 'user:kim') => await wire.ask('POST', tagPath('/sams/a', 'k'), body, { as })

    expect(await answer('{')).toMatchObject({ status: 400, body: invalid('Invalid JSON body') })
    expect(await answer({ value: 7 })).toMatchObject({
      status: 400,
      body: invalid('Request body does not match API schema', [{ path: '/value', message: 'must be string' }]),
    })
    expect(await answer('')).toMatchObject({
      status: 400,
      body: invalid('Request body does not match API schema', [{ path: '/', message: "must have required property 'value'" }]),
    })
    expect((await answer({ value: 'x', other: 1 }, 'user:sam')).status).toBe(200)
  })

  it('answers the public entity with the number of the transaction that wrote the row', async () => {
    const url = await tagger.freshEntity({ args: { topic: 'x' }, tags: { b: '2' } })
    const before = (await wire.get(url)).body as Changed
    const changed = await tagger.changed(url, 'a', '1')

    expect(changed).toEqual({ ...before, tags: { a: '1', b: '2' }, updated_at: expect.any(Number), txid: expect.any(Number) })
    expect(changed.updated_at).toBeGreaterThanOrEqual(before.updated_at)
    expect(
      await wire.sql('SELECT xmin::text AS xmin, tags, tags_index, updated_at::float8 AS at FROM entities WHERE url = $1', url),
    ).toEqual([{ xmin: String(changed.txid), tags: { a: '1', b: '2' }, tags_index: ['["a","1"]', '["b","2"]'], at: changed.updated_at }])
  })

  it('that has the value already, or that is not there to delete, is no change: no txid, nothing written', async () => {
    const url = await tagger.freshEntity()
    await tagger.changed(url, 'k', 'x')
    const before = [await wire.get(url), await wire.events(url), await wire.sql('SELECT xmin FROM entities WHERE url = $1', url)]

    const answers = [await tagger.changed(url, 'k', 'x'), await tagger.dropped(url, 'other')]

    for (const answer of answers) expect(answer).toEqual((await wire.get(url)).body)
    const after = [await wire.get(url), await wire.events(url), await wire.sql('SELECT xmin FROM entities WHERE url = $1', url)]
    expect(after.map(shownBody)).toEqual(before.map(shownBody))
  })

  it('given at spawn has no event; changed later it is an update (MUST)', async () => {
    const url = await tagger.freshEntity({ tags: { k: 'x' } })
    expect(await tagger.tagEvents(url)).toEqual([])

    await tagger.changed(url, 'k', 'y')

    expect((await tagger.tagEvents(url)).map(({ headers }) => headers.operation)).toEqual(['update'])
  })

  it.each(['__proto__', 'constructor', 'toString', 'a/b c', '%', '10', '9', 'ключ', '🏷', ' ', '"'])(
    'may be called %p, and is never lost (DEVIATE)',
    async (key) => {
      const url = await tagger.freshEntity({ tags: { z: 'z' } })
      const { tags } = await tagger.changed(url, key, 'x')
      await tagger.changed(url, 'other', 'y')
      const { text } = await wire.get(url)

      expect(Object.entries(tags)).toContainEqual([key, 'x'])
      expect(text).toContain(`${JSON.stringify(key)}:"x"`)
      expect((await tagger.tagEvents(url))[0]).toMatchObject({ type: 'tags', key, value: { key, value: 'x' } })
      expect(Object.keys((await tagger.dropped(url, key)).tags).sort()).toEqual(['other', 'z'])
    },
  )

  it('may be called "..", where the client does not resolve it away', async () => {
    const url = await tagger.freshEntity()
    expectStatus(200, await wire.askRaw('POST', tagPath(url, '..'), '{"value":"x"}'))

    expect(await tagger.tagsOf(url)).toEqual({ '..': 'x' })
  })

  it('called a%2Fb%20c in the path is called a/b c', async () => {
    const url = await tagger.freshEntity()
    expectStatus(200, await wire.askRaw('POST', tagPath(url, 'a%2Fb%20c'), '{"value":"x"}'))

    expect(await tagger.tagsOf(url)).toEqual({ 'a/b c': 'x' })
  })

  it('called __proto__ at spawn is there too', async () => {
    expectStatus(201, await wire.spawn('/chat/proto', '{"tags":{"__proto__":"x","a":"1"}}'))

    expect((await wire.get('/chat/proto')).text).toContain('"tags":{"a":"1","__proto__":"x"}')
  })

  it('may be empty text, which is a value like any other', async () => {
    const url = await tagger.freshEntity()

    expect((await tagger.changed(url, 'k', '')).txid).toEqual(expect.any(Number))
    expect((await tagger.changed(url, 'k', '')).txid).toBeUndefined()
    expect(await tagger.tagsOf(url)).toEqual({ k: '' })
  })

  it.each([
    ['a key of 257 characters', 'k'.repeat(257), 'x', 'Tags are limited to keys of 256 characters'],
    ['a value of 4,097 characters', 'k', 'x'.repeat(4_097), 'Tags are limited to values of 4096 characters'],
    ['U+0000 in the key', '\0', 'x', 'Text must not contain U+0000 or lone surrogates'],
    ['U+0000 in the value', 'k', '\0', 'Text must not contain U+0000 or lone surrogates'],
    ['a lone surrogate', 'k', '\ud800', 'Text must not contain U+0000 or lone surrogates'],
  ])('is bounded (ours): %s', async (_, key, value, message) => {
    const url = await tagger.freshEntity()

    expect(await tagger.set(url, key, value)).toMatchObject({ status: 400, body: invalid(message) })
    expect(await tagger.tagsOf(url)).toEqual({})
    expect(await wire.spawn('/chat/bounded', { tags: { [key]: value } })).toMatchObject({ status: 400, body: invalid(message) })
  })

  it('is one of 256 at most (ours); others can still be changed and deleted', async () => {
    const tags = Object.fromEntries(Array.from({ length: 256 }, (_, index) => [`k${index}`, 'x']))
    const url = await tagger.freshEntity({ tags })

    expect(await tagger.set(url, 'more', 'x')).toMatchObject({ status: 400, body: invalid('Tags are limited to 256 per entity') })
    expect((await wire.spawn('/chat/bounded', { tags: { ...tags, more: 'x' } })).status).toBe(400)
    await tagger.changed(url, 'k0', 'y')
    await tagger.dropped(url, 'k1')
    await tagger.changed(url, 'more', 'x')
  })

  it('takes a write token along and ignores it, valid or not', async () => {
    const headers = { authorization: 'Bearer nonsense', 'electric-claim-token': 'nonsense' }
    const ask = async (as: string) => await wire.ask('POST', tagPath('/sams/a', 'token'), { value: as }, { as, headers })

    expect((await ask('user:sam')).status).toBe(200)
    expect((await ask('user:kim')).status).toBe(401)
  })

  it('of an entity whose stream is closed already changes the row and drops the event', async () => {
    const url = await tagger.freshEntity()
    await wire.sql('UPDATE streams SET closed = true WHERE path = $1', `${url}/main`)

    await tagger.changed(url, 'k', 'x')

    expect(await tagger.tagsOf(url)).toEqual({ k: 'x' })
    expect(await tagger.tagEvents(url)).toEqual([])
  })

  describe('in hostile requests', () => {
    it('is refused for what is no object with a string value', async () => {
      const wrong = fc
        .oneof(
          fc.constant({}),
          fc.record({ value: fc.oneof(fc.integer(), fc.constant(null), fc.constant([]), fc.constant({}), fc.boolean()) }),
        )
        .map((body) => JSON.stringify(body))

      await refusesAll(wire, fc.oneof(noObject, wrong), async (body) => await wire.ask('POST', tagPath('/sams/a', 'k'), body))
    })

    it('is refused for entities that are not there, whatever the method', async () => {
      const drawn = fc.record({ method: fc.constantFrom('POST', 'DELETE', 'PUT', 'GET', 'PATCH'), id: oddSegment, key: oddSegment })

      await refusesAll(wire, drawn, async ({ method, id, key }) => await wire.askRaw(method, tagPath(`/chat/${id}`, key), '{"value":"x"}'))
    })

    it('never fails, whatever key and value; what is set reads back', async () => {
      const url = await tagger.freshEntity()
      const value = fc.oneof(fc.string({ maxLength: 30 }), fc.constantFrom('\0', '\ud800', '__proto__', 'x'.repeat(5_000)))

      await neverFails(
        fc.record({ key: oddSegment, value, method: fc.constantFrom('POST', 'DELETE') }),
        async ({ key, value: text, method }) => {
          const answer = await wire.askRaw(method, tagPath(url, key), JSON.stringify({ value: text }))
          if (answer.status === 200 && method === 'POST')
            expect(Object.entries((answer.body as Changed).tags)).toContainEqual([decodeURIComponent(key), text])
          return answer
        },
      )
      expect(believed(await tagger.tagEvents(url))).toEqual(new Map(Object.entries((await tagger.tagsOf(url)) as object)))
    })
  })
})

const shownBody = (seen: unknown): unknown => (typeof seen === 'object' && seen !== null && 'body' in seen ? seen.body : seen)
