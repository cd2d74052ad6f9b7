import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { Database } from '../../src/registry/database.js'
import { migrate } from '../../src/registry/migrate.js'

export interface FreshDatabase {
  readonly url: string
  readonly database: Database
  drop(): Promise<void>
}

async function administer(statement: string): Promise<void> {
  const admin = new pg.Client({ connectionString: process.env.TEST_POSTGRES_URL })
  await admin.connect()
  await admin.query(statement)
  await admin.end()
}

/** An empty, migrated database of the test's own, in the Postgres that the run started. */
export async function freshDatabase(options: { readonly poolMax?: number } = {}): Promise<FreshDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`
  await administer(`CREATE DATABASE ${name}`)
  const url = new URL(process.env.TEST_POSTGRES_URL ?? '')
  url.pathname = `/${name}`
  const database = new Database({ url: url.href, tenant: 'default', poolMax: options.poolMax ?? 10 })
  await migrate(database)
  return {
    url: url.href,
    database,
    drop: async () => {
      await database.close()
      await administer(`DROP DATABASE ${name} WITH (FORCE)`)
    },
  }
}
