/** Builds what is stale, starts the shared parts of a test run in a temporary folder, prints where they are, ends with its input. */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { makeReady } from '../../bin/ready.mjs'

await makeReady()
const { startEmbeddedPostgres } = await import('../../dist/dev/embedded-postgres.js')
const { startTemporalServer } = await import('../../dist/dev/temporal-server.js')
const { Database } = await import('../../dist/registry/database.js')
const { migrate } = await import('../../dist/registry/migrate.js')

const folder = await mkdtemp(join(tmpdir(), 'agents-test-parts-'))
await chmod(folder, 0o755) // Postgres may run as a user of its own
const say = (line) => process.stderr.write(`${line}\n`)
const [postgres, temporal] = await Promise.all([
  startEmbeddedPostgres({ folder, flags: ['fsync=off'], logFile: join(folder, 'postgres.log') }),
  startTemporalServer({ folder, uiPort: 'none', say, logFile: join(folder, 'temporal.log') }),
])
await makeTemplate(postgres.address)
process.stdout.write(`${JSON.stringify({ postgresUrl: postgres.address, temporalAddress: temporal.address })}\n`)

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => undefined) // jest decides when the run is over
process.stdin.resume()
await new Promise((resolve) => process.stdin.once('close', resolve))
await Promise.all([postgres.stop(), temporal.stop()])
await rm(folder, { recursive: true, force: true })

/** What databases of tests are copies of (own-database.ts). Nobody is connected to it when this is done: Postgres would not copy it. */
async function makeTemplate(address) {
  const admin = new pg.Client({ connectionString: address })
  await admin.connect()
  await admin.query('CREATE DATABASE migrated')
  await admin.end()
  const database = new Database({ url: new URL('/migrated', address).href, tenant: 'default', poolMax: 1 })
  await migrate(database)
  await database.close()
}
