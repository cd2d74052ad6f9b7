import type { StreamPath } from '../../src/domain/ids.js'
import { sendRaw } from '../support/raw-request.js'
import { givenEntity, type RegistryServer, registryServer } from './support/registry-server.js'

let server: RegistryServer

beforeAll(async () => {
  server = await registryServer()
  await givenEntity(server.database, '/chat/a')
  await server.streams.create('/chat/a/main' as StreamPath, {
    contentType: 'application/json',
    body: Buffer.from('[{"type":"x","key":"k","headers":{}}]'),
  })
  await givenEntity(server.database, '/chat/lost')
})
afterAll(async () => await server.close())

async function ask(method: string, path: string, headers: Record<string, string> = {}, body: string | null = null) {
  const response = await fetch(server.url + path, {
    method,
    body,
    headers: { 'electric-principal': 'user:sam', 'content-type': 'application/json', ...headers },
  })
  return { status: response.status, text: await response.text(), cors: response.headers.get('access-control-allow-origin') }
}

const history = async () => (await ask('GET', '/chat/a/main?offset=-1')).text

describe('a main stream over HTTP', () => {
  it('is read by the owner and by nobody else, with CORS on the refusal', async () => {
    expect(await ask('GET', '/chat/a/main?offset=-1')).toMatchObject({ status: 200, text: expect.stringContaining('"key":"k"') })
    expect(await ask('GET', '/chat/a/main?offset=-1', { 'electric-principal': 'user:kim' })).toMatchObject({
      status: 401,
      text: '{"error":{"code":"UNAUTHORIZED","message":"Principal is not allowed to read /chat/a"}}',
      cors: '*',
    })
  })

  it('keeps its history, whatever a client tries (required of us)', async () => {
    const before = await history()

    expect((await ask('DELETE', '/chat/a/main')).status).toBe(401)
    expect((await ask('POST', '/chat/a/main', {}, '[{}]')).status).toBe(401)
    expect((await ask('PUT', '/chat/a/main', { 'content-type': 'text/plain' }, 'other')).status).toBe(409)
    expect((await ask('PUT', '/chat/a/main', { 'stream-forked-from': '/plain' })).status).toBeGreaterThanOrEqual(400)

    expect(await history()).toBe(before)
  })

  it('answers 200 to a PUT that finds what it asks for', async () => {
    expect((await ask('PUT', '/chat/a/main')).status).toBe(200)
  })

  it('is never made by a client: neither without its entity nor for one whose stream was lost (required of us)', async () => {
    expect((await ask('PUT', '/chat/none/main')).status).toBe(401)
    expect((await ask('PUT', '/chat/lost/main')).status).toBe(404)
    expect((await server.streams.head('/chat/none/main' as StreamPath)).outcome).toBe('refused')
    expect((await server.streams.head('/chat/lost/main' as StreamPath)).outcome).toBe('refused')
  })

  it('cannot be copied without read on it (required of us)', async () => {
    expect((await ask('PUT', '/copy', { 'stream-forked-from': '/chat/a/main', 'electric-principal': 'user:kim' })).status).toBe(401)
    expect((await server.streams.head('/copy' as StreamPath)).outcome).toBe('refused')
    expect((await ask('PUT', '/copy', { 'stream-forked-from': '/chat/a/main' })).status).toBe(201)
  })
})

describe('other streams over HTTP', () => {
  it('are made and written by anybody where they are plain', async () => {
    expect((await ask('PUT', '/plain-stream-x', { 'electric-principal': 'user:kim' })).status).toBe(201)
    expect((await ask('POST', '/plain-stream-x', {}, '{"a":1}')).status).toBe(204)
  })

  it.each(['/_cron/x', '/_entities/x', '/_webhooks/x', '/runners/r/wake'])('of the server are not made by a client: %s', async (path) => {
    expect(await ask('PUT', path)).toMatchObject({ status: 401, cors: '*' })
    expect((await ask('GET', path)).status).toBe(404)
  })

  it.each(['/ch%61t/a/main', '/chat//a/main', '//chat/a/main', '/chat%2Fa%2Fmain'])('are no disguise: %s', async (path) => {
    for (const method of ['GET', 'PUT', 'POST', 'DELETE']) expect((await ask(method, path)).status).toBe(400)
  })

  it('come later: Postgres observation', async () => {
    expect((await ask('GET', '/_electric/pg-sync/x')).status).toBe(501)
  })
})

describe('a path that clients send as no URL parser would', () => {
  const post = async (path: string, principal: string) => {
    const headers = { 'content-type': 'application/json', 'electric-principal': principal }
    return (await sendRaw(server.url, { method: 'POST', path, headers, body: '{}' })).status
  }

  it.each(['/x/..\\_electric\\shared-state/main', '/x/..\\foo/main', '/a/b/../c\\d/main'])(
    'is judged as the stream routes read it, for a principal that was asked for: %s',
    async (path) => {
      expect(await post(path, 'zzz')).toBe(400)
      expect(await post(path, 'user:kim')).toBeGreaterThanOrEqual(400)
      expect(await post(path, 'user:kim')).toBeLessThan(500)
    },
  )

  it('is asked for its principal on every other route, wherever a parser would put it', async () => {
    const path = '/_electric/entities/chat/a/tags/k\\..\\..\\..\\..\\..\\..\\chat\\a\\main'
    expect(await post(path, 'zzz')).toBe(400)
    expect(await post(path, 'user:kim')).toBeLessThan(500)
  })
})
