import { authorize, isAllowed } from '../../src/entities/authorize.js'
import { principal } from '../http/support/registry-server.js'

const entity = { url: '/chat/a', created_by: principal('user:sam').url }
const type = { type: { name: 'chat' }, managers: [principal('user:sam').url] }
const entityPermissions = ['read', 'write', 'delete', 'signal', 'fork', 'schedule', 'spawn', 'manage'] as const

describe('authorize', () => {
  it.each(entityPermissions)('lets the owner of an entity %s', async (permission) => {
    await expect(authorize(principal('user:sam'), permission, entity)).resolves.toBeUndefined()
  })

  it.each(entityPermissions)('refuses others to %s an entity, in the words of the spec', async (permission) => {
    const what = permission === 'spawn' ? 'spawn children from' : permission
    await expect(authorize(principal('user:kim'), permission, entity)).rejects.toMatchObject({
      refusal: { status: 401, code: 'UNAUTHORIZED', message: `Principal is not allowed to ${what} /chat/a` },
    })
  })

  it.each(['spawn', 'manage'] as const)('lets managers %s a type, and refuses others', async (permission) => {
    expect(await isAllowed(principal('user:sam'), permission, type)).toBe(true)
    await expect(authorize(principal('user:kim'), permission, type)).rejects.toMatchObject({
      refusal: { status: 401, message: `Principal is not allowed to ${permission} chat` },
    })
  })

  it.each(['system:framework', 'system:auth-sync', 'system:dev-local'])('lets %s do everything', async (key) => {
    expect(await isAllowed(principal(key), 'manage', entity)).toBe(true)
    expect(await isAllowed(principal(key), 'manage', type)).toBe(true)
  })

  it('gives other system principals no privilege, and nobody an entity without an owner', async () => {
    expect(await isAllowed(principal('system:other'), 'read', entity)).toBe(false)
    expect(await isAllowed(principal('user:sam'), 'read', { ...entity, created_by: null })).toBe(false)
  })
})
