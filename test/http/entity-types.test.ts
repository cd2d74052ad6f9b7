import { type RegistryServer, registryServer } from './support/registry-server.js'

let server: RegistryServer

beforeAll(async () => {
  server = await registryServer({ limits: { maxSchemaBytes: 2_000, maxTypeBytes: 3_000, maxSubschemas: 20, maxTypeSubschemas: 30 } })
})
afterAll(async () => await server.close())

const invalid = (message: string) => ({ status: 400, body: { error: { code: 'INVALID_REQUEST', message } } })
const minimal = (name: string) => ({ name, description: 'a type' })

describe('registering a type', () => {
  it('answers 201 with null for unset schemas and without other unset members', async () => {
    const { status, body } = await server.register(minimal('bare'))

    expect(status).toBe(201)
    expect(body).toEqual({
      name: 'bare',
      description: 'a type',
      creation_schema: null,
      inbox_schemas: null,
      state_schemas: null,
      revision: 1,
      created_at: expect.stringMatching(/^\d{4}-.*Z$/),
      updated_at: expect.stringMatching(/^\d{4}-.*Z$/),
    })
  })

  it('derives the default dispatch policy from the serve endpoint', async () => {
    const { body } = await server.register({ ...minimal('served'), serve_endpoint: 'http://localhost:4448/hook' })

    expect(body).toMatchObject({
      serve_endpoint: 'http://localhost:4448/hook',
      default_dispatch_policy: { targets: [{ type: 'webhook', url: 'http://localhost:4448/hook' }] },
    })
  })

  it('again replaces everything, keeps created_at and counts the revision up', async () => {
    const first = await server.register({ ...minimal('twice'), inbox_schemas: { a: {} }, slash_commands: [{ name: 'go' }] })
    const second = await server.register(minimal('twice'))

    expect(second.status).toBe(201)
    expect(second.body).toMatchObject({ revision: 2, inbox_schemas: null, created_at: (first.body as { created_at: string }).created_at })
    expect(second.body).not.toHaveProperty('slash_commands')
  })

  it('50 times in parallel gives 50 distinct revisions (DEVIATE: strictly increasing under concurrency)', async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => server.register(minimal('parallel'))))

    const revisions = answers.map(({ body }) => (body as { revision: number }).revision).sort((a, b) => a - b)
    expect(revisions).toEqual(Array.from({ length: 50 }, (_, index) => index + 1))
  })

  it.each([
    [{ description: 'x' }, invalid('Missing required field: name')],
    [{ name: '', description: 'x' }, invalid('Missing required field: name')],
    [{ name: 'principal', description: 'x' }, invalid('Entity type "principal" is built in and cannot be registered or updated')],
    [{ name: '_x', description: 'x' }, invalid('Entity type names starting with "_" are reserved')],
    [{ name: 'x' }, invalid('Missing required field: description')],
    [{ name: 'x', description: '' }, invalid('Missing required field: description')],
    [{ ...minimal('x'), creation_schema: { type: 'object', if: {} } }, invalid('Schema uses disallowed keywords')],
    [{ ...minimal('a b') }, invalid('Entity type names are 1 to 200 characters of A-Z a-z 0-9 . _ ~ -')],
    [{ ...minimal('..') }, invalid('Entity type names are 1 to 200 characters of A-Z a-z 0-9 . _ ~ -')],
    [{ ...minimal('a'.repeat(201)) }, invalid('Entity type names are 1 to 200 characters of A-Z a-z 0-9 . _ ~ -')],
    [
      { ...minimal('x'), externally_writable_collections: { comments: { type: 'state:comments' } } },
      invalid('The externally-writable collection name "comments" is reserved for the "comments/v1" contract'),
    ],
    [
      { ...minimal('x'), externally_writable_collections: { notes: { type: 'state:notes', contract: 'comments/v1' } } },
      invalid('The "comments/v1" contract must be registered under the collection name "comments"'),
    ],
    [
      { ...minimal('x'), externally_writable_collections: { all: { type: 'manifest' } } },
      invalid('The externally-writable collection "all" cannot hold the built-in event type "manifest"'),
    ],
    [{ ...minimal('x'), serve_endpoint: 'not a url' }, invalid('serve_endpoint must be an absolute http(s) URL')],
    [
      { ...minimal('x'), default_dispatch_policy: { targets: [{ type: 'webhook', url: 'not a url' }] } },
      invalid('dispatch target url must be an absolute http(s) URL'),
    ],
    [{ ...minimal('x'), creation_schema: { maxLength: 'x'.repeat(2_000) } }, invalid('Schema exceeds 2000 bytes: /creation_schema')],
    [
      { ...minimal('x'), creation_schema: { anyOf: Array(20).fill({}) } },
      invalid('Schema has more than 20 schemas within it: /creation_schema'),
    ],
    [
      {
        ...minimal('x'),
        inbox_schemas: {
          a: { anyOf: Array(19).fill({}) },
          b: { items: { properties: Object.fromEntries([...'abcdefghi'].map((name) => [name, true])) } },
        },
      },
      invalid('The type has more than 30 schemas in all'),
    ],
    [{ ...minimal('x'), description: 'x'.repeat(3_000) }, invalid('The type exceeds 3000 bytes')],
    [
      {
        ...minimal('x'),
        slash_commands: Array.from({ length: 100 }, (_, index) => ({ name: `command-${index}`, description: 'what it does' })),
      },
      invalid('The type exceeds 3000 bytes'),
    ],
  ])('refuses %j', async (sent, refusal) => {
    expect(await server.register(sent)).toMatchObject(refusal)
    expect((await server.send('GET', '/_electric/entity-types/x')).status).toBe(404)
  })

  it('refuses unknown members', async () => {
    expect((await server.register({ ...minimal('x'), input_schemas: {} })).body).toEqual({
      error: {
        code: 'INVALID_REQUEST',
        message: 'Request body does not match API schema',
        details: [{ path: '/', message: 'must NOT have additional properties' }],
      },
    })
  })

  it('refuses a collection whose events have no type: no gate would judge them (spec/01 §7.24)', async () => {
    const sent = { ...minimal('x'), externally_writable_collections: { notes: { type: '' } } }

    expect((await server.register(sent)).body).toMatchObject({
      error: { code: 'INVALID_REQUEST', details: [{ path: '/externally_writable_collections/notes/type' }] },
    })
  })

  it('refuses a policy without targets and one with two', async () => {
    const target = { type: 'runner', runnerId: 'r' }
    const refused = async (targets: unknown[]) => (await server.register({ ...minimal('x'), default_dispatch_policy: { targets } })).body

    expect(await refused([])).toMatchObject({
      error: { details: [{ path: '/default_dispatch_policy/targets', message: 'must NOT have fewer than 1 items' }] },
    })
    expect(await refused([target, target])).toMatchObject({
      error: { details: [{ path: '/default_dispatch_policy/targets', message: 'must NOT have more than 1 items' }] },
    })
  })

  it('names where a slash command is wrong', async () => {
    const commands = [{ name: 'QuickStart' }, { name: 'go', arguments: [{ name: 'Sub', type: 'string' }] }, { name: 'go' }]

    expect(await server.register({ ...minimal('x'), slash_commands: commands })).toMatchObject({
      status: 422,
      body: {
        error: {
          code: 'SCHEMA_VALIDATION_FAILED',
          message: 'Validation failed',
          details: [
            { path: '/slash_commands/0/name', message: 'must be a lowercase kebab-case command name' },
            { path: '/slash_commands/1/arguments/0/name', message: 'must be a valid argument name' },
            { path: '/slash_commands/2/name', message: 'must be unique' },
          ],
        },
      },
    })
  })

  it.each([{ type: 'sometimes' }, { $ref: '#/definitions/missing' }, { type: 'string', pattern: '(' }, { required: 'name' }])(
    'refuses a schema that cannot compile (required of us): %j',
    async (creation_schema) => {
      const { status, text } = await server.register({ ...minimal('x'), creation_schema })

      expect(status).toBe(400)
      expect(text).toContain('Schema is not valid: ')
    },
  )

  it.each([
    { type: 'string', format: 'email' },
    { nullable: true },
    { $schema: 'https://json-schema.org/draft/2020-12/schema', type: 'object' },
    { $id: 'https://example.org/twice', type: 'object' },
    { type: 'object', propertyNames: { type: 'string' }, uniqueItems: true, multipleOf: 2, examples: [1] },
    { not: { if: {} } },
  ])('accepts %j (required of us: never a 500)', async (creation_schema) => {
    expect((await server.register({ ...minimal('lenient'), creation_schema })).status).toBe(201)
  })

  it('answers 501 to grants, whose feature comes later, and stores nothing', async () => {
    const permission_grants = [{ subject_kind: 'principal_kind', subject_value: 'user', permission: 'spawn' }]

    expect(await server.register({ ...minimal('granted'), permission_grants })).toMatchObject({
      status: 501,
      body: { error: { code: 'NOT_IMPLEMENTED', message: expect.stringContaining('permission grants') } },
    })
    expect((await server.send('GET', '/_electric/entity-types/granted')).status).toBe(404)
  })

  it('stores the serve endpoint rewritten where loopback is somewhere else', async () => {
    const container = await registryServer({ rewriteLoopbackTo: 'host.docker.internal' })

    const { body } = await container.register({ ...minimal('served'), serve_endpoint: 'http://[::1]:3000/w' })

    expect(body).toMatchObject({ serve_endpoint: 'http://host.docker.internal:3000/w' })
    await container.close()
  })
})

