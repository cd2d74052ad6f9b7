import { Client, Connection } from '@temporalio/client'
import { AgentsError, spawn } from '../../src/client/index.js'
import type { DispatchPolicy } from '../../src/domain/entity.js'
import { eventually } from '../support/eventually.js'
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

describe.each(['postgres', 'http'] as const)('with streams in %s:', (kind) => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start({ streams: kind })
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
        expect(await wire.spawn('/sams/a', { dispatch_policy: to('r1', subscription) }, 'user:sam')).toMatchObject(
          unclaimable(subscription),
        )
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
      await wire.register(
        'strict',
        { creation_schema: { type: 'object', required: ['x'] }, default_dispatch_policy: to('none') },
        'user:sam',
      )
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

  describe('a wake for a runner', () => {
    const announcedAt = async (path: string): Promise<readonly { readonly stream: string; readonly subscription_id: string }[]> =>
      expectStatus(200, await wire.ask('GET', `${path}?offset=-1`, undefined, { as: 'user:sam' })).body as never // what its owner reads
    const health = async (id: string) =>
      expectStatus(200, await wire.ask('GET', `/_electric/runners/${id}/health`, undefined, { as: 'user:sam' })).body
    const register = async (id: string, more: object = {}) =>
      expectStatus(201, await wire.ask('POST', '/_electric/runners', { id, label: id, ...more }, { as: 'user:sam' }))

    it('is announced where it reads, and shows in its health', async () => {
      await register('my laptop')
      await wire.spawned('/sams/quiet', { dispatch_policy: to('my laptop') }, 'user:sam')
      await wire.spawned('/sams/woken', { dispatch_policy: to('my laptop'), initialMessage: 'hello' }, 'user:sam')

      const [event] = await eventually(async () => {
        const events = await announcedAt('/runners/my%20laptop/wake')
        return events.length > 0 && events
      })
      expect(event).toMatchObject({
        type: 'wake',
        stream: 'sams/woken/main',
        subscription_id: expect.stringMatching(/^runner:my laptop:[0-9a-f]{16}$/),
      })
      expect(await health('my laptop')).toMatchObject({
        claims: { active_count: 0, active: [] },
        dispatch: { entities_with_active_claim: 0, entities_with_outstanding_wake: 1, entities_with_pending_work: 1 },
      })
    })

    it('goes where it reads now, once it has registered another wake stream (MUST NOT copy)', async () => {
      await register('moving')
      await wire.spawned('/sams/before', { dispatch_policy: to('moving'), initialMessage: 'hello' }, 'user:sam')
      await eventually(async () => (await announcedAt('/runners/moving/wake')).length === 1)

      await register('moving', { wake_stream: '/wakes/moved' })
      await wire.spawned('/sams/after', { dispatch_policy: to('moving'), initialMessage: 'hello' }, 'user:sam')
      await wire.sql(`UPDATE subscriptions SET due_at = now() WHERE runner_id = 'moving' AND lease_until IS NULL`) // not in ten seconds

      await eventually(async () => {
        const streams = new Set((await announcedAt('/wakes/moved')).map(({ stream }) => stream))
        return streams.has('sams/before/main') && streams.has('sams/after/main')
      })
      expect(await announcedAt('/runners/moving/wake')).toHaveLength(1)
    })

    it('is shown where it goes, also of an entity that was there before the runner registered another wake stream (spec/07 §6.3)', async () => {
      await register('shown')
      await wire.spawned('/sams/shown', { dispatch_policy: to('shown') }, 'user:sam')

      await register('shown', { wake_stream: '/wakes/shown' })
      expectStatus(200, await wire.send('/sams/shown', { payload: 'hello' }, 'user:sam'))

      const [subscription] = await wire.sql(`SELECT id FROM subscriptions WHERE runner_id = 'shown'`)
      const shown = await wire.ask('GET', `/__ds/subscriptions/${encodeURIComponent(String(subscription?.id))}`)
      expect(expectStatus(200, shown).body).toMatchObject({ wake_stream: 'wakes/shown' })
      expect(await wire.sql(`SELECT runner_wake_stream FROM wake_notifications WHERE entity_url = '/sams/shown'`)).toEqual([
        { runner_wake_stream: '/wakes/shown' },
      ])
    })

    it('comes of any message: whoever may send makes the runner of its owner work (spec/06 §9, spec/07 §6.2)', async () => {
      await register('asked')
      await wire.spawned('/sams/asked', { dispatch_policy: to('asked') }, 'user:sam')
      expect(await wire.spawn('/sams/own', { dispatch_policy: to('asked') }, 'system:dev-local')).toMatchObject(notOwned)

      expectStatus(200, await wire.send('/sams/asked', { payload: 'hello' }, 'system:dev-local'))

      await eventually(async () => (await announcedAt('/runners/asked/wake')).some(({ stream }) => stream === 'sams/asked/main'))
    })

    it('comes of the first message after its type has got a default, which the entity takes over for good, owned by whomever (spec/06 §9 "Backfill")', async () => {
      await register('late')
      const shown = async () =>
        expectStatus(200, await wire.get('/later/a', 'user:sam')).body as {
          readonly dispatch_policy?: unknown
          readonly updated_at: number
        }
      const policyOf = async () => (await shown()).dispatch_policy
      await wire.register('later', {}, 'user:sam')
      await wire.spawned('/later/a', { initialMessage: 'before' }, 'user:sam')
      expectStatus(200, await wire.send('/later/a', { payload: 'still before' }, 'user:sam'))
      const before = await policyOf()
      const { updated_at } = await shown()
      await wire.register('later', { default_dispatch_policy: to('late') }, 'user:sam')
      expectStatus(200, await wire.send('/later/a', { payload: 'first' }, 'system:dev-local'))

      await eventually(async () => (await announcedAt('/runners/late/wake')).some(({ stream }) => stream === 'later/a/main'))
      const taken = await policyOf()
      expect((await shown()).updated_at).toBeGreaterThan(updated_at)
      await wire.register('later', { default_dispatch_policy: to('r2') }, 'user:sam')
      expectStatus(200, await wire.send('/later/a', { payload: 'second' }, 'user:sam'))
      expect([before ?? null, taken, await policyOf()]).toEqual([null, to('late'), to('late')])
      expect(await wire.sql("SELECT runner_id FROM subscriptions WHERE entity_url = '/later/a'")).toEqual([{ runner_id: 'late' }])
    })

    it('has the subscription of its scope, or of its runner where no scope is given (spec/06 §9)', async () => {
      await wire.spawned('/sams/scope-own', { dispatch_policy: to('r2') }, 'user:sam')
      await wire.spawned('/sams/scope-given', { dispatch_policy: to('r2', 'runner:r2:scope') }, 'user:sam')
      const idOf = async (url: string) => (await wire.sql('SELECT id FROM subscriptions WHERE entity_url = $1', url))[0]?.id

      expect(await idOf('/sams/scope-own')).toMatch(/^runner:r2:[0-9a-f]{16}$/)
      expect(await idOf('/sams/scope-given')).toMatch(/^runner:r2:scope:[0-9a-f]{16}$/)
    })

    it('that is claimed shows in its health while its lease holds', async () => {
      await register('claiming')
      await wire.spawned('/sams/claimed', { dispatch_policy: to('claiming') }, 'user:sam')
      await wire.sql(`
      INSERT INTO consumer_claims (consumer_id, epoch, wake_id, entity_url, stream_path, runner_id, status, claimed_at, last_heartbeat_at, lease_expires_at)
      VALUES ('w_holds', 1, 'w_holds', '/sams/claimed', '/sams/claimed/main', 'claiming', 'active', now(), now(), now() + interval '1 minute'),
             ('w_over', 2, 'w_over', '/sams/claimed', '/sams/claimed/main', 'claiming', 'active', now(), NULL, now() - interval '1 second'),
             ('w_done', 3, 'w_done', '/sams/claimed', '/sams/claimed/main', 'claiming', 'released', now(), now(), now() + interval '1 minute'),
             ('w_other', 4, 'w_other', '/sams/claimed', '/sams/claimed/main', 'r2', 'active', now(), now(), now() + interval '1 minute')`)
      await wire.sql(`
      INSERT INTO entity_dispatch_state (entity_url, active_consumer_id, active_runner_id) VALUES ('/sams/claimed', 'w_holds', 'claiming')
          ON CONFLICT (tenant_id, entity_url) DO UPDATE SET active_consumer_id = 'w_holds', active_runner_id = 'claiming'`)
      const time = expect.stringMatching(/^\d{4}-.*Z$/)

      expect(await health('claiming')).toMatchObject({
        claims: {
          active_count: 1,
          active: [
            {
              consumer_id: 'w_holds',
              epoch: 1,
              entity_url: '/sams/claimed',
              stream_path: '/sams/claimed/main',
              claimed_at: time,
              last_heartbeat_at: time,
              lease_expires_at: time,
            },
          ],
        },
        dispatch: { entities_with_active_claim: 1, entities_with_outstanding_wake: 0, entities_with_pending_work: 0 },
      })
    })
  })
})
