/**
 * A house: the real processes of our server on free ports, in a folder, a database and a Temporal namespace of its own.
 *
 * H1  A part keeps its address, and its data, over kill and restart.
 * H2  `stop` leaves no process, folder or database of the house behind; if the test dies, the warden ends its processes.
 * H3  Parts shared with other tests (Postgres and Temporal of the run) cannot be killed: ask for own ones.
 */
import { execFileSync } from 'node:child_process'
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startAgentsServer, startAgentsWorker } from '../../src/dev/agents-server.js'
import { startEmbeddedPostgres } from '../../src/dev/embedded-postgres.js'
import { startTemporalServer } from '../../src/dev/temporal-server.js'
import { type ForeignStreams, startForeignStreams } from './foreign-streams.js'
import { migratedDatabase } from './own-database.js'
import { ownPort } from './ports.js'
import { ownNamespace, quietNamespace } from './temporal.js'

export interface HouseOptions {
  /** Where streams live: in Postgres (default), or on a foreign Durable Streams server. */
  readonly streams?: 'postgres' | 'http'
  /** Servers on the same database; default 1. */
  readonly replicas?: number
  /** Default `in-process`; `separate`: servers without a worker, and one worker process. */
  readonly worker?: 'in-process' | 'separate'
  /** Parts of the house's own, so that they can be killed. */
  readonly own?: readonly ('postgres' | 'temporal')[]
  /** For servers and workers; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Servers that are given a variable of their own, by index. */
  readonly serverEnv?: (index: number) => Readonly<Record<string, string | undefined>>
}

/** `server` is the first replica, `server-1` the second … */
export type PartId = 'postgres' | 'temporal' | 'streams' | 'worker' | 'server' | `server-${number}`

interface HousePart {
  pid(): number
  start(): Promise<void>
  kill(signal: NodeJS.Signals): Promise<void>
  /** Ends it politely; its data stays. */
  halt(): Promise<void>
  /** Ends it for good. */
  stop(): Promise<void>
}

interface Killable {
  readonly pid: number
  kill(signal: NodeJS.Signals): Promise<void>
  stop(): Promise<void>
}

/** A part that `launch` starts anew each time, always at the same address (H1). */
function relaunched(launch: () => Promise<Killable>): HousePart {
  let current: Killable | undefined
  return {
    pid: () => current?.pid ?? 0,
    start: async () => {
      current = await launch()
    },
    kill: async (signal) => await current?.kill(signal),
    halt: async () => await current?.stop(),
    stop: async () => await current?.stop(),
  }
}

const taskQueue = 'agents'

interface Ground {
  readonly folder: string
  readonly databaseUrl: string
  readonly temporalAddress: string
  readonly namespace: string
  readonly taskQueue: string
  readonly parts: Map<PartId, HousePart>
  readonly undo: (() => Promise<unknown>)[]
}

export class House {
  readonly databaseUrl: string
  readonly temporalAddress: string
  readonly namespace: string
  readonly taskQueue: string
  /** Of every replica. */
  readonly urls: readonly string[]
  readonly folder: string
  /** Of the foreign stream server, if there is one. */
  readonly streamsUrl: string | undefined
  readonly #parts: Map<PartId, HousePart>
  readonly #undo: readonly (() => Promise<unknown>)[]

  private constructor(ground: Ground, urls: readonly string[], streamsUrl: string | undefined) {
    this.databaseUrl = ground.databaseUrl
    this.temporalAddress = ground.temporalAddress
    this.namespace = ground.namespace
    this.taskQueue = ground.taskQueue
    this.folder = ground.folder
    this.urls = urls
    this.streamsUrl = streamsUrl
    this.#parts = ground.parts
    this.#undo = ground.undo
  }

  /** Of the first replica. */
  get url(): string {
    return this.urls[0] ?? ''
  }

