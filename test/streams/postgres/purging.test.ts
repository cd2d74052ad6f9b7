import type { StreamPath } from '../../../src/domain/ids.js'
import { sql } from '../../../src/registry/database.js'
import { PostgresStreams } from '../../../src/streams/postgres/store.js'
import { eventually } from '../../support/eventually.js'
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
