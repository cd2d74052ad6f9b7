import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type RegistryServer, registryServer } from './support/registry-server.js'

/** A runtime: answers every request with what `answers` holds for its path, and remembers what it was sent. */
const answers = new Map<string, (response: ServerResponse) => unknown>()
const seen: { readonly method: string | undefined; readonly headers: IncomingMessage['headers']; readonly body: string }[] = []
const runtime = createServer(async (request, response) => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  seen.push({ method: request.method, headers: request.headers, body: Buffer.concat(chunks).toString() })
  answers.get(request.url ?? '')?.(response)
})
let server: RegistryServer
let host: string

beforeAll(async () => {
  await once(runtime.listen(0, '127.0.0.1'), 'listening')
  host = `127.0.0.1:${(runtime.address() as AddressInfo).port}`
  server = await registryServer({ limits: { discoveryLimitMs: 500, maxDiscoveryBytes: 2_000 }, rewriteLoopbackTo: host })
})
afterAll(async () => {
  await server.close()
  runtime.closeAllConnections()
  await new Promise((closed) => runtime.close(closed))
})
beforeEach(() => {
  answers.clear()
  seen.length = 0
})

/** The URL of an endpoint that answers so. */
function endpoint(name: string, answer: (response: ServerResponse) => unknown): string {
  answers.set(`/${name}`, answer)
  return `http://${host}/${name}`
}
const describing =
  (document: unknown, status = 200) =>
  (response: ServerResponse) =>
    response.writeHead(status).end(typeof document === 'string' ? document : JSON.stringify(document))
const refused = (status: number, code: string, message: string) => ({ status, body: { error: { code, message } } })
const unreachable = (message: string) => refused(502, 'SERVE_ENDPOINT_UNREACHABLE', message)
const isStored = async (name: string) => (await server.send('GET', `/_electric/entity-types/${name}`)).status === 200

