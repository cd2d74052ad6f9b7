/** Everything that is measured, started by the bench itself: Postgres, Temporal, our server, the floors, the generator. Free ports, temporary folders. */
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { type AgentsPart, startAgentsServer } from '../src/dev/agents-server.js'
import { startEmbeddedPostgres } from '../src/dev/embedded-postgres.js'
import { freePort } from '../src/dev/ports.js'
import { startTemporalServer } from '../src/dev/temporal-server.js'
import { CommandProcess } from './processes.js'

export interface ServerOptions {
  readonly databaseUrl: string
  readonly taskQueue: string
}

export interface BenchParts {
  /** Of our server. */
  readonly url: string
  readonly serverPid: number
  /** Of the shell whose routes do nothing. */
  readonly shellUrl: string
  readonly databaseUrl: string
  readonly generator: CommandProcess
  readonly floors: CommandProcess
  /** Of Postgres, Temporal, server. */
  readonly versions: Readonly<Record<string, string>>
  /** A database of its own, empty. */
  newDatabase(name: string): Promise<string>
  /** One more server; the caller stops it. */
  startServer(options: ServerOptions): Promise<AgentsPart>
  stop(): Promise<void>
}

export async function startParts(): Promise<BenchParts> {
  const folder = await mkdtemp(join(tmpdir(), 'agents-bench-'))
  await chmod(folder, 0o755) // Postgres may run as a user of its own
  const undo: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })]
  const stop = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const [postgres, temporal] = await Promise.all([
      startEmbeddedPostgres({ folder, logFile: join(folder, 'postgres.log') }),
      startTemporalServer({ folder, uiPort: 'none', logFile: join(folder, 'temporal.log') }),
    ])
    undo.push(
      () => postgres.stop(),
      () => temporal.stop(),
    )
    const startServer = async ({ databaseUrl, taskQueue }: ServerOptions) =>
      await startAgentsServer({
        host: '127.0.0.1',
        port: await freePort(),
        folder,
        env: environment(databaseUrl, temporal.address, taskQueue),
      })
    const server = await startServer({ databaseUrl: postgres.address, taskQueue: 'agents' })
    undo.push(() => server.stop())
    process.env.BENCH_DATABASE_URL = postgres.address
    process.env.BENCH_TEMPORAL_ADDRESS = temporal.address
    const floors = await CommandProcess.start('./floor-process.ts')
    undo.push(() => floors.stop())
    const generator = await CommandProcess.start('./load-process.ts')
    undo.push(() => generator.stop())
    return {
      url: server.address,
      serverPid: server.pid,
      shellUrl: floors.ready,
      databaseUrl: postgres.address,
      generator,
      floors,
      versions: { Postgres: await versionOf(postgres.address), Temporal: temporal.binary.version, Node: process.versions.node },
      newDatabase: async (name) => await newDatabase(postgres.address, name),
      startServer,
      stop,
    }
  } catch (failure) {
    await stop()
    throw failure
  }
}

const environment = (databaseUrl: string, temporalAddress: string, taskQueue: string) => ({
  ELECTRIC_AGENTS_DATABASE_URL: databaseUrl,
  ELECTRIC_AGENTS_DURABLE_STREAMS_URL: undefined,
  ELECTRIC_AGENTS_TASK_QUEUE: taskQueue,
  ELECTRIC_AGENTS_LOG_FILE: 'false',
  ELECTRIC_AGENTS_LOG_LEVEL: 'warn',
  TEMPORAL_ADDRESS: temporalAddress,
  TEMPORAL_NAMESPACE: 'default',
  NODE_OPTIONS: process.env.BENCH_SERVER_NODE_OPTIONS,
})

async function versionOf(url: string): Promise<string> {
  return await asked(url, async (client) => String((await client.query('SHOW server_version')).rows[0]?.server_version))
}

async function newDatabase(url: string, name: string): Promise<string> {
  await asked(url, async (client) => await client.query(`CREATE DATABASE ${name}`))
  const made = new URL(url)
  made.pathname = `/${name}`
  return made.href
}

async function asked<Result>(url: string, ask: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await ask(client)
  } finally {
    await client.end()
  }
}

/** Resident memory of a process, in MiB. */
export async function memoryOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) / 1_024
}