describe('the registrant of a new type (DEVIATE)', () => {
  it('may read, spawn, replace, amend and delete it; another user may not', async () => {
    expect((await server.register(minimal('owned'), 'user:sam')).status).toBe(201)

    expect((await server.send('GET', '/_electric/entity-types/owned', undefined, 'user:sam')).status).toBe(200)
    expect((await server.register(minimal('owned'), 'user:sam')).status).toBe(201)
    expect((await server.send('PATCH', '/_electric/entity-types/owned/schemas', {}, 'user:sam')).status).toBe(200)
    const refused = (what: string) => ({
      status: 401,
      body: { error: { code: 'UNAUTHORIZED', message: `Principal is not allowed to ${what} owned` } },
    })
    expect(await server.send('GET', '/_electric/entity-types/owned', undefined, 'user:kim')).toMatchObject(refused('spawn'))
    expect(await server.register(minimal('owned'), 'user:kim')).toMatchObject(refused('manage'))
    expect(await server.send('PATCH', '/_electric/entity-types/owned/schemas', '{not json', 'user:kim')).toMatchObject(refused('manage'))
    expect(await server.send('DELETE', '/_electric/entity-types/owned', undefined, 'user:kim')).toMatchObject(refused('manage'))
    expect((await server.send('DELETE', '/_electric/entity-types/owned', undefined, 'user:sam')).status).toBe(204)
  })

  it('is one principal also when several register the free name at once', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => server.register(minimal('raced'), `user:u${index}`)))

    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array<number>(9).fill(401)])
  })
})

