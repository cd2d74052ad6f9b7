import fc from 'fast-check'
import { neverFails, noObject, oddSegment, refusesAll } from '../support/hostile.js'
import { expectStatus, refusal, Wire } from '../support/wire.js'

const rows = (url: string, collection: string) => `/_electric/entities${url}/collections/${collection}`
const invalid = (message: string) => refusal('INVALID_REQUEST', message)
const forbidden = (message: string) => ({ status: 403, body: refusal('UNAUTHORIZED', message) })

const collections = {
  notes: { type: 'state:notes', operations: ['insert', 'update', 'delete'] },
  log: { type: 'state:log' },
  typed: { type: 'typed', operations: ['insert'] },
  strange: { type: 'unknown', operations: ['insert'] },
}
const state_schemas = {
  typed: { type: 'object', properties: { n: { type: 'number' } }, required: ['n'] },
  'state:notes': {},
  'state:log': {},
}

describe.each(['postgres', 'http'] as const)('a row of a writable collection, with streams in %s,', (streams) => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start({ streams })
    await wire.register('open', { externally_writable_collections: collections, state_schemas }, 'user:sam')
  })
  afterAll(async () => await wire.stop())

  it('is an event whose author the server stamps (MUST)', async () => {
    await wire.spawned('/open/a', {}, 'user:sam')
    const write = async (body: object) => await wire.ask('POST', rows('/open/a', 'notes'), body, { as: 'user:sam' })
    const value = { body: 'hi', principal: 'forged', headers: { principal: 'forged' } }

    const inserted = expectStatus(201, await write({ operation: 'insert', value }))
    const { key } = inserted.body as { key: string }
    expect(expectStatus(200, await write({ operation: 'update', key, value: { body: 'ho' } })).body).toEqual({ key })
    expect(expectStatus(200, await write({ operation: 'delete', key })).body).toEqual({ key })

    expect(key).toMatch(/^notes-[0-9a-f-]{36}$/)
    const headers = (operation: string) => ({
      operation,
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
      principal: { url: '/principal/user%3Asam', kind: 'user', id: 'sam' },
      offset: expect.any(String),
    })
    const events = (await wire.ask('GET', '/open/a/main?offset=-1', undefined, { as: 'user:sam' })).body as readonly { type: string }[]
    expect(events.filter(({ type }) => type === 'state:notes')).toEqual([
      { type: 'state:notes', key, headers: headers('insert'), value },
      { type: 'state:notes', key, headers: headers('update'), value: { body: 'ho' } },
      { type: 'state:notes', key, headers: headers('delete') },
    ])
  })
})

