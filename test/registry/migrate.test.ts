import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { Database } from '../../src/registry/database.js'
import { migrate } from '../../src/registry/migrate.js'
import { eventually } from '../support/eventually.js'
import { emptyDatabase, type OwnDatabase } from '../support/own-database.js'

const files = ['../../src/registry/migrations', '../../src/streams/postgres/migrations']
  .map((folder) => fileURLToPath(new URL(folder, import.meta.url)))
  .flatMap((folder) => readdirSync(folder).map((name) => ({ name, text: readFileSync(join(folder, name), 'utf8') })))
  .sort((a, b) => (a.name < b.name ? -1 : 1))

let own: OwnDatabase
let processes: readonly [Database, Database, Database]
let client: pg.Client
beforeEach(async () => {
  own = await emptyDatabase()
  const ofOne = () => new Database({ url: own.url, tenant: 'default', poolMax: 10 })
  processes = [ofOne(), ofOne(), ofOne()]
  client = new pg.Client({ connectionString: own.url })
  await client.connect()
})
afterEach(async () => {
  await client.end()
  await Promise.all(processes.map((database) => database.close()))
  await own.drop()
})

const migrateAll = async () => await Promise.all(processes.map((database) => migrate(database)))

describe('migrations', () => {
  it('of an empty database are applied once, by one of the processes that start at once', async () => {
    const applied = await migrateAll()

    expect(applied.filter((names) => names.length === 0)).toHaveLength(2)
    expect(applied.flat()).toEqual(files.map(({ name }) => name))
    expect(await migrateAll()).toEqual([[], [], []])
  })

  it('of a newer server are refused by name, and nothing is touched', async () => {
    await migrate(processes[0])
    await client.query(`INSERT INTO schema_migrations (name, checksum) VALUES ('9998-later.sql', 'x'), ('9999-later.sql', 'y')`)
    await client.query(`DELETE FROM schema_migrations WHERE name = '${files.at(-1)?.name}'`)

    await expect(migrate(processes[0])).rejects.toThrow(
      'the database is newer than this server, which does not know its 9998-later.sql, 9999-later.sql: start the version that has applied this, or a later one',
    )
    const { rows } = await client.query(`SELECT 1 FROM schema_migrations WHERE name = '${files.at(-1)?.name}'`)
    expect(rows).toEqual([])
  })

  it('that were changed after they had been applied are refused by name', async () => {
    await migrate(processes[0])
    await client.query(`UPDATE schema_migrations SET checksum = 'x' WHERE name = '0002-streams.sql'`)

    await expect(migrate(processes[0])).rejects.toThrow('migration 0002-streams.sql was changed after it had been applied')
  })
})

describe('a database with data that stands at an older migration', () => {
  const older = files.filter(({ name }) => name < '0010')
  const later = files.filter(({ name }) => name >= '0010').map(({ name }) => name)
  beforeEach(async () => {
    await client.query(
      'CREATE TABLE schema_migrations (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())',
    )
    for (const { name, text } of older) {
      await client.query(text)
      const checksum = createHash('sha256').update(text).digest('hex')
      await client.query('INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)', [name, checksum])
    }
    await client.query(`
      INSERT INTO entities (tenant_id, url, type, status, created_at, updated_at) VALUES ('default', '/chat/a', 'chat', 'idle', 1, 1), ('default', '/chat/b', 'chat', 'idle', 1, 1);
      INSERT INTO lineage (tenant_id, ancestor_url, descendant_url, depth) VALUES ('default', '/chat/a', '/chat/b', 1);
      INSERT INTO streams (tenant_id, path, content_type, json, tail, closed) VALUES ('default', '/chat/a/main', 'application/json', true, 2, false);
      INSERT INTO stream_entries (stream_id, end_offset, data)
        SELECT id, position, data FROM streams, (VALUES (1, '{"type":"manifest"}'::bytea), (2, '{"type":"run","value":{"status":"completed"}}'::bytea)) e (position, data)`)
  })

  it('is brought up to date with its data', async () => {
    expect(await migrate(processes[0])).toEqual(later)

    const marks = await client.query('SELECT marks FROM stream_entries ORDER BY end_offset')
    expect(marks.rows).toEqual([{ marks: 1 }, { marks: 2 }])
    await client.query(`DELETE FROM entities WHERE url = '/chat/b'`)
    expect((await client.query('SELECT 1 FROM lineage')).rows).toEqual([])
  })

  it('whose migrating process dies on the way is brought on by the next one, from where that stood', async () => {
    await client.query('BEGIN; LOCK TABLE stream_entries')
    const dying = migrate(processes[0])
    const refused = expect(dying).rejects.toThrow(/^migration 0010-marks\.sql failed: terminating connection/)
    const inTheMiddle = await eventually(async () => await waitingFor('relation'))
    const others = Promise.all(processes.slice(1).map((database) => migrate(database)))
    await eventually(async () => await waitingFor('advisory'))

    await client.query('SELECT pg_terminate_backend($1)', [inTheMiddle])
    await refused
    await client.query('COMMIT')

    expect((await others).flat()).toEqual(later.filter((name) => name !== '0010-forks.sql'))
  })

  async function waitingFor(lock: string): Promise<unknown> {
    const { rows } = await client.query(
      `SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = current_database() AND locktype = '${lock}' AND NOT granted`,
    )
    return rows[0]?.pid
  }
})
