/** Builds what is stale, starts the shared parts of a test run in a temporary folder, prints where they are, ends with its input. */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeReady } from '../../bin/ready.mjs'

await makeReady()
const { startEmbeddedPostgres } = await import('../../dist/dev/embedded-postgres.js')
const { startTemporalServer } = await import('../../dist/dev/temporal-server.js')

const folder = await mkdtemp(join(tmpdir(), 'agents-test-parts-'))
await chmod(folder, 0o755) // Postgres may run as a user of its own
const say = (line) => process.stderr.write(`${line}\n`)
const [postgres, temporal] = await Promise.all([
  startEmbeddedPostgres({ folder, flags: ['fsync=off'], logFile: join(folder, 'postgres.log') }),
  startTemporalServer({ folder, uiPort: 'none', say, logFile: join(folder, 'temporal.log') }),
])
process.stdout.write(`${JSON.stringify({ postgresUrl: postgres.address, temporalAddress: temporal.address })}\n`)

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => undefined) // jest decides when the run is over
process.stdin.resume()
await new Promise((resolve) => process.stdin.once('close', resolve))
await Promise.all([postgres.stop(), temporal.stop()])
await rm(folder, { recursive: true, force: true })
