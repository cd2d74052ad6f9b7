/** Databases of a test's own, in the Postgres that the run started. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'

export interface OwnDatabase {
  readonly url: string
  drop(): Promise<void>
}

/** Migrated once a run (run-parts.mjs): a copy costs a third of migrating anew. Who starts on an empty one is test/registry/migrate.test.ts. */
const migrated = 'migrated'

export const migratedDatabase = async (): Promise<OwnDatabase> => await create(`TEMPLATE ${migrated}`)

export const emptyDatabase = async (): Promise<OwnDatabase> => await create('')

async function create(how: string): Promise<OwnDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`
  await administer(`CREATE DATABASE ${name} ${how}`)
  const url = new URL(process.env.TEST_POSTGRES_URL ?? '')
  url.pathname = `/${name}`
  return { url: url.href, drop: async () => await administer(`DROP DATABASE ${name} WITH (FORCE)`) }
}

async function administer(statement: string): Promise<void> {
  const admin = new pg.Client({ connectionString: process.env.TEST_POSTGRES_URL })
  await admin.connect()
  await admin.query(statement)
  await admin.end()
}
