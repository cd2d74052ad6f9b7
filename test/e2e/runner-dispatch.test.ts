import { Client, Connection } from '@temporalio/client'
import { AgentsError, spawn } from '../../src/client/index.js'
import type { DispatchPolicy } from '../../src/domain/entity.js'
import { expectStatus, refusal, Wire } from '../support/wire.js'

const to = (runnerId: string, subscription_id?: string): DispatchPolicy => ({
  targets: [{ type: 'runner', runnerId, ...(subscription_id === undefined ? {} : { subscription_id }) }],
})
const notFound = (id: string) => ({ status: 404, body: refusal('NOT_FOUND', `Runner "${id}" not found`) })
const notOwned = { status: 403, body: refusal('UNAUTHORIZED', 'Runner dispatch requires the authenticated owner') }
const unclaimable = (subscription: string) => ({
  status: 400,
  body: refusal('INVALID_REQUEST', `subscription_id "${subscription}" can never be claimed by runner "r1"`),
})

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start()
  await runner('r1', 'user:sam', [
    { name: 'docker', label: 'Docker' },
    { name: 'e2b', label: 'E2B', remote: true },
  ])
  await runner('r2', 'user:sam')
  await runner('kims', 'user:kim', [
    { name: 'e2b', label: 'E2B, locally' },
    { name: 'cloud', label: 'Cloud', remote: true },
  ])
  await wire.register('sams', {}, 'user:sam')
  await wire.register('kims', {}, 'user:kim')
  await wire.register('pinned', { default_dispatch_policy: to('r1') }, 'user:sam')
  await wire.register('scoped', { default_dispatch_policy: to('r1', 'runner:r1:scoped') }, 'user:sam')
  await wire.register('foreign', { default_dispatch_policy: to('r1', 'shared') }, 'user:sam')
  await wire.register('lost', { default_dispatch_policy: to('none') }, 'user:sam')
})
afterAll(async () => await wire.stop())

async function runner(id: string, as: string, sandbox_profiles: readonly object[] = []): Promise<void> {
  expectStatus(201, await wire.ask('POST', '/_electric/runners', { id, label: id, sandbox_profiles }, { as }))
}

describe('a spawn to a runner (spec/06 §9)', () => {
  it('of the caller is stored as it was sent', async () => {
    for (const [url, policy] of [
      ['/sams/own', to('r1')],
      ['/sams/scoped', to('r1', 'runner:r1')],
      ['/sams/below', to('r1', 'runner:r1:mine')],
    ] as const)
      expect(await wire.spawned(url, { dispatch_policy: policy }, 'user:sam')).toMatchObject({ dispatch_policy: policy })
  })

  it('that is not there, or another’s, is refused; no bypass', async () => {
    expect(await wire.spawn('/sams/a', { dispatch_policy: to('none') }, 'user:sam')).toMatchObject(notFound('none'))
    expect(await wire.spawn('/sams/a', { dispatch_policy: to('a\0b') }, 'user:sam')).toMatchObject(notFound('a\0b'))
    expect(await wire.spawn('/kims/a', { dispatch_policy: to('r1') }, 'user:kim')).toMatchObject(notOwned)
    for (const system of ['system:dev-local', 'system:framework'])
      expect(await wire.spawn('/sams/a', { dispatch_policy: to('r1') }, system)).toMatchObject(notOwned)
  })

  it('through a subscription that it can never claim is refused, after the owner (ours)', async () => {
    for (const subscription of ['shared', 'runner:r2', 'runner:r1x', 'runner:r', 'webhook:r1'])
      expect(await wire.spawn('/sams/a', { dispatch_policy: to('r1', subscription) }, 'user:sam')).toMatchObject(unclaimable(subscription))
    expect(await wire.spawn('/kims/a', { dispatch_policy: to('r1', 'shared') }, 'user:kim')).toMatchObject(notOwned)
  })

  it('of the type’s default is held to the same', async () => {
    expect(await wire.spawned('/pinned/a', {}, 'user:sam')).toMatchObject({ dispatch_policy: to('r1') })
    expect(await wire.spawn('/pinned/b', {})).toMatchObject(notOwned)
    expect(await wire.spawn('/foreign/a', {}, 'user:sam')).toMatchObject(unclaimable('shared'))
    expect(await wire.spawn('/lost/a', {}, 'user:sam')).toMatchObject(notFound('none'))
    expect(await wire.spawned('/lost/b', { dispatch_policy: to('r2') }, 'user:sam')).toMatchObject({ dispatch_policy: to('r2') })
  })

  it('of the parent is held to the same', async () => {
    await wire.spawned('/sams/parent', { dispatch_policy: to('r1') }, 'user:sam')

    expect(await wire.spawned('/sams/child', { parent: '/sams/parent' }, 'user:sam')).toMatchObject({ dispatch_policy: to('r1') })
    expect(await wire.spawned('/scoped/child', { parent: '/sams/parent' }, 'user:sam')).toMatchObject({
      dispatch_policy: to('r1', 'runner:r1:scoped'),
    })
    expect(await wire.spawn('/foreign/child', { parent: '/sams/parent' }, 'user:sam')).toMatchObject(unclaimable('shared'))
    expect(await wire.spawn('/sams/bypass', { parent: '/sams/parent' })).toMatchObject(notOwned)
  })

  it('is checked after the permissions and before the arguments, and leaves nothing behind', async () => {
    await wire.register('strict', { creation_schema: { type: 'object', required: ['x'] }, default_dispatch_policy: to('none') }, 'user:sam')
    const before = await wire.counts()

    expect((await wire.spawn('/strict/a', { args: {} }, 'user:new-here')).status).toBe(401)
    expect(await wire.spawn('/strict/a', { args: {} }, 'user:sam')).toMatchObject(notFound('none'))
    expect(await wire.spawn('/strict/a', { args: {}, dispatch_policy: to('kims') }, 'user:sam')).toMatchObject(notOwned)
    expect((await wire.spawn('/strict/a', { args: {}, dispatch_policy: to('r1') }, 'user:sam')).status).toBe(422)
    expect(await wire.counts()).toEqual(before)
  })

  it('through Temporal is held to the same', async () => {
    const connection = await Connection.connect({ address: wire.house.temporalAddress })
    const client = new Client({ connection, namespace: wire.house.namespace })
    const refused = async (request: Parameters<typeof spawn>[1]) =>
      await spawn(client, request).then(
        () => 'spawned',
        (failure: unknown) => (failure instanceof AgentsError ? [failure.refusal.status, failure.refusal.message] : failure),
      )
    try {
      expect(await refused({ url: '/kims/t', principal: 'user:kim', dispatchPolicy: to('r1') })).toEqual([
        403,
        'Runner dispatch requires the authenticated owner',
      ])
      expect(await refused({ url: '/lost/t', principal: 'user:sam' })).toEqual([404, 'Runner "none" not found'])
      expect(await refused({ url: '/foreign/t', principal: 'user:sam' })).toEqual([
        400,
        'subscription_id "shared" can never be claimed by runner "r1"',
      ])
      expect(await refused({ url: '/sams/t', principal: 'user:sam', dispatchPolicy: to('r2'), sandbox: { profile: 'docker' } })).toEqual([
        400,
        'sandbox profile "docker" is not advertised by runner "r2" (advertised: (none)).',
      ])
      expect(await refused({ url: '/sams/t', principal: 'user:sam', dispatchPolicy: to('r1') })).toBe('spawned')
    } finally {
      await connection.close()
    }
  })
})