  static async start(options: HouseOptions = {}): Promise<House> {
    const folder = await mkdtemp(join(tmpdir(), 'agents-house-'))
    await chmod(folder, 0o755) // Postgres may run as a user of its own
    const parts = new Map<PartId, HousePart>()
    const undo: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })]
    const [databaseUrl, temporal, streams] = await Promise.all([
      options.own?.includes('postgres') ? ownPostgres(folder, parts) : ownDatabase(undo),
      options.own?.includes('temporal') ? ownTemporal(folder, parts) : sharedTemporal(undo),
      options.streams === 'http' ? ownStreams(parts) : undefined,
    ])
    const ground: Ground = { folder, databaseUrl, ...temporal, taskQueue, parts, undo }
    const house = new House(ground, await addServers(ground, options, streams?.url), streams?.url)
    try {
      await house.#startProcesses()
      return house
    } catch (failure) {
      const logs = await house.logs()
      await house.stop()
      throw new Error(`the house did not start: ${failure instanceof Error ? failure.message : String(failure)}\n${logs}`, {
        cause: failure,
      })
    }
  }

  /** Runs `body` in a house; prints the logs of its parts if it fails. */
  static async with<Result>(options: HouseOptions, body: (house: House) => Promise<Result>): Promise<Result> {
    const house = await House.start(options)
    try {
      return await house.explaining(async () => await body(house))
    } finally {
      await house.stop()
    }
  }

  /** Prints the logs of the parts if `body` fails. */
  async explaining<Result>(body: () => Promise<Result>): Promise<Result> {
    try {
      return await body()
    } catch (failure) {
      process.stderr.write(await this.logs())
      throw failure
    }
  }

  async kill(part: PartId, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#part(part).kill(signal)
  }

  /** SIGSTOP, to its own processes too: it keeps its connections and answers nobody, until `thaw`. */
  freeze(part: PartId): void {
    const pid = this.#part(part).pid()
    process.kill(pid, 'SIGSTOP') // first: it starts no more of them
    for (const child of childrenOf(pid)) process.kill(child, 'SIGSTOP')
  }

  thaw(part: PartId): void {
    const pid = this.#part(part).pid()
    for (const each of [...childrenOf(pid), pid]) process.kill(each, 'SIGCONT')
  }

  /** Starts a killed part; a running one is stopped politely first. Returns when it is ready. */
  async restart(part: PartId): Promise<void> {
    await this.#part(part).halt()
    await this.#part(part).start()
  }

  /** SIGKILL to every process of the house at once. */
  async killAll(): Promise<void> {
    await Promise.all([...this.#parts.values()].map((part) => part.kill('SIGKILL')))
  }

  /** Starts everything again after `killAll`. */
  async restartAll(): Promise<void> {
    const processes = (id: PartId): boolean => id === 'worker' || id.startsWith('server')
    await Promise.all([...this.#parts].filter(([id]) => !processes(id)).map(([, part]) => part.start()))
    await this.#startProcesses()
  }

  /** What every part printed. */
  async logs(): Promise<string> {
    const files = (await readdir(this.folder)).filter((name) => name.endsWith('.log')).sort()
    const texts = await Promise.all(
      files.map(async (name) => `--- ${name}\n${(await readFile(join(this.folder, name), 'utf8')).slice(-20_000)}\n`),
    )
    return texts.join('')
  }

  async stop(): Promise<void> {
    const order = [...this.#parts].reverse() // servers before what they use
    const processes = order.filter(([id]) => id === 'worker' || id.startsWith('server'))
    await Promise.all(processes.map(([, part]) => part.stop()))
    await Promise.all(order.filter((entry) => !processes.includes(entry)).map(([, part]) => part.stop()))
    for (const undo of [...this.#undo].reverse()) await undo()
  }

  #part(id: PartId): HousePart {
    const part = this.#parts.get(id)
    if (part === undefined) throw new Error(`this house has no "${id}" of its own (it has ${[...this.#parts.keys()].join(', ')})`)
    return part
  }

  /** All at once, as replicas do. */
  async #startProcesses(): Promise<void> {
    const processes = [...this.#parts].filter(([id]) => id === 'worker' || id.startsWith('server')).map(([, part]) => part)
    await Promise.all(processes.map((part) => part.start()))
  }
}

/** Postgres gives each of its processes a group of its own. */
function childrenOf(parent: number): readonly number[] {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n')
  const processes = lines.map((line) => line.trim().split(/\s+/).map(Number))
  return processes.flatMap(([pid, ppid]) => (pid !== undefined && ppid === parent ? [pid] : []))
}

/** Servers, and the worker, as parts that are not started yet; the URLs of the servers. */
async function addServers(ground: Ground, options: HouseOptions, streamsUrl: string | undefined): Promise<readonly string[]> {
  const worker = options.worker ?? 'in-process'
  const env = {
    ELECTRIC_AGENTS_DATABASE_URL: ground.databaseUrl,
    ELECTRIC_AGENTS_DURABLE_STREAMS_URL: streamsUrl,
    ELECTRIC_AGENTS_TASK_QUEUE: ground.taskQueue,
    ELECTRIC_AGENTS_WORKER: worker,
    ELECTRIC_AGENTS_LOG_FILE: 'false',
    ELECTRIC_AGENTS_PG_POOL_MAX: '20',
    TEMPORAL_ADDRESS: ground.temporalAddress,
    TEMPORAL_NAMESPACE: ground.namespace,
    NODE_ENV: 'test',
    NODE_OPTIONS: undefined,
    ...options.env,
  }
  const ports = await Promise.all(Array.from({ length: options.replicas ?? 1 }, async () => await ownPort()))
  ports.forEach((port, index) => {
    const id: PartId = index === 0 ? 'server' : `server-${index}`
    const { folder } = ground
    const ours = { ...env, ...options.serverEnv?.(index) }
    ground.parts.set(
      id,
      relaunched(async () => await startAgentsServer({ host: '127.0.0.1', port, folder, env: ours, logFile: join(folder, `${id}.log`) })),
    )
  })
  if (worker === 'separate') {
    const { folder, temporalAddress, namespace, taskQueue } = ground
    const launch = async () =>
      await startAgentsWorker({ temporalAddress, namespace, taskQueue, folder, env, logFile: join(folder, 'worker.log') })
    ground.parts.set('worker', relaunched(launch))
  }
  return ports.map((port) => `http://127.0.0.1:${port}`)
}

async function ownPostgres(folder: string, parts: Map<PartId, HousePart>): Promise<string> {
  const port = await ownPort()
  let url = ''
  const part = relaunched(async () => {
    const postgres = await startEmbeddedPostgres({ folder, port, logFile: join(folder, 'postgres.log') })
    url = postgres.address
    return postgres
  })
  await part.start()
  parts.set('postgres', part)
  return url
}

async function ownTemporal(folder: string, parts: Map<PartId, HousePart>) {
  const port = await ownPort()
  const part = relaunched(async () => await startTemporalServer({ folder, port, uiPort: 'none', logFile: join(folder, 'temporal.log') }))
  await part.start()
  parts.set('temporal', part)
  return { temporalAddress: `127.0.0.1:${port}`, namespace: 'default' }
}

async function ownStreams(parts: Map<PartId, HousePart>): Promise<ForeignStreams> {
  const streams = await startForeignStreams()
  parts.set('streams', {
    pid: () => streams.pid,
    start: async () => await streams.restart(),
    kill: async () => await streams.kill(),
    halt: async () => await streams.kill(),
    stop: async () => await streams.stop(),
  })
  return streams
}

async function sharedTemporal(undo: (() => Promise<unknown>)[]) {
  const temporalAddress = process.env.TEST_TEMPORAL_ADDRESS ?? ''
  const namespace = await ownNamespace(temporalAddress)
  undo.push(() => quietNamespace(temporalAddress, namespace, taskQueue))
  return { temporalAddress, namespace }
}

async function ownDatabase(undo: (() => Promise<unknown>)[]): Promise<string> {
  const { url, drop } = await migratedDatabase()
  undo.push(drop)
  return url
}
