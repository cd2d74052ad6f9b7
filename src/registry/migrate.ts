/**
 * Migrations: numbered SQL files, each applied once, in order, in a transaction of its own.
 * An advisory lock lets several processes start at once; a changed file that was already applied is refused (by checksum), and so is a database that a
 * newer server has brought further: what we would write there, nobody has thought of.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Client } from 'pg'
import type { Database } from './database.js'

const lockKey = 7_233_437
const folders = [new URL('./migrations/', import.meta.url), new URL('../streams/postgres/migrations/', import.meta.url)].map((url) =>
  fileURLToPath(url),
)

interface Migration {
  readonly name: string
  readonly text: string
  readonly checksum: string
}

async function migrationsIn(folder: string): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql'))
  return await Promise.all(
    files.map(async (name) => {
      const text = await readFile(`${folder}/${name}`, 'utf8')
      return { name, text, checksum: createHash('sha256').update(text).digest('hex') }
    }),
  )
}

/** What a database holds and what this server brings do not go together: one line that says so. */
export class MigrationFailure extends Error {}

/** Brings the schema up to date. Names of the migrations that were applied now. */
export async function migrate(database: Database): Promise<string[]> {
  const migrations = (await Promise.all(folders.map(migrationsIn))).flat().sort((a, b) => (a.name < b.name ? -1 : 1))
  const client = await database.dedicated()
  try {
    await client.query('SELECT pg_advisory_lock($1)', [lockKey])
    await client.query(`CREATE TABLE IF NOT EXISTS schema_migrations
      (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`)
    const { rows } = await client.query<{ name: string; checksum: string }>('SELECT name, checksum FROM schema_migrations')
    const applied = new Map(rows.map((row) => [row.name, row.checksum]))
    refuseNewer(migrations, [...applied.keys()])
    const missing = migrations.filter((migration) => !isApplied(migration, applied))
    for (const migration of missing) await apply(client, migration)
    return missing.map((migration) => migration.name)
  } finally {
    await client.end() // gives the lock back too
  }
}

function isApplied(migration: Migration, applied: ReadonlyMap<string, string>): boolean {
  const checksum = applied.get(migration.name)
  if (checksum === undefined) return false
  if (checksum !== migration.checksum)
    throw new MigrationFailure(`migration ${migration.name} was changed after it had been applied: start the version that has applied it`)
  return true
}

function refuseNewer(migrations: readonly Migration[], applied: readonly string[]): void {
  const unknown = applied.filter((name) => !migrations.some((migration) => migration.name === name)).sort()
  if (unknown.length === 0) return
  throw new MigrationFailure(
    `the database is newer than this server, which does not know its ${unknown.join(', ')}: start the version that has applied this, or a later one`,
  )
}

async function apply(client: Client, migration: Migration): Promise<void> {
  try {
    await client.query('BEGIN')
    await client.query(migration.text)
    await client.query('INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)', [migration.name, migration.checksum])
    await client.query('COMMIT')
  } catch (failure) {
    await client.query('ROLLBACK').catch(() => undefined) // where the connection is lost, so is the transaction
    throw new MigrationFailure(`migration ${migration.name} failed: ${failure instanceof Error ? failure.message : String(failure)}`, {
      cause: failure,
    })
  }
}
