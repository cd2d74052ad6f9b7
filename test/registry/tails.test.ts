/** Tenants on one database have streams of the same names, on a foreign server: each links its own, where that ends. */
import { offsetOf, type StreamPath, zeroOffset } from '../../src/domain/ids.js'
import { Database, sql } from '../../src/registry/database.js'
import { linkAtTails } from '../../src/registry/subscription-editing.js'
import { forgetAcks } from '../../src/registry/subscriptions.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

const path = '/logs/a' as StreamPath
let fresh: FreshDatabase
const tenants = new Map<string, Database>()
const of = (tenant: string): Database => tenants.get(tenant) as Database

beforeAll(async () => {
  fresh = await freshDatabase()
  for (const tenant of ['red', 'blue', 'none']) {
    const database = new Database({ url: fresh.url, tenant, poolMax: 2 })
    tenants.set(tenant, database)
    await database.query(sql`
      INSERT INTO subscriptions (tenant_id, id, type, configuration, lease_ttl_ms) VALUES (${tenant}, 's', 'webhook', '', 30000)`)
  }
  const knows = async (tenant: string, tail: number) =>
    await of(tenant).query(sql`INSERT INTO stream_progress (tenant_id, path, processed) VALUES (${tenant}, ${path}, ${offsetOf(tail)})`)
  await Promise.all([knows('red', 7), knows('blue', 9)])
})
afterAll(async () => {
  for (const database of tenants.values()) await database.close()
  await fresh.drop()
})

const ackedOf = async (tenant: string) =>
  (await of(tenant).query(sql`SELECT acked FROM subscription_links WHERE tenant_id = ${tenant}`)).rows[0]?.acked

it('a link begins at the tail of its tenant’s own stream, or at the beginning where there is none', async () => {
  for (const database of tenants.values()) await database.transaction((tx) => linkAtTails(tx, 's', [path], 'explicit'))

  expect([await ackedOf('red'), await ackedOf('blue'), await ackedOf('none')]).toEqual([offsetOf(7), offsetOf(9), zeroOffset])
})

it('acks are forgotten of a stream that begins anew, whosoever else’s stands under that name', async () => {
  await of('none').transaction((tx) => forgetAcks(tx, [path]))
  await of('red').transaction((tx) => forgetAcks(tx, [path]))

  expect([await ackedOf('red'), await ackedOf('blue'), await ackedOf('none')]).toEqual([offsetOf(7), offsetOf(9), '-1'])
})