describe('a registration that leaves the description to its serve endpoint', () => {
  it('stores what the endpoint says, the endpoint that was asked, and nothing else of what was sent', async () => {
    const serve_endpoint = endpoint(
      'told',
      describing({
        name: 'told',
        description: 'by the runtime',
        creation_schema: { type: 'object' },
        serve_endpoint: 'http://elsewhere.test/',
        permission_grants: [{ subject_kind: 'principal', subject_value: '*', permission: 'spawn' }],
        invented: 'ignored',
      }),
    )

    const { status, body } = await server.register({
      name: 'told',
      serve_endpoint,
      inbox_schemas: { sent: {} },
      default_dispatch_policy: { targets: [{ type: 'webhook', url: 'http://sent.test/' }] },
    })

    expect(status).toBe(201)
    expect(body).toMatchObject({ description: 'by the runtime', creation_schema: { type: 'object' }, inbox_schemas: null, serve_endpoint })
    expect(body).toMatchObject({ default_dispatch_policy: { targets: [{ type: 'webhook', url: serve_endpoint }] } })
    expect(body).not.toHaveProperty('invented')
  })

  it('takes the dispatch policy that the endpoint describes', async () => {
    const default_dispatch_policy = { targets: [{ type: 'webhook', url: 'http://described.test/wake' }] }
    const serve_endpoint = endpoint('policy', describing({ name: 'policy', description: 'x', default_dispatch_policy }))

    expect((await server.register({ name: 'policy', serve_endpoint })).body).toMatchObject({ default_dispatch_policy })
  })

  it('asks with one bare PUT: no body, and no header of the caller', async () => {
    const serve_endpoint = endpoint('bare', describing({ name: 'bare', description: 'x' }))

    await server.register({ name: 'bare', serve_endpoint }, 'user:sam')

    expect(seen).toMatchObject([{ method: 'PUT', body: '' }])
    expect(Object.keys(seen[0]?.headers ?? {}).filter((name) => !['host', 'connection', 'content-length'].includes(name))).toEqual([])
  })

  it.each([
    ['a description', { description: 'sent' }],
    ['a creation schema', { creation_schema: {} }],
  ])('is none where it has %s: the endpoint is not asked', async (_, more) => {
    const serve_endpoint = endpoint('unasked', describing({ name: 'unasked', description: 'x' }))

    await server.register({ name: 'unasked', serve_endpoint, ...more })

    expect(seen).toEqual([])
  })

  it('with an empty description asks', async () => {
    const serve_endpoint = endpoint('empty', describing({ name: 'empty', description: 'x' }))

    expect(await server.register({ name: 'empty', serve_endpoint, description: '' })).toMatchObject({ status: 201 })
  })

  it.each([304, 400, 404, 500, 503])('is refused where the endpoint answers %i', async (status) => {
    const serve_endpoint = endpoint('status', describing({ name: 'status', description: 'x' }, status))

    expect(await server.register({ name: 'status', serve_endpoint })).toMatchObject(unreachable(`Serve endpoint returned status ${status}`))
    expect(await isStored('status')).toBe(false)
  })

  it.each(['', 'no json', '[]', 'null', '"text"', '{"name":'])('is refused where the answer is: %s', async (text) => {
    const serve_endpoint = endpoint('form', describing(text))

    expect(await server.register({ name: 'form', serve_endpoint })).toMatchObject(
      unreachable('Failed to reach serve endpoint: the answer is not a JSON object'),
    )
  })

  it('is refused where nothing answers in time, too much does, or the connection breaks', async () => {
    const late = endpoint('late', () => undefined)
    const long = endpoint('long', describing({ name: 'long', description: 'x'.repeat(2_000) }))
    const broken = endpoint('broken', (response) => response.destroy())
    const ask = async (serve_endpoint: string) => await server.register({ name: 'x', serve_endpoint })

    expect(await ask(late)).toMatchObject(unreachable('Failed to reach serve endpoint: no answer within 0.5 s'))
    expect(await ask(long)).toMatchObject(unreachable('Failed to reach serve endpoint: the answer exceeds 2000 bytes'))
    expect(await ask(broken)).toMatchObject(unreachable('Failed to reach serve endpoint: connection reset'))
    expect(await ask('http://169.254.169.254/')).toMatchObject(unreachable('Failed to reach serve endpoint: the address is not allowed'))
  })

  it('follows three redirects, and not four', async () => {
    for (const left of [4, 3, 2, 1])
      endpoint(`moved-${left}`, (response) => response.writeHead(307, { location: `/moved-${left - 1}` }).end())
    endpoint('moved-0', describing({ name: 'moved', description: 'x' }))

    expect(await server.register({ name: 'moved', serve_endpoint: `http://${host}/moved-4` })).toMatchObject(
      unreachable('Failed to reach serve endpoint: more than 3 redirects'),
    )
    expect(await server.register({ name: 'moved', serve_endpoint: `http://${host}/moved-3` })).toMatchObject({ status: 201 })
  })

  it.each([
    ['other', '"other"'],
    [undefined, '"undefined"'],
    [7, '"7"'],
  ])('is refused where the endpoint calls itself %s, before anything else in its answer is judged', async (name, shown) => {
    const serve_endpoint = endpoint('name', describing({ name, description: 7 }))

    expect(await server.register({ name: 'name', serve_endpoint })).toMatchObject(
      refused(400, 'SERVE_ENDPOINT_NAME_MISMATCH', `Serve endpoint returned name ${shown} but expected "name"`),
    )
  })

  it.each([
    [{}, 'Missing required field: description'],
    [{ description: '' }, 'Missing required field: description'],
    [{ description: 'x', creation_schema: { $ref: '#/x' } }, "Schema is not valid: can't resolve reference #/x from id #"],
    [
      { description: 'x', externally_writable_collections: { comments: { type: 'c', contract: 'mine' } } },
      'The externally-writable collection name "comments" is reserved for the "comments/v1" contract',
    ],
  ])('is judged like a body of the caller: %j', async (document, message) => {
    const serve_endpoint = endpoint('judged', describing({ name: 'judged', ...document }))

    expect(await server.register({ name: 'judged', serve_endpoint })).toMatchObject(refused(400, 'INVALID_REQUEST', message))
    expect(await isStored('judged')).toBe(false)
  })

  it('of wrong shape is refused like a body of that shape', async () => {
    const serve_endpoint = endpoint('shape', describing({ name: 'shape', description: 7 }))
    const direct = await server.register({ name: 'shape', description: 7 })

    const { status, body } = await server.register({ name: 'shape', serve_endpoint })

    expect({ status, body }).toEqual({ status: direct.status, body: direct.body })
  })

  it('asks nobody for who may not register the name, nor for a missing name', async () => {
    await server.register({ name: 'taken', description: 'x' }, 'user:sam')
    const serve_endpoint = endpoint('taken', describing({ name: 'taken', description: 'y' }))

    expect(await server.register({ name: 'taken', serve_endpoint }, 'user:kim')).toMatchObject({ status: 401 })
    expect(await server.register({ serve_endpoint })).toMatchObject(refused(400, 'INVALID_REQUEST', 'Missing required field: name'))
    expect(seen).toEqual([])
  })

  it('asks a loopback endpoint where it really is', async () => {
    endpoint('loop', describing({ name: 'loop', description: 'x' }))

    expect(await server.register({ name: 'loop', serve_endpoint: 'http://localhost:1/loop' })).toMatchObject({ status: 201 })
  })
})
