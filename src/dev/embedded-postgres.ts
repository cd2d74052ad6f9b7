/**
 * A real Postgres out of npm, on loopback, with its data in `<folder>/postgres`.
 *
 * E1  Whoever calls holds the lock of the data folder: a postmaster found there was left behind by a killed run, and is stopped.
 * E2  A cluster appears at its place complete: `initdb` works beside it and a rename makes it real.
 * E3  `postmaster.pid` is removed only when no process of that cluster runs (a reused process id must not keep Postgres from starting).
 * E4  It listens on 127.0.0.1 only, without a Unix socket; its password is random, in a file that only its owner reads.
 *
 * A crash leaves a cluster that Postgres recovers by itself, or a half-made `postgres.new` that the next start removes.
 */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chown, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { Child, lastLine, type StopStep } from './child.js'
import { endProcesses, processesWith } from './leftovers.js'
import { type Part, PartFailure } from './part.js'
import { freePort } from './ports.js'
import { type Launch, launchAs, postgresBinaries } from './postgres-launch.js'

export interface EmbeddedPostgresOptions {
  /** The data folder; the cluster is `postgres` in it. */
  readonly folder: string
  readonly port?: number
  readonly flags?: readonly string[]
  readonly logFile?: string
  readonly readyWithinMs?: number
}

export interface PostgresPart extends Part {
  /** Connection URL of the database `agents`, with its password. */
  readonly address: string
  readonly port: number
  readonly pid: number
  /** For tests: the process dies at once, as in a crash. */
  kill(signal: NodeJS.Signals): Promise<void>
}

const user = 'agents'
const databaseName = 'agents'
const majorVersion = '18'
const stopSteps: readonly StopStep[] = [
  { signal: 'SIGINT', withinMs: 2_500 }, // "fast": clients are cut, data is flushed
  { signal: 'SIGQUIT', withinMs: 1_000 }, // "immediate": recovery at next start
]
const startAttempts = 3

export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<PostgresPart> {
  const folder = resolve(options.folder)
  const cluster = join(folder, 'postgres')
  await mkdir(folder, { recursive: true })
  const launch = await launchAs(folder)
  const password = await passwordIn(folder)
  await removeLeftovers(cluster)
  if (!existsSync(join(cluster, 'PG_VERSION'))) await createCluster(cluster, password, launch)
  await checkVersion(cluster)
  await ensureOwner(cluster, launch)
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(cluster, password, launch, options)
    } catch (refusal) {
      const isPassing = refusal instanceof PartFailure && /in use|shared memory|lock file/i.test(refusal.message)
      if (!isPassing || attempt === startAttempts) throw refusal
      await wait(500) // the port was taken meanwhile, or backends of a killed postmaster are still on their way out
    }
  }
}

