import { defaultLimits } from '../../src/domain/limits.js'
import { type AuthorizationAnswer, AuthorizationHook, type AuthorizationInput } from '../../src/entities/authorization-hook.js'
import { authorize, isAllowed, type JudgedPrincipal } from '../../src/entities/authorize.js'
import { Directory } from '../../src/entities/directory.js'
import { carriedBy, EntityRules } from '../../src/entities/rules.js'
import { principal, type RegistryServer, registryServer } from '../http/support/registry-server.js'
import { developing } from '../http/support/server.js'

const entity = { url: '/chat/a', created_by: principal('user:sam').url }
const request = { method: 'GET', url: 'http://here/x', headers: {} }
const later = () => Date.now() + 60_000

/** A hook that answers as told, and what it was asked. */
function hooked(answer: (input: AuthorizationInput) => unknown) {
  const asked: AuthorizationInput[] = []
  const warnings: string[] = []
  const hook = new AuthorizationHook(
    async (input) => {
      asked.push(input)
      return (await answer(input)) as AuthorizationAnswer
    },
    { tenant: 'default', warn: (_, text) => warnings.push(text), limitMs: 50 },
  )
  const judged = (key: string): JudgedPrincipal => ({ ...principal(key), judge: hook.judge(request) })
  return { hook, asked, warnings, judged }
}

describe('the authorization hook (spec/12 §5)', () => {
  it('J1: has the last word in both directions, and is told what the rules say', async () => {
    const allows = hooked(() => ({ decision: 'allow' }))
    const denies = hooked(() => ({ decision: 'deny' }))

    await expect(authorize(allows.judged('user:kim'), 'read', entity)).resolves.toBeUndefined()
    await expect(authorize(denies.judged('user:sam'), 'read', entity)).rejects.toMatchObject({ refusal: { status: 401 } })

    expect(allows.asked).toEqual([
      {
        tenant: 'default',
        principal: { kind: 'user', id: 'kim', key: 'user:kim', url: '/principal/user%3Akim' },
        verb: 'read',
        resource: { kind: 'entity', entity: { url: '/chat/a' } },
        request,
        builtInAllowed: false,
      },
    ])
    expect(denies.asked[0]?.builtInAllowed).toBe(true)
  })

  it('J1: is not asked about bypass principals, and not told of a request in listings', async () => {
    const { asked, judged } = hooked(() => ({ decision: 'deny' }))

    expect(await isAllowed(judged('system:framework'), 'read', entity)).toBe(true)
    await isAllowed(judged('user:sam'), 'read', entity, { inListing: true })

    expect(asked).toHaveLength(1)
    expect(asked[0]).not.toHaveProperty('request')
  })

  it.each([
    ['throws', () => Promise.reject(new Error('broken'))],
    ['hangs', () => new Promise(() => undefined)],
    ['answers nothing', () => undefined],
    ['answers nonsense', () => ({ decision: 'maybe' })],
  ])('J2: a hook that %s denies, and says so in the log', async (_, answer) => {
    const { judged, warnings } = hooked(answer)

    expect(await isAllowed(judged('user:sam'), 'read', entity)).toBe(false)
    expect(warnings).toEqual(['the authorization hook failed; the request is denied'])
  })

  it.each([
    ['without an expiry', undefined, 2],
    ['with a past one', 1, 2],
    ['with nonsense', 'soon', 2],
    ['with a future time', later(), 1],
    ['with a future date', new Date(later()), 1],
    ['with a future text', new Date(later()).toISOString(), 1],
  ])('J3: an answer %s is asked for again as it should be', async (_, expires_at, times) => {
    const { asked, judged } = hooked(() => ({ decision: 'allow', expires_at }))

    for (let time = 0; time < 2; time += 1) expect(await isAllowed(judged('user:kim'), 'read', entity)).toBe(true)

    expect(asked).toHaveLength(times)
  })

  it('J3: what is remembered holds for that principal, verb and resource alone', async () => {
    const { asked, judged } = hooked(() => ({ decision: 'allow', expires_at: later() }))

    await isAllowed(judged('user:kim'), 'read', entity)
    await isAllowed(judged('user:ann'), 'read', entity)
    await isAllowed(judged('user:kim'), 'write', entity)
    await isAllowed(judged('user:kim'), 'read', { ...entity, url: '/chat/b' })

    expect(asked).toHaveLength(4)
  })
})

describe('a server with a hook', () => {
  let server: RegistryServer
  const asked: AuthorizationInput[] = []
  let decision: 'allow' | 'deny' = 'allow'
  beforeAll(async () => {
    const { hook } = hooked((input) => {
      asked.push(input)
      return { decision }
    })
    server = await registryServer({ authentication: { ...developing, hook } })
    await server.register({ name: 'chat', description: 'of sam' }, 'user:sam')
  })
  afterAll(async () => await server.close())

  it('asks it with the request, and obeys', async () => {
    asked.length = 0
    decision = 'allow'
    expect((await server.send('GET', '/_electric/entity-types/chat', undefined, 'user:kim')).status).toBe(200)
    decision = 'deny'
    expect((await server.send('GET', '/_electric/entity-types/chat', undefined, 'user:sam')).status).toBe(401)

    expect(asked[0]).toMatchObject({
      verb: 'spawn',
      resource: { kind: 'entity_type', entityType: { name: 'chat' } },
      request: { method: 'GET', url: `${server.url}/_electric/entity-types/chat`, headers: { 'electric-principal': 'user:kim' } },
      builtInAllowed: false,
    })
  })

  it('lets its word on a spawn stand where the operation is carried out, which cannot ask', async () => {
    const rules = new EntityRules(new Directory(server.database, defaultLimits), defaultLimits, async () => [])
    const item = { url: '/chat/a' as never, principal: 'user:kim' } // an entity URL
    const { judged } = hooked(() => ({ decision: 'allow' }))
    const caller = judged('user:kim')

    await expect(rules.checkSpawn(item, caller)).resolves.toMatchObject({ type: { name: 'chat' } })
    expect(await rules.planSpawn(carriedBy(caller, item), 'seed')).toMatchObject({ entity: { url: '/chat/a' } })
    expect(await rules.planSpawn(carriedBy(principal('user:kim'), item), 'seed')).toMatchObject({ refusal: { status: 401 } })
    const denied = hooked(() => ({ decision: 'deny' })).judged('user:sam')
    await expect(rules.checkSpawn({ ...item, principal: 'user:sam' }, denied)).rejects.toMatchObject({ refusal: { status: 401 } })
  })
})
