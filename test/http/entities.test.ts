import fc from 'fast-check'
import { givenEntity, principal, type RegistryServer, registryServer } from './support/registry-server.js'

let server: RegistryServer
const sam = principal('user:sam').url
const kim = principal('user:kim').url

beforeAll(async () => {
  server = await registryServer({ limits: { maxListedEntities: 50 } })
  await server.register({ name: 'chat', description: 'x', inbox_schemas: { a: {} } })
  await server.register({
    name: 'noted',
    description: 'x',
    externally_writable_collections: { notes: { type: 'state:notes' } },
  })
  await givenEntity(server.database, '/chat/full', {
    dispatch_policy: { targets: [{ type: 'webhook', url: 'http://x/' }] },
    tags: { title: 'Demo' },
    spawn_args: { topic: 'x' },
    sandbox: { profile: 'docker' },
    parent: '/chat/root' as never,
    inbox_schemas: { a: {} },
    created_at: 1_795_339_863_260,
    updated_at: 1_795_339_915_684,
  })
  await givenEntity(server.database, '/noted/one')
  await givenEntity(server.database, '/chat/ended', { status: 'killed', created_by: kim, created_at: 2_000 })
  await givenEntity(server.database, '/chat/a%20b', { created_at: 3_000 })
  await givenEntity(server.database, '/chat/reserved', { reservedBy: 'operation' })
  await givenEntity(server.database, '/orphan/one', { created_at: 2_000 })
})
afterAll(async () => await server.close())

const get = async (path: string, as?: string) => await server.send('GET', `/_electric/entities${path}`, undefined, as)
const urlsOf = (body: unknown) => (body as { url: string }[]).map(({ url }) => url)

describe('reading an entity', () => {
  it('shows what is public of it and nothing else', async () => {
    const { status, body, headers } = await get('/chat/full')

    expect(status).toBe(200)
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8')
    expect(body).toEqual({
      url: '/chat/full',
      type: 'chat',
      status: 'idle',
      streams: { main: '/chat/full/main' },
      dispatch_policy: { targets: [{ type: 'webhook', url: 'http://x/' }] },
      tags: { title: 'Demo' },
      spawn_args: { topic: 'x' },
      sandbox: { profile: 'docker' },
      parent: '/chat/root',
      created_by: sam,
      created_at: 1_795_339_863_260,
      updated_at: 1_795_339_915_684,
    })
  })

  it('leaves unset members out, and names the collections that its type opens now', async () => {
    expect((await get('/noted/one')).body).toEqual({
      url: '/noted/one',
      type: 'noted',
      status: 'idle',
      streams: { main: '/noted/one/main' },
      tags: {},
      spawn_args: {},
      created_by: sam,
      created_at: 1_000,
      updated_at: 1_000,
      externally_writable_collections: { notes: { type: 'state:notes' } },
    })
  })

  it('compares the path as it was sent', async () => {
    expect((await get('/chat/a%20b')).body).toMatchObject({ url: '/chat/a%20b' })
    expect((await get('/ch%61t/full')).status).toBe(404)
  })

  it('works for ended entities, and for those whose type is gone', async () => {
    expect((await get('/chat/ended')).body).toMatchObject({ status: 'killed' })
    expect((await get('/orphan/one')).status).toBe(200)
  })

  it('by HEAD answers the same without a body', async () => {
    expect(await server.send('HEAD', '/_electric/entities/chat/full')).toMatchObject({ status: 200, text: '' })
    expect(await server.send('HEAD', '/_electric/entities/chat/none')).toMatchObject({ status: 404, text: '' })
    expect(await server.send('HEAD', '/_electric/entities/chat/full', undefined, 'user:kim')).toMatchObject({ status: 401, text: '' })
  })

  it('tells a missing entity from a missing type', async () => {
    expect(await get('/chat/none')).toMatchObject({
      status: 404,
      body: { error: { code: 'NOT_FOUND', message: 'Entity not found at /chat/none' } },
    })
    expect(await get('/nope/none')).toMatchObject({
      status: 404,
      body: { error: { code: 'UNKNOWN_ENTITY_TYPE', message: 'Entity type "nope" not found' } },
    })
  })

  it('finds nothing while its stream is still to be made', async () => {
    expect((await get('/chat/reserved')).status).toBe(404)
  })

  it.each(['/_x/a', '/ch*t/a', '/chat/*', '/chat/%00', `/chat/${'a'.repeat(3_000)}`])('at %s is a 404, not a 500', async (path) => {
    expect((await get(path)).status).toBe(404)
  })

  it('is for its owner and bypass principals', async () => {
    expect((await get('/chat/full', 'user:sam')).status).toBe(200)
    expect((await get('/chat/full', 'system:framework')).status).toBe(200)
    expect(await get('/chat/full', 'user:kim')).toMatchObject({
      status: 401,
      body: { error: { code: 'UNAUTHORIZED', message: 'Principal is not allowed to read /chat/full' } },
    })
    expect((await get('/chat/full', 'system:other')).status).toBe(401)
  })

  it('is answered 404 or 400, whatever is asked for', async () => {
    const hostile = fc.constantFrom('__proto__', 'constructor', '%', '%zz', '%00', '%2F', 'principal', 'user:')
    const segment = fc.oneof(fc.string({ unit: 'binary' }), hostile).filter((text) => !/^\.{0,2}$/.test(text)) // fetch resolves dots itself
    await fc.assert(
      fc.asyncProperty(segment, segment, async (type, id) => {
        const sent = [type, id].map((text) => (text.startsWith('%') ? text : encodeURIComponent(text.toWellFormed())))
        const { status } = await get(`/${sent[0]}/${sent[1]}`, 'user:nobody')
        expect([400, 404]).toContain(status)
      }),
      { numRuns: 200 },
    )
  })
})

