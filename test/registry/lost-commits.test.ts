import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { type PostgresPart, startEmbeddedPostgres } from '../../src/dev/embedded-postgres.js'
import { CommitUnknown, Database, sql } from '../../src/registry/database.js'
import { eventually } from '../support/eventually.js'
import { ownPort } from '../support/ports.js'

let folder: string
let port: number
let postgres: PostgresPart
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agents-lost-'))
  await chmod(folder, 0o755) // Postgres may run as a user of its own
  port = await ownPort()
  postgres = await startEmbeddedPostgres({ folder, port })
})
afterAll(async () => {
  await postgres.stop()
  await rm(folder, { recursive: true, force: true })
})

async function asked<Row>(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
  const client = new pg.Client({ connectionString: postgres.address })
  await client.connect()
  try {
    return (await client.query(text, [...values])).rows as Row[]
  } finally {
    await client.end()
  }
}

/** Commits transactions until the id `xid` is somebody's. False where it was not given out again: what it wrote had become durable. */
async function givenOutAgain(xid: string): Promise<boolean> {
  for (let turn = 0; turn < 200; turn += 1) {
    const [row] = await asked<{ mine: string; status: string | null }>(
      'WITH written AS (INSERT INTO lost (name) VALUES ($2) RETURNING 1) SELECT pg_current_xact_id()::text AS mine, pg_xact_status($1::xid8) AS status FROM written',
      [xid, 'other'],
    )
    if (row?.mine === xid) return true
    if (BigInt(row?.mine ?? 0) > BigInt(xid)) return false
  }
  return false
}

describe('a commit whose answer was lost with a crash of Postgres (D5)', () => {
  it('is never said to have happened because its id was given out again', async () => {
    await asked('CREATE TABLE lost (name text)')
    let again = 0
    for (let round = 0; round < 10 && again < 2; round += 1) {
      const name = `round-${round}`
      const database = new Database({ url: postgres.address, tenant: 'default', poolMax: 2, holdMs: 20_000 })
      let attempts = 0
      const outcome = await database
        .transaction(async (tx) => {
          attempts += 1
          const { rows } = await tx.query(sql`INSERT INTO lost (name) VALUES (${name}) RETURNING pg_current_xact_id()::text AS xid`)
          if (attempts > 1) return 'repeated'
          await postgres.kill('SIGKILL')
          postgres = await eventually(async () => await startEmbeddedPostgres({ folder, port }), { withinMs: 30_000 })
          if (await givenOutAgain(String(rows[0]?.xid))) again += 1
          return 'first'
        })
        .catch((failure: unknown) => failure)
      await database.close()

      const rows = await asked('SELECT 1 FROM lost WHERE name = $1', [name])
      if (outcome instanceof CommitUnknown) expect(rows.length).toBeLessThanOrEqual(1)
      else expect([outcome, rows.length, database.era]).toEqual([outcome === 'first' ? 'first' : 'repeated', 1, 2])
    }
    expect(again).toBeGreaterThan(0)
  }, 120_000)
})