describe('the checks of a collection write (spec/03 §5)', () => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start()
    await wire.register('open', { externally_writable_collections: collections, state_schemas })
    await wire.register('sams', { externally_writable_collections: collections }, 'user:sam')
    await wire.register('gone', { externally_writable_collections: collections })
    for (const url of ['/open/a', '/open/ended', '/gone/a']) await wire.spawned(url)
    await wire.spawned('/sams/a', {}, 'user:sam')
    await wire.kill('/open/ended')
    expectStatus(204, await wire.ask('DELETE', '/_electric/entity-types/gone'))
  })
  afterAll(async () => await wire.stop())

  const write = async (url: string, collection: string, body: unknown, as?: string) =>
    await wire.ask('POST', rows(url, collection), body, as === undefined ? {} : { as })
  const insert = { operation: 'insert', value: {} }

  it('1: entity, body, permission', async () => {
    expect(await write('/open/none', 'x', '{', 'user:kim')).toMatchObject({ status: 404 })
    for (const body of ['{', {}, { operation: 'upsert' }, { ...insert, other: 1 }, { ...insert, value: [] }, { ...insert, key: 1 }])
      expect((await write('/sams/a', 'x', body, 'user:kim')).status).toBe(400)
    expect(await write('/sams/a', 'x', insert, 'user:kim')).toMatchObject({
      status: 401,
      body: refusal('UNAUTHORIZED', 'Principal is not allowed to write /sams/a'),
    })
  })

  it.each(['none', '__proto__', 'constructor', 'toString'])(
    '2: a collection that the type does not open, on an ended entity too: %s',
    async (collection) => {
      expect(await write('/open/ended', collection, { operation: 'delete' })).toMatchObject(
        forbidden(`Collection "${collection}" is not writable`),
      )
    },
  )

  it('2: a type that is gone opens none (the current registration counts)', async () => {
    expect(await write('/gone/a', 'notes', insert)).toMatchObject(forbidden('Collection "notes" is not writable'))
  })

  it('2: a collection of built-in events, registered before these were refused: nobody links the shared state of others with it', async () => {
    await wire.sql(`
      UPDATE entity_types SET externally_writable_collections = externally_writable_collections || '{"old": {"type": "manifest"}}' WHERE name = 'open'`)

    expect(await write('/open/a', 'old', { ...insert, value: { kind: 'shared-state', id: 'secret' } })).toMatchObject(
      forbidden('Collection "old" is not writable'),
    )
  })

  it('3: an operation that the type does not allow; insert alone by default', async () => {
    expect(await write('/open/ended', 'log', { operation: 'update' })).toMatchObject(
      forbidden('Operation "update" is not allowed on collection "log"'),
    )
    expectStatus(201, await write('/open/a', 'log', insert))
  })

  it('4: an ended entity, before value and key', async () => {
    expect(await write('/open/ended', 'notes', { operation: 'insert' })).toMatchObject({
      status: 409,
      body: refusal('NOT_RUNNING', 'Entity is not accepting writes'),
    })
  })

  it('6 and 7: the value, then the key', async () => {
    for (const operation of ['insert', 'update'])
      expect(await write('/open/a', 'notes', { operation })).toMatchObject({
        status: 400,
        body: invalid(`value is required for ${operation}`),
      })
    for (const key of [undefined, ''])
      for (const body of [
        { operation: 'update', key, value: {} },
        { operation: 'delete', key },
      ])
        expect(await write('/open/a', 'notes', body)).toMatchObject({ status: 400, body: invalid(`key is required for ${body.operation}`) })
  })

  it('8: what the state schemas do not take, without details', async () => {
    const answers = [await write('/open/a', 'strange', insert), await write('/open/a', 'typed', { operation: 'insert', value: { n: 'x' } })]

    expect(answers.map(({ status }) => status)).toEqual([422, 422])
    expect(answers.map(({ body }) => (body as { error: { code: string } }).error.code)).toEqual([
      'UNKNOWN_EVENT_TYPE',
      'SCHEMA_VALIDATION_FAILED',
    ])
    for (const { body } of answers) expect((body as { error: object }).error).not.toHaveProperty('details')
  })

  it('refused writes leave nothing but the entity of their principal', async () => {
    const before = await wire.events('/open/a')
    for (const body of [{ operation: 'insert' }, { operation: 'delete' }]) await write('/open/a', 'notes', body)
    await write('/open/a', 'typed', { operation: 'insert', value: {} })

    expect(await wire.events('/open/a')).toEqual(before)
  })

  it('writes at once through two replicas are all there, each once', async () => {
    await wire.spawned('/open/crowd')

    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, n) => write('/open/crowd', 'notes', { operation: 'insert', key: `k${n}`, value: { n } })),
    )

    expect(answers.every(({ status }) => status === 201)).toBe(true)
    const keys = (await wire.events('/open/crowd')).filter(({ type }) => type === 'state:notes').map(({ key }) => key)
    expect(keys.sort()).toEqual(Array.from({ length: 60 }, (_, n) => `k${n}`).sort())
  })

  it('whatever is sent is refused, or no failure', async () => {
    await refusesAll(wire, noObject, async (body) => await write('/sams/a', 'notes', body))
    await refusesAll(wire, oddSegment, async (collection) => await wire.askRaw('POST', rows('/open/a', collection), JSON.stringify(insert)))
    const bodies = fc.record({
      operation: fc.constantFrom('insert', 'update', 'delete'),
      key: fc.string({ unit: 'binary' }),
      value: fc.dictionary(fc.string(), fc.jsonValue()),
    })
    await neverFails(bodies, async (body) => await write('/open/a', 'notes', body))
  })
})