describe('a principal entity', () => {
  it('is created when its own principal asks for it, in either spelling', async () => {
    expect((await get('/principal/user:ann', 'user:ann')).body).toMatchObject({ url: '/principal/user%3Aann' })
    expect((await get('/principal/user%3Aann', 'user:ann')).status).toBe(200)
  })

  it('of somebody else is not created by asking for it (ours)', async () => {
    expect(await get('/principal/user:bob', 'user:ann')).toMatchObject({ status: 404, body: { error: { code: 'NOT_FOUND' } } })
    expect(await server.directory.entity('/principal/user%3Abob')).toBeNull()
  })

  it.each(['/principal/ann', '/principal/entity:ann', '/principal/user:', '/principal/user%zz', '/principal/user%3Aa%2Fb'])(
    'at the malformed address %s is a 400',
    async (path) => {
      expect(await get(path)).toMatchObject({ status: 400, body: { error: { code: 'INVALID_REQUEST' } } })
    },
  )
})

describe('listing entities', () => {
  it('answers an array, newest first, then by URL', async () => {
    const { body } = await get('?type=chat')

    expect(urlsOf(body)).toEqual(['/chat/full', '/chat/a%20b', '/chat/ended'])
  })

  it('combines exact filters; an unknown status matches nothing, an empty or unknown parameter counts as absent', async () => {
    expect(urlsOf((await get('?status=killed&type=chat')).body)).toEqual(['/chat/ended'])
    expect(urlsOf((await get('?parent=/chat/root')).body)).toEqual(['/chat/full'])
    expect(urlsOf((await get(`?created_by=${encodeURIComponent(kim)}`)).body)).toEqual(['/chat/ended'])
    expect((await get('?status=asleep')).body).toEqual([])
    expect(urlsOf((await get('?type=noted&status=&colour=blue&type=chat')).body)).toEqual(['/noted/one'])
  })

  it('shows others only their own', async () => {
    expect(urlsOf((await get('?type=chat', 'user:kim')).body)).toEqual(['/chat/ended'])
    expect((await get('', 'user:stranger')).body).toEqual([])
  })

  it('pages without gaps or repetitions', async () => {
    const all = urlsOf((await get('')).body)
    const paged: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page = await get(`?limit=2&cursor=${cursor}`)
      paged.push(...urlsOf(page.body))
      cursor = page.headers.get('electric-next-cursor')
    }

    expect(paged).toEqual(all)
  })

  it.each(['?limit=0', '?limit=1001', '?limit=many', '?limit=-1', '?cursor=nonsense', '?cursor=e30'])('refuses %s', async (query) => {
    expect((await get(query)).status).toBe(400)
  })

  it('is never a 500, whatever is asked for', async () => {
    const name = fc.constantFrom('type', 'status', 'parent', 'created_by', 'limit', 'cursor', '__proto__')
    await fc.assert(
      fc.asyncProperty(name, fc.string({ unit: 'binary' }), async (parameter, value) => {
        const { status } = await get(`?${parameter}=${encodeURIComponent(value.toWellFormed())}&%zz=%ff`)
        expect([200, 400]).toContain(status)
      }),
      { numRuns: 150 },
    )
  })
})

describe('hostile registrations', () => {
  it('are a 201 or a 4xx, never a 500', async () => {
    const member = fc.constantFrom(
      'name',
      'description',
      'creation_schema',
      'inbox_schemas',
      'state_schemas',
      'slash_commands',
      'serve_endpoint',
    )
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.oneof(member, fc.string()), fc.jsonValue(), { maxKeys: 5 }), async (sent) => {
        const { status } = await server.register({ name: 'hostile', description: 'x', ...sent })
        expect(status === 201 || (status >= 400 && status < 500) || status === 501).toBe(true)
      }),
      { numRuns: 150 },
    )
  })

  it('with schemas full of surprises are a 201 or a 4xx, never a 500', async () => {
    const keyword = fc.constantFrom(
      'type',
      'properties',
      'required',
      'enum',
      'pattern',
      'items',
      '$ref',
      'anyOf',
      'not',
      '$id',
      '$defs',
      'minimum',
      'nullable',
    )
    await fc.assert(
      fc.asyncProperty(fc.dictionary(keyword, fc.jsonValue()), async (creation_schema) => {
        expect([201, 400]).toContain((await server.register({ name: 'hostile', description: 'x', creation_schema })).status)
      }),
      { numRuns: 150 },
    )
  })
})