describe('a sandbox at spawn (spec/02 §8)', () => {
  const needsProfile = 'sandbox requires a "profile" (or "inherit": true with a parent that has a shared sandbox).'
  const needsRunner =
    'a shared sandbox (sandbox.key / sandbox.inherit) requires the entity to be pinned to a single runner via dispatch_policy, so all collaborators share one host.'

  it.each([
    ['no profile', { dispatch_policy: to('r1'), sandbox: { key: 'k' } }, needsProfile],
    [
      'one that the runner lacks',
      { dispatch_policy: to('r1'), sandbox: { profile: 'cloud' } },
      'sandbox profile "cloud" is not advertised by runner "r1" (advertised: docker, e2b).',
    ],
    [
      'one of a runner that has none',
      { dispatch_policy: to('r2'), sandbox: { profile: 'docker' } },
      'sandbox profile "docker" is not advertised by runner "r2" (advertised: (none)).',
    ],
    [
      'one that nobody has',
      { sandbox: { profile: 'moon' } },
      'sandbox profile "moon" is not offered by any registered runner (available: docker, e2b, cloud).',
    ],
    ['a key for a local one without a runner', { sandbox: { profile: 'docker', key: 'k' } }, needsRunner],
    ['a key for one that is remote here and local there', { sandbox: { profile: 'e2b', key: 'k' } }, needsRunner],
  ])('is refused: %s', async (_, body, message) => {
    expect(await wire.spawn('/sams/sandboxed', body, 'user:sam')).toMatchObject({
      status: 400,
      body: refusal('INVALID_REQUEST', message),
    })
  })

  it.each([
    ['docker', { sandbox: { profile: 'docker' } }, { profile: 'docker' }],
    [
      'scope',
      { sandbox: { profile: 'docker', scope: 'wake', persistent: false } },
      { profile: 'docker', scope: 'wake', persistent: false },
    ],
    ['remote', { sandbox: { profile: 'cloud', key: 'k' } }, { profile: 'cloud', key: 'k' }],
    [
      'pinned',
      { dispatch_policy: to('r1'), sandbox: { profile: 'docker', key: 'k', scope: 'wake', persistent: false, owner: false } },
      { profile: 'docker', key: 'k', persistent: false, owner: false },
    ],
  ])('is stored: %s', async (name, body, sandbox) => {
    expect(await wire.spawned(`/sams/box-${name}`, body, 'user:sam')).toMatchObject({ sandbox })
  })

  it('is inherited by children, who are pinned like their parent', async () => {
    await wire.spawned('/sams/boxed', { dispatch_policy: to('r1'), sandbox: { profile: 'docker', key: 'k' } }, 'user:sam')
    const child = await wire.spawned('/sams/boxed-child', { parent: '/sams/boxed', sandbox: { inherit: true } }, 'user:sam')

    expect(child).toMatchObject({ dispatch_policy: to('r1'), sandbox: { profile: 'docker', key: 'k', owner: false } })
  })

  it('counts the profiles of runners that are disabled or were never seen, and no longer those that were dropped', async () => {
    await runner('brief', 'user:sam', [{ name: 'brief', label: 'B' }])
    expectStatus(200, await wire.ask('POST', '/_electric/runners/brief/disable', undefined, { as: 'user:sam' }))
    await wire.spawned('/sams/brief', { sandbox: { profile: 'brief' } }, 'user:sam')

    await runner('brief', 'user:sam', [])
    expect((await wire.spawn('/sams/brief-2', { sandbox: { profile: 'brief' } }, 'user:sam')).status).toBe(400)
  })
})
