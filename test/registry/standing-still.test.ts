import { randomUUID } from 'node:crypto'
import { Database, isConnectionFailure, sql } from '../../src/registry/database.js'
import { eventually } from '../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
  await fresh.database.query(sql`CREATE TABLE counted (id int PRIMARY KEY, n int NOT NULL)`)
  await fresh.database.query(sql`INSERT INTO counted VALUES (1, 0)`)
})
afterAll(async () => await fresh.drop())

it('a process that stands still in a transaction holds nobody up for long, and what it was about happens once (D10)', async () => {
  const standing = new Database({ url: fresh.url, tenant: 'default', poolMax: 1, standStillMs: 300 })
  let bodies = 0
  let goOn = (): void => undefined
  const standsStill = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const stood = standing.transaction(async (tx) => {
    await tx.query(sql`UPDATE counted SET n = n + 1 WHERE id = 1`)
    bodies += 1 // and the row is held
    if (bodies === 1) await standsStill
    await tx.query(sql`UPDATE counted SET n = n + 10 WHERE id = 1`)
  })
  await eventually(() => bodies === 1)

  await fresh.database.query(sql`UPDATE counted SET n = n + 100 WHERE id = 1`) // waits for the row
  goOn()
  await stood

  expect([bodies, (await fresh.database.query(sql`SELECT n FROM counted`)).rows]).toEqual([2, [{ n: 111 }]])
  await standing.close()
})

it('a Postgres that has no connection left is away, not wrong: who waits gets the next one', async () => {
  const role = `few_${randomUUID().replaceAll('-', '')}`
  await fresh.database.query({ name: `create_${role}`, text: `CREATE ROLE ${role} LOGIN PASSWORD 'few' CONNECTION LIMIT 1`, values: [] })
  const url = Object.assign(new URL(fresh.url), { username: role, password: 'few' }).href
  const [first, second] = [new Database({ url, tenant: 'default', poolMax: 1 }), new Database({ url, tenant: 'default', poolMax: 1 })]
  await first.query(sql`SELECT 1`)

  const refused = await second.query(sql`SELECT 1`).catch((failure: unknown) => failure)
  expect([(refused as { readonly code?: string }).code, isConnectionFailure(refused)]).toEqual(['53300', true])
  const waiting = second.transaction(async (tx) => (await tx.query(sql`SELECT 7 AS n`)).rows)
  await first.close()

  expect(await waiting).toEqual([{ n: 7 }])
  await second.close()
  await fresh.database.query({ name: `drop_${role}`, text: `DROP ROLE ${role}`, values: [] })
})
