import type { StreamPath } from '../../../src/domain/ids.js'
import { sql } from '../../../src/registry/database.js'
import { PostgresStreams } from '../../../src/streams/postgres/store.js'
import { eventually } from '../../support/eventually.js'
import { inTheWay, untilWaitedFor } from '../../support/in-the-way.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'

const warned: [failure: unknown, text: string][] = []
let fresh: FreshDatabase
let store: PostgresStreams

beforeAll(async () => {
  fresh = await freshDatabase()
  store = new PostgresStreams({ database: fresh.database, warn: (...warning) => warned.push(warning) })
})
afterAll(async () => {
  await store.close()
  await fresh.drop()
})

it('a deleted stream that cannot be purged is said to be, and purged once it can', async () => {
  const path = '/plain/kept' as StreamPath
  await store.create(path, { contentType: 'application/json', body: Buffer.from('{"a":1}') })
  await fresh.database.query(sql`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not now''; END'`)
  await fresh.database.query(sql`CREATE TRIGGER refuse BEFORE DELETE ON streams FOR EACH ROW EXECUTE FUNCTION refuse()`)

  await store.delete(path)

  await eventually(() => warned.length > 0)
  expect(warned[0]).toEqual([expect.objectContaining({ message: 'not now' }), 'streams that are gone could not be purged'])
  await fresh.database.query(sql`DROP TRIGGER refuse ON streams`)
  await eventually(async () => (await fresh.database.query(sql`SELECT FROM streams`)).count === 0)
})

it('the path of a stream that is swept at the moment of a create is free', async () => {
  const path = '/plain/swept' as StreamPath
  await store.create(path, { contentType: 'text/plain', expiresAt: '2020-01-01T00:00:00Z' })
  let created: ReturnType<typeof store.create> | undefined

  await inTheWay(fresh.url, async (tx) => {
    await tx.query('SELECT FROM streams WHERE path = $1 FOR UPDATE', [path])
    created = store.create(path, { contentType: 'application/json' })
    await untilWaitedFor(tx)
    await tx.query('UPDATE streams SET path = NULL, gone_at = now(), expires_at = NULL WHERE path = $1', [path])
  })

  expect(await created).toMatchObject({ outcome: 'created', head: { contentType: 'application/json' } })
})
