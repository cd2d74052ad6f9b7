import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import { agentUiRoutes } from '../../src/http/agent-ui.js'
import { shellOnly, type TestServer } from './support/server.js'

let server: TestServer

beforeAll(async () => {
  server = await shellOnly()
})
afterAll(async () => await server.close())

const allowing = (...names: string[]) => expect.stringMatching(new RegExp(names.map((name) => `(?=.*\\b${name}\\b)`).join('')))
const cors = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': allowing('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'),
  'access-control-allow-headers': allowing(
    'content-type',
    'authorization',
    'electric-claim-token',
    'electric-owner-entity',
    'electric-principal',
    'ngrok-skip-browser-warning',
  ),
  'access-control-expose-headers': '*',
}

const headersOf = (response: Response) => Object.fromEntries(response.headers)

async function raw(request: string): Promise<string> {
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
  socket.end(request)
  let answer = ''
  for await (const chunk of socket) answer += String(chunk)
  return answer
}

describe('every response', () => {
  it.each([
    ['a health check', 'GET', '/_electric/health', 200],
    ['an unknown path', 'GET', '/_electric/nothing', 404],
    ['a feature that comes later', 'PUT', '/_electric/entities/chat/a/schedules/s', 501],
    ['the UI without a build', 'GET', '/__agent_ui/', 404],
  ])('carries CORS headers: %s', async (_what, method, path, status) => {
    const response = await fetch(server.url + path, { method })

    expect(response.status).toBe(status)
    expect(headersOf(response)).toMatchObject(cors)
  })

  it('carries CORS headers when the request is too malformed to be one', async () => {
    expect(await raw('NONSENSE\r\n\r\n')).toMatch(/^HTTP\/1.1 400 .*access-control-allow-origin: \*/s)
  })

  it('carries CORS headers when its headers are too long', async () => {
    expect(await raw(`GET /${'a'.repeat(20_000)} HTTP/1.1\r\nhost: x\r\n\r\n`)).toMatch(/^HTTP\/1.1 431 .*access-control-allow-origin: \*/s)
  })

  it.each([
    ['that names no host', 'GET /_electric/health HTTP/1.1\r\nconnection: close\r\n\r\n', 400],
    ['that names no host, a preflight', 'OPTIONS /_electric/health HTTP/1.1\r\nconnection: close\r\n\r\n', 400],
    ['that expects what nobody knows', 'GET /_electric/health HTTP/1.1\r\nhost: x\r\nexpect: foo\r\nconnection: close\r\n\r\n', 417],
  ])('carries CORS headers when it answers a request %s', async (_what, request, status) => {
    expect(await raw(request)).toMatch(new RegExp(`^HTTP/1.1 ${status} .*access-control-allow-origin: \\*.*\r\n\r\n$`, 's'))
  })

  it('is given to a request of the old protocol, which names no host', async () => {
    expect(await raw('GET /_electric/health HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1.1 200 .*access-control-allow-origin: \*/s)
  })
})

describe('a request without a principal in strict mode', () => {
  let strict: TestServer
  beforeAll(async () => {
    strict = await shellOnly({ authentication: { allowDevFallback: false, refuseSystemHeader: false } })
  })
  afterAll(async () => await strict.close())

  it('is refused with CORS headers', async () => {
    const response = await fetch(`${strict.url}/_electric/runners`)

    expect(response.status).toBe(401)
    expect(await response.json()).toEqual({ error: { code: 'UNAUTHORIZED', message: 'Missing Electric-Principal' } })
    expect(headersOf(response)).toMatchObject(cors)
  })

  it('is answered when it is a preflight, of any path', async () => {
    for (const path of ['/_electric/entities/chat/a', '/any/stream', '/_electric/nothing']) {
      const response = await fetch(strict.url + path, { method: 'OPTIONS' })

      expect(response.status).toBe(204)
      expect(headersOf(response)).toMatchObject(cors)
    }
  })

  it('is answered when it asks for health', async () => {
    const response = await fetch(`${strict.url}/_electric/health`)

    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({ status: 'ok' })
  })

  it('is sent to the UI from the root', async () => {
    const response = await fetch(`${strict.url}/`, { redirect: 'manual' })

    expect(response.status).toBe(302)
    expect(response.headers.get('location')).toBe('/__agent_ui/')
  })

  it.each(['PUT', 'POST', 'DELETE'])('may not %s the root either', async (method) => {
    expect((await fetch(`${strict.url}/`, { method, headers: { 'content-type': 'text/plain' } })).status).toBe(401)
  })

  it('learns that the UI is not built', async () => {
    const response = await fetch(`${strict.url}/__agent_ui/some/page`)

    expect(response.status).toBe(404)
    expect(await response.json()).toEqual({ error: { code: 'AGENT_UI_NOT_FOUND', message: 'Agent UI build artifacts are missing' } })
  })
})

it.each(['/', '/some/page', '/a.b/', '/e/chat/v1.2/'])('the UI shows its page at %s', async (path) => {
  const folder = mkdtempSync(join(tmpdir(), 'agents-ui-'))
  writeFileSync(join(folder, 'index.html'), 'the page')
  const app = Fastify()
  agentUiRoutes(app, folder)

  const response = await fetch(`${await app.listen({ host: '127.0.0.1', port: 0 })}/__agent_ui${path}`)
  expect([response.status, await response.text()]).toEqual([200, 'the page'])

  await app.close()
  rmSync(folder, { recursive: true })
})

describe('routing', () => {
  it.each([
    ['POST', 'text/xml', '<x/>'],
    ['POST', 'application/json', '{'],
    ['PUT', 'application/json', undefined],
    ['DELETE', 'application/json', undefined],
    ['PATCH', 'no type at all', 'x'],
    ['QUERY', 'application/json', '{}'],
  ])('answers an empty 404 to %s of the UI, whatever comes with it: %s', async (method, type, body) => {
    const response = await fetch(`${server.url}/__agent_ui/x`, { method, headers: { 'content-type': type }, body: body ?? null })

    expect([response.status, await response.text()]).toEqual([404, ''])
    expect(headersOf(response)).toMatchObject(cors)
  })

  it('accepts a trailing slash', async () => {
    expect((await fetch(`${server.url}/_electric/health/`)).status).toBe(200)
    expect((await fetch(`${server.url}/_electric/webhook-sources/`)).status).toBe(501)
  })

  it.each([
    ['PATCH', '/_electric/entities/a/b'],
    ['QUERY', '/_electric/entities'],
    ['QUERY', '/_electric/nothing'],
    ['QUERY', '/__agent_ui/'],
    ['PROPFIND', '/_electric/entities'],
    ['GET', '/_electric/entities/a'],
    ['GET', '/_electric/'],
    ['GET', '/_electric//health'],
    ['PUT', '/_electric/runners'],
  ])('answers an empty 404 to %s %s', async (method, path) => {
    const response = await fetch(server.url + path, { method })

    expect(response.status).toBe(404)
    expect(await response.text()).toBe('')
    expect(headersOf(response)).toMatchObject(cors)
  })

  it('answers 503 to health checks while the server stops', async () => {
    const stopping = await shellOnly({ isStopping: () => true })

    expect((await fetch(`${stopping.url}/_electric/health`)).status).toBe(503)

    await stopping.close()
  })
})
