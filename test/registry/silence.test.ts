import { randomUUID } from 'node:crypto'
import { Database, isConnectionFailure, sql } from '../../src/registry/database.js'
import { eventually } from '../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'
import { startProxy, type TcpProxy } from '../support/proxy.js'

let fresh: FreshDatabase
let proxy: TcpProxy
let database: Database
beforeAll(async () => {
  fresh = await freshDatabase()
  await fresh.database.query(sql`CREATE TABLE counted (id int PRIMARY KEY, n int NOT NULL)`)
})
beforeEach(async () => {
  await fresh.database.query(sql`DELETE FROM counted`)
  await fresh.database.query(sql`INSERT INTO counted VALUES (1, 0)`)
  const url = new URL(fresh.url)
  proxy = await startProxy(Number(url.port))
  url.hostname = '127.0.0.1'
  url.port = String(proxy.port)
  database = new Database({ url: url.href, tenant: 'default', poolMax: 3, connectTimeoutMs: 1_000, silenceMs: 400, holdMs: 1_000 })
})
afterEach(async () => {
  proxy.heal()
  await database.close()
  await proxy.stop()
})
afterAll(async () => await fresh.drop())

const add = async (n: number) =>
  await database.transaction(async (tx) => await tx.query(sql`UPDATE counted SET n = n + ${n}::int WHERE id = 1`))
const counted = async () => (await fresh.database.query(sql`SELECT n FROM counted`)).rows[0]?.n
const threeAtOnce = async () => await Promise.all([1, 2, 3].map(async () => await database.query(sql`SELECT 1`)))

it('a Postgres that has moved away without a word is found in its new place, and what was asked happens once (D11)', async () => {
  await threeAtOnce()

  proxy.strand()
  await add(1)

  expect(await counted()).toBe(1)
  await threeAtOnce() // those that stood idle went with the one that was asked (S3): a statement outside a transaction is not repeated
})

it('a commit whose answer never comes is looked up', async () => {
  await database.transaction(async (tx) => {
    await tx.query(sql`UPDATE counted SET n = n + 1 WHERE id = 1`)
    tx.last(async () => {
      await tx.query(sql`UPDATE counted SET n = n + 10 WHERE id = 1`)
    })
    proxy.strand('answers')
  })

  expect(await counted()).toBe(11)
})

it('what waits for a frozen Postgres fails in a bounded time, and happens at most once', async () => {
  await add(1)

  proxy.stall()
  const refusals = await Promise.all(
    [add(10), add(100), database.query(sql`SELECT 1`), add(1_000)].map((asked) => asked.catch((failure) => failure)),
  )

  expect(refusals.map(isConnectionFailure)).toEqual([true, true, true, true])
  const late = await database.query(sql`SELECT 1`).catch((failure: unknown) => failure)
  expect((late as Error).message).toContain('does not answer anew') // and at once (S3)
  proxy.heal()
  await eventually(async () => await add(10_000))
  expect(await counted()).toBe(10_001)
})

it('who listens to a Postgres that has moved away hears of it, and listens again', async () => {
  const heard: string[] = []
  let connections = 0
  const listening = database.listen({
    channel: 'silences',
    onNotice: (payload) => heard.push(payload),
    onConnect: () => (connections += 1),
  })
  await eventually(() => connections === 1)

  proxy.strand()

  await eventually(() => connections === 2)
  await fresh.database.query(sql`SELECT pg_notify('silences', 'after')`)
  await eventually(() => heard.includes('after'))
  await listening.close()
})

it('who waits for a lock, or listens where nobody speaks, is not given up (S1, S2)', async () => {
  let connections = 0
  const listening = database.listen({ channel: 'silences', onNotice: () => undefined, onConnect: () => (connections += 1) })
  let bodies = 0
  let waiting: Promise<unknown> = Promise.resolve()
  await fresh.database.transaction(async (tx) => {
    await tx.query(sql`UPDATE counted SET n = n + 1 WHERE id = 1`)
    waiting = database.transaction(async (other) => {
      bodies += 1
      await other.query(sql`UPDATE counted SET n = n + 10 WHERE id = 1`)
    })
    await eventually(() => bodies === 1 && connections === 1)
    const { accepted } = proxy
    await eventually(async () => {
      const { count } = await fresh.database.query(
        sql`SELECT FROM pg_stat_activity WHERE application_name LIKE '%listener' AND query = 'SELECT'`,
      )
      return count > 0 && proxy.accepted >= accepted + 5 // asked about five times
    })
  })
  await waiting

  expect([await counted(), bodies, connections]).toEqual([11, 1, 1])
  await listening.close()
})

it('a Postgres that has no connection left to be asked on is not taken for silent (S1)', async () => {
  const role = `few_${randomUUID().replaceAll('-', '')}`
  await fresh.database.query({ name: `create_${role}`, text: `CREATE ROLE ${role} LOGIN PASSWORD 'few' CONNECTION LIMIT 1`, values: [] })
  const url = Object.assign(new URL(fresh.url), { hostname: '127.0.0.1', port: String(proxy.port), username: role, password: 'few' }).href
  const few = new Database({ url, tenant: 'default', poolMax: 1, silenceMs: 400 })
  let waiting: Promise<{ readonly count: number }> | undefined
  await fresh.database.transaction(async (tx) => {
    await tx.query(sql`SELECT pg_advisory_xact_lock(77)`)
    waiting = few.query(sql`SELECT pg_advisory_xact_lock(77)`)
    await eventually(() => proxy.accepted >= 5) // one, and the looks that were refused
  })

  expect((await waiting)?.count).toBe(1)
  await few.close()
  await fresh.database.query({ name: `drop_${role}`, text: `DROP ROLE ${role}`, values: [] })
})
