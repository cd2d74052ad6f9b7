import { Database } from '../../src/registry/database.js'
import { migratedDatabase } from './own-database.js'

export interface FreshDatabase {
  readonly url: string
  readonly database: Database
  drop(): Promise<void>
}

/** A migrated database of the test's own, without any row, in the Postgres that the run started. */
export async function freshDatabase(options: { readonly poolMax?: number } = {}): Promise<FreshDatabase> {
  const { url, drop } = await migratedDatabase()
  const database = new Database({ url, tenant: 'default', poolMax: options.poolMax ?? 10 })
  return {
    url,
    database,
    drop: async () => {
      await database.close()
      await drop()
    },
  }
}