describe('listing types', () => {
  it('shows all, by name, to bypass principals, the built-in one included', async () => {
    const { body } = await server.send('GET', '/_electric/entity-types')

    const names = (body as { name: string }[]).map(({ name }) => name)
    expect(names).toContain('principal')
    expect(names).toEqual([...names].sort())
  })

  it('shows others what they may spawn or manage', async () => {
    await server.register(minimal('hers'), 'user:lister')

    const { body } = await server.send('GET', '/_electric/entity-types', undefined, 'user:lister')

    expect((body as { name: string }[]).map(({ name }) => name)).toEqual(['hers'])
  })
})

describe('amending a type', () => {
  const schemas = (name: string) => `/_electric/entity-types/${name}/schemas`

  it('adds keys, counts the revision up also for an empty body, and keeps the writable collections (DEVIATE)', async () => {
    await server.register({
      ...minimal('amended'),
      inbox_schemas: { a: {} },
      externally_writable_collections: { notes: { type: 'state:notes' } },
    })

    const added = await server.send('PATCH', schemas('amended'), { inbox_schemas: { b: { type: 'string' } }, state_schemas: { run: {} } })
    const empty = await server.send('PATCH', schemas('amended'), '')

    expect(added.body).toMatchObject({
      revision: 2,
      inbox_schemas: { a: {}, b: { type: 'string' } },
      state_schemas: { run: {} },
      externally_writable_collections: { notes: { type: 'state:notes' } },
    })
    expect(empty.body).toMatchObject({ revision: 3 })
  })

  it('20 times in parallel keeps 20 keys (DEVIATE: concurrent amendments lose nothing)', async () => {
    await server.register(minimal('contended'))

    await Promise.all(
      Array.from({ length: 20 }, (_, index) => server.send('PATCH', schemas('contended'), { inbox_schemas: { [`k${index}`]: {} } })),
    )

    const { body } = await server.send('GET', '/_electric/entity-types/contended')
    expect(body).toMatchObject({ revision: 21 })
    expect(Object.keys((body as { inbox_schemas: object }).inbox_schemas)).toHaveLength(20)
  })

  it('refuses a key that exists, inbox first', async () => {
    await server.register({ ...minimal('keyed'), inbox_schemas: { a: {} }, state_schemas: { b: {} } })

    const conflict = async (sent: object) => (await server.send('PATCH', schemas('keyed'), sent)).body
    expect(await conflict({ inbox_schemas: { a: {} }, state_schemas: { b: {} } })).toMatchObject({
      error: { code: 'SCHEMA_KEY_EXISTS', message: 'Cannot amend existing inbox schema key: a' },
    })
    expect(await conflict({ state_schemas: { b: {} } })).toMatchObject({ error: { message: 'Cannot amend existing state schema key: b' } })
  })

  it('takes keys like constructor and __proto__ for what they are: keys', async () => {
    await server.register(minimal('proto'))

    await server.send('PATCH', schemas('proto'), '{"inbox_schemas":{"constructor":{},"__proto__":{"type":"string"}}}')

    expect((await server.send('GET', '/_electric/entity-types/proto')).text).toContain('"__proto__":{"type":"string"}')
  })

  it('refuses the built-in type, an unknown one, and a schema that is none', async () => {
    expect(await server.send('PATCH', schemas('principal'), {})).toMatchObject(
      invalid('Entity type "principal" is built in and cannot be amended'),
    )
    expect(await server.send('PATCH', schemas('nothing'), {})).toMatchObject({
      status: 404,
      body: { error: { code: 'NOT_FOUND', message: 'Entity type not found' } },
    })
    await server.register(minimal('strict'))
    expect(await server.send('PATCH', schemas('strict'), { inbox_schemas: { a: 1 } })).toMatchObject({
      status: 400,
      body: { error: { details: [{ path: '/inbox_schemas/a', message: 'must be object' }] } },
    })
  })
})

describe('deleting a type', () => {
  it('answers 204, and starts at revision 1 when it is registered again', async () => {
    await server.register(minimal('gone'))
    await server.register(minimal('gone'))

    expect(await server.send('DELETE', '/_electric/entity-types/gone')).toMatchObject({ status: 204, text: '' })
    expect((await server.send('GET', '/_electric/entity-types/gone')).status).toBe(404)
    expect((await server.register(minimal('gone'))).body).toMatchObject({ revision: 1 })
  })

  it('is refused for the built-in type, after the permission', async () => {
    expect(await server.send('DELETE', '/_electric/entity-types/principal')).toMatchObject(
      invalid('Entity type "principal" is built in and cannot be deleted'),
    )
    expect((await server.send('DELETE', '/_electric/entity-types/principal', undefined, 'user:sam')).status).toBe(401)
  })

  it('takes its managers along', async () => {
    await server.register(minimal('handed'), 'user:sam')
    await server.send('DELETE', '/_electric/entity-types/handed', undefined, 'user:sam')
    await server.register(minimal('handed'), 'user:kim')

    expect((await server.send('GET', '/_electric/entity-types/handed', undefined, 'user:sam')).status).toBe(401)
  })
})
