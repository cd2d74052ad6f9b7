/** Two servers for two tenants on one database and one Temporal namespace (spec/01 §2). */
import { Client, Connection } from '@temporalio/client'
import { spawn } from '../../src/client/index.js'
import { type Answer, expectStatus, Wire, type WireEvent } from '../support/wire.js'

const tenants = ['red', 'blue'] as const
type Tenant = (typeof tenants)[number]

let wire: Wire
beforeAll(async () => {
  const serverEnv = (index: number) => ({ ELECTRIC_AGENTS_SERVICE: tenants[index], ELECTRIC_AGENTS_TASK_QUEUE: undefined })
  wire = await Wire.start({ replicas: 2, serverEnv })
  expectStatus(201, await ask('blue', 'POST', '/_electric/entity-types', { name: 'chat', description: 'chat' }))
})
afterAll(async () => await wire.stop())

async function ask(tenant: Tenant, method: string, path: string, body?: unknown): Promise<Answer> {
  return await wire.ask(method, path, body, { at: wire.house.urls[tenants.indexOf(tenant)] ?? '' })
}

const rowOf = async (tenant: Tenant, url: string) =>
  await wire.sql('SELECT status, updated_at, xmin::text AS xmin FROM entities WHERE tenant_id = $1 AND url = $2', tenant, url)

describe('two tenants', () => {
  it('have entities of their own at one URL, however many are spawned at once', async () => {
    const ids = Array.from({ length: 20 }, (_, index) => index)
    const spawns = ids.flatMap((id) =>
      tenants.map(async (tenant) => await ask(tenant, 'PUT', `/_electric/entities/chat/${id}`, { args: { tenant } })),
    )

    expect((await Promise.all(spawns)).map(({ status }) => status)).toEqual(spawns.map(() => 201))
    for (const tenant of tenants) {
      const events = expectStatus(200, await ask(tenant, 'GET', '/chat/7/main?offset=-1')).body as WireEvent[]
      expect(events.map(({ value }) => value?.args)).toEqual([{ tenant }])
    }
    expect(await wire.sql(`SELECT tenant_id, count(*)::int AS count FROM entities WHERE type = 'chat' GROUP BY 1 ORDER BY 1`)).toEqual([
      { tenant_id: 'blue', count: 20 },
      { tenant_id: 'red', count: 20 },
    ])
  })

  it.each(['SIGUSR', 'SIGSTOP', 'SIGKILL'])('do not touch each other’s rows and streams with %s (DEVIATE)', async (signal) => {
    const url = `/chat/by-${signal}`
    for (const tenant of tenants) expectStatus(201, await ask(tenant, 'PUT', `/_electric/entities${url}`, {}))
    const before = await rowOf('blue', url)

    expectStatus(200, await ask('red', 'POST', `/_electric/entities${url}/signal`, { signal }))

    expect(await rowOf('blue', url)).toEqual(before)
    expect((await ask('blue', 'GET', `${url}/main?offset=-1`)).body).toHaveLength(1)
    expect((await ask('blue', 'POST', `/_electric/entities${url}/send`, { payload: 1 })).status).toBe(200)
  })

  it('are served by workers of their own, also for services that start workflows', async () => {
    const connection = await Connection.connect({ address: wire.house.temporalAddress })
    const client = new Client({ connection, namespace: wire.house.namespace })

    for (const tenant of tenants)
      for (let id = 0; id < 5; id += 1)
        await spawn(client, { url: `/chat/service-${tenant}-${id}`, principal: 'system:dev-local' }, { taskQueue: `agents:${tenant}` })
    await connection.close()

    expect(
      await wire.sql(
        `SELECT DISTINCT tenant_id, split_part(url, '-', 2) AS wanted FROM entities WHERE url LIKE '/chat/service-%' ORDER BY 1`,
      ),
    ).toEqual([
      { tenant_id: 'blue', wanted: 'blue' },
      { tenant_id: 'red', wanted: 'red' },
    ])
  })

  it('see only their own', async () => {
    expectStatus(201, await ask('red', 'PUT', '/_electric/entities/chat/red-only', {}))
    const listed = (await ask('blue', 'GET', '/_electric/entities?type=chat')).text

    expect(listed).not.toContain('red-only')
    expect((await ask('blue', 'GET', '/_electric/entities/chat/red-only')).status).toBe(404)
    expect((await ask('blue', 'GET', '/chat/red-only/main?offset=-1')).status).toBe(404)
  })
})
