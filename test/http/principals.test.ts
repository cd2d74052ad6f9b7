import { type Principal, parsePrincipal } from '../../src/domain/principals.js'
import { type Authentication, devFallbackAllowed } from '../../src/http/principals.js'
import { shellOnly, type TestServer } from './support/server.js'

const servers: TestServer[] = []

async function whoami(authentication: Authentication, headers: Record<string, string> = {}) {
  const server = await shellOnly({ authentication }, (app) => {
    app.get('/_electric/whoami', async (request) => request.principal)
  })
  servers.push(server)
  const response = await fetch(`${server.url}/_electric/whoami`, { headers })
  return { status: response.status, body: await response.json() }
}

afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()))
})

const developing = { allowDevFallback: true, refuseSystemHeader: false }
const strict = { allowDevFallback: false, refuseSystemHeader: false }
const parsed = parsePrincipal('user:sam')
const sam = 'principal' in parsed ? parsed.principal : null

describe('the principal of a request', () => {
  it.each(['user:sam', '/principal/user%3Asam', '/principal/user:sam'])('is read from the header in the spelling %s', async (header) => {
    expect(await whoami(strict, { 'electric-principal': header })).toMatchObject({
      status: 200,
      body: { kind: 'user', id: 'sam', key: 'user:sam', url: '/principal/user%3Asam' },
    })
  })

  it('is system:dev-local without a header, where the fallback is on', async () => {
    expect((await whoami(developing)).body).toMatchObject({ key: 'system:dev-local' })
  })

  it('is missing without a header, where the fallback is off', async () => {
    expect(await whoami(strict)).toMatchObject({
      status: 401,
      body: { error: { code: 'UNAUTHORIZED', message: 'Missing Electric-Principal' } },
    })
  })

  it.each([
    ['sam', 'Invalid principal identifier'],
    ['', 'Invalid principal identifier'],
    ['entity:sam', 'Invalid principal kind'],
    ['user:', 'Invalid principal id'],
    ['user:a/b', 'Invalid principal id'],
    ['/principal/user%zz', 'Invalid principal identifier'],
  ])('that is malformed (%j) is refused, never the dev fallback (required of us)', async (header, message) => {
    expect(await whoami(developing, { 'electric-principal': header })).toMatchObject({
      status: 400,
      body: { error: { code: 'INVALID_REQUEST', message } },
    })
  })

  it('is refused when a configured callback names nobody, whatever the header says (required of us)', async () => {
    const authentication = { ...developing, authenticateRequest: () => null }

    expect((await whoami(authentication, { 'electric-principal': 'user:sam' })).status).toBe(401)
  })

  it('is the one of the callback, which sees the request', async () => {
    const authenticateRequest = (request: Request) => (request.headers.get('authorization') === 'Bearer s' ? sam : null)

    expect((await whoami({ ...strict, authenticateRequest }, { authorization: 'Bearer s' })).body).toEqual(sam)
  })

  it('is what follows from the kind and the id that a callback says, also for an agent', async () => {
    const said = { kind: 'agent', id: 'chat/a', key: 'agent:chat/a', url: '/principal/agent:chat/a' } as Principal

    expect((await whoami({ ...strict, authenticateRequest: () => said })).body).toEqual({ ...said, url: '/principal/agent%3Achat%2Fa' })
    const withoutUrl = { kind: 'user', id: 'sam', key: 'user:sam' } as Principal
    expect((await whoami({ ...strict, authenticateRequest: () => withoutUrl })).body).toEqual(sam)
  })

  it.each([{}, 'user:sam', { ...sam, kind: 'root' }, { ...sam, id: '' }, { ...sam, id: 7 }, { ...sam, key: 'user:kim' }])(
    'is refused where a callback says what is no principal: %j',
    async (said) => {
      expect((await whoami({ ...strict, authenticateRequest: () => said as Principal })).status).toBe(400)
    },
  )

  it('is a 400 with the reason when the callback throws', async () => {
    const authenticateRequest = () => {
      throw new Error('token expired')
    }

    expect(await whoami({ ...strict, authenticateRequest })).toMatchObject({
      status: 400,
      body: { error: { code: 'INVALID_REQUEST', message: 'token expired' } },
    })
  })

  it('cannot be claimed as system:* where the switch forbids it (required of us)', async () => {
    const authentication = { allowDevFallback: true, refuseSystemHeader: true }

    expect((await whoami(authentication, { 'electric-principal': 'system:framework' })).status).toBe(401)
  })
})

describe('the development fallback', () => {
  it.each([
    [{ NODE_ENV: 'production' }, undefined, false],
    [{ NODE_ENV: 'production', ELECTRIC_INSECURE: 'true' }, undefined, true],
    [{ NODE_ENV: 'development' }, undefined, true],
    [{}, undefined, true],
    [{ NODE_ENV: 'production', ELECTRIC_INSECURE: 'true' }, false, false],
    [{ NODE_ENV: 'production' }, true, true],
  ])('with %j and the option %p is on: %p', (environment, option, expected) => {
    expect(devFallbackAllowed(environment, option)).toBe(expected)
  })
})