async function start(cluster: string, password: string, launch: Launch, options: EmbeddedPostgresOptions): Promise<PostgresPart> {
  const port = options.port ?? (await freePort())
  const binaries = await postgresBinaries()
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'max_connections=300', ...(options.flags ?? [])]
  const child = new Child({
    ...launch.command(binaries.postgres, ['-D', cluster, '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])]),
    cwd: '/',
    env: { LC_MESSAGES: 'C' },
    stopSignals: stopSteps,
    ...(options.logFile === undefined ? {} : { logFile: options.logFile }),
  })
  const urlOf = (name: string): string => `postgres://${user}:${password}@127.0.0.1:${port}/${name}`
  try {
    await untilReady(child, urlOf('postgres'), options.readyWithinMs ?? 60_000)
    await ensureDatabase(urlOf('postgres'))
  } catch (refusal) {
    await child.stop()
    throw refusal
  }
  return {
    name: 'Postgres',
    address: urlOf(databaseName),
    shown: `postgres://${user}@127.0.0.1:${port}/${databaseName}`,
    port,
    pid: child.pid ?? 0,
    broken: child.exited.then((exit) => failure(`it ended by itself (${exit.signal ?? `exit code ${exit.code}`}): ${reasonIn(child)}`)),
    kill: async (signal) => {
      child.kill(signal)
      await child.exited
    },
    stop: async () => {
      await child.stop()
    },
  }
}

const reasonIn = (child: Child): string => lastLine(child.output, /FATAL|PANIC|ERROR|error/)

function failure(why: string): PartFailure {
  return new PartFailure(
    'Postgres',
    why,
    'Free what it needs (disk, memory, rights on the data folder) and start again, or set DATABASE_URL to a Postgres of yours.',
  )
}

async function untilReady(child: Child, url: string, withinMs: number): Promise<void> {
  const deadline = Date.now() + withinMs
  for (;;) {
    if (child.exit !== undefined) throw failure(`it did not start: ${reasonIn(child)}`)
    if (await answers(url)) return
    if (Date.now() > deadline) throw failure(`it was not ready within ${withinMs / 1000} s: ${reasonIn(child)}`)
    await wait(25)
  }
}

/** A connection takes a handful of turns of our event loop, each as long as a busy machine makes it. */
const connectedWithinMs = 10_000

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectedWithinMs })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return true
  } catch {
    return false
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function ensureDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [databaseName])
    if (rowCount === 0) await client.query(`CREATE DATABASE ${databaseName}`)
  } finally {
    await client.end()
  }
}

async function removeLeftovers(cluster: string): Promise<void> {
  await endProcesses(processesWith(['-D', cluster]), stopSteps) // E1
  await rm(join(cluster, 'postmaster.pid'), { force: true }) // E3
}

async function createCluster(cluster: string, password: string, launch: Launch): Promise<void> {
  const draft = `${cluster}.new`
  const passwordFile = `${cluster}.pwfile`
  await rm(draft, { recursive: true, force: true })
  await mkdir(draft, { mode: 0o700 })
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  if (launch.owner !== undefined) {
    await chown(draft, launch.owner.uid, launch.owner.gid)
    await chown(passwordFile, launch.owner.uid, launch.owner.gid)
  }
  const { initdb } = await postgresBinaries()
  const args = [`--pgdata=${draft}`, `--username=${user}`, `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--encoding=UTF8']
  const locale = ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'] // the same order of text on every machine
  const child = new Child({ ...launch.command(initdb, [...args, ...locale]), cwd: '/', env: { LC_MESSAGES: 'C' } })
  const exit = await child.exited
  await rm(passwordFile, { force: true })
  if (exit.code !== 0) throw failure(`its data folder could not be made: ${lastLine(child.output, /initdb: error|FATAL|denied/)}`)
  await rename(draft, cluster) // E2
}

/** After a move, or another kind of start, the files may belong to somebody else: Postgres would refuse them. */
async function ensureOwner(cluster: string, { owner }: Launch): Promise<void> {
  if (owner === undefined || (await stat(cluster)).uid === owner.uid) return
  const names = await readdir(cluster, { recursive: true })
  for (const path of [cluster, ...names.map((name) => join(cluster, name))]) await chown(path, owner.uid, owner.gid)
}

async function checkVersion(cluster: string): Promise<void> {
  const version = (await readFile(join(cluster, 'PG_VERSION'), 'utf8')).trim()
  if (version === majorVersion) return
  throw new PartFailure(
    'Postgres',
    `${cluster} was made by Postgres ${version}, this is Postgres ${majorVersion}`,
    'Dump it with the old version, or choose another folder with AGENTS_DATA_DIR.',
  )
}

async function passwordIn(folder: string): Promise<string> {
  const file = join(folder, 'postgres.password')
  if (existsSync(file)) return (await readFile(file, 'utf8')).trim()
  const password = randomBytes(24).toString('hex')
  const draft = `${file}.new`
  await writeFile(draft, password, { mode: 0o600 }) // E4
  await rename(draft, file)
  return password
}
