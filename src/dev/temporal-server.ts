/**
 * A Temporal dev server on loopback, its database in `<folder>/temporal`.
 *
 * T1  Whoever calls holds the lock of the data folder: a server that runs on this database file was left behind, and is stopped.
 * T2  Ready means that its namespace answers, not that the port is open (a second or two earlier).
 * T3  The database file carries the version of the binary: its schema is created, never migrated.
 */
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Connection, type ConnectionOptions } from '@temporalio/client'
import { Child, lastLine, type StopStep } from './child.js'
import { endProcesses, processesWith } from './leftovers.js'
import { type Part, PartFailure } from './part.js'
import { freePort } from './ports.js'
import { resolveTemporalBinary, type TemporalBinary } from './temporal-binary.js'
import { startLine } from './temporal-flags.js'

export interface TemporalServerOptions {
  /** The data folder; the database is `temporal/temporal-<version>.db` in it. */
  readonly folder: string
  readonly port?: number
  /** `none`: without the web UI, as in tests. */
  readonly uiPort?: number | 'none'
  readonly namespaces?: readonly string[]
  readonly binary?: TemporalBinary
  readonly logFile?: string
  readonly readyWithinMs?: number
  readonly say?: (line: string) => void
}

export interface TemporalPart extends Part {
  /** `host:port` of its gRPC service. */
  readonly address: string
  readonly port: number
  readonly uiUrl: string | undefined
  readonly pid: number
  readonly binary: TemporalBinary
  kill(signal: NodeJS.Signals): Promise<void>
}

const usualUiPort = 8233
const startAttempts = 3
const stopSteps: readonly StopStep[] = [{ signal: 'SIGTERM', withinMs: 3_000 }]
const advice = 'See the log in the data folder, or set TEMPORAL_ADDRESS to a Temporal server of yours.'

export async function startTemporalServer(options: TemporalServerOptions): Promise<TemporalPart> {
  const binary = options.binary ?? (await resolveTemporalBinary(options.say === undefined ? {} : { say: options.say }))
  const folder = join(resolve(options.folder), 'temporal')
  const databaseFile = join(folder, `temporal-${binary.version}.db`) // T3
  await mkdir(folder, { recursive: true })
  await endProcesses(processesWith(['start-dev', databaseFile]), stopSteps) // T1
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(binary, databaseFile, options)
    } catch (failure) {
      const isPassing = failure instanceof PartFailure && /address already in use/i.test(failure.message)
      if (!isPassing || attempt === startAttempts || options.port !== undefined) throw failure
    }
  }
}

async function start(binary: TemporalBinary, databaseFile: string, options: TemporalServerOptions): Promise<TemporalPart> {
  const port = options.port ?? (await freePort())
  const uiPort = options.uiPort === 'none' ? undefined : await freePort(options.uiPort ?? usualUiPort)
  const namespaces = options.namespaces === undefined ? {} : { namespaces: options.namespaces }
  const child = new Child({
    command: binary.path,
    args: startLine({ port, uiPort, databaseFile, ...namespaces }),
    stopSignals: stopSteps,
    ...(options.logFile === undefined ? {} : { logFile: options.logFile }),
  })
  const address = `127.0.0.1:${port}`
  try {
    await untilReady(child, address, ['default', ...(options.namespaces ?? [])], options.readyWithinMs ?? 60_000)
  } catch (failure) {
    await child.stop()
    throw failure
  }
  return {
    name: 'Temporal',
    address,
    shown: address,
    port,
    uiUrl: uiPort === undefined ? undefined : `http://127.0.0.1:${uiPort}`,
    pid: child.pid ?? 0,
    binary,
    broken: child.exited.then(
      (exit) =>
        new PartFailure('Temporal', `it ended by itself (${exit.signal ?? `exit code ${exit.code}`}): ${lastLine(child.output)}`, advice),
    ),
    kill: async (signal) => {
      child.kill(signal)
      await child.exited
    },
    stop: async () => {
      await child.stop()
    },
  }
}

async function untilReady(child: Child, address: string, namespaces: readonly string[], withinMs: number): Promise<void> {
  const deadline = Date.now() + withinMs
  for (;;) {
    if (child.exit !== undefined) throw new PartFailure('Temporal', `it did not start: ${lastLine(child.output, /error/i)}`, advice)
    const missing = await whyNot({ address }, namespaces)
    if (missing === undefined) return
    if (Date.now() > deadline) throw new PartFailure('Temporal', `it was not ready within ${withinMs / 1000} s (${missing})`, advice)
    await wait(50)
  }
}

/** Why a Temporal service cannot be used now; undefined when every namespace answers (T2). */
export async function whyNot(options: ConnectionOptions, namespaces: readonly string[]): Promise<string | undefined> {
  let connection: Connection | undefined
  try {
    connection = await Connection.connect({ ...options, connectTimeout: 2_000 })
    for (const namespace of namespaces) await connection.workflowService.describeNamespace({ namespace })
    return undefined
  } catch (failure) {
    return failure instanceof Error ? failure.message : String(failure)
  } finally {
    await connection?.close()
  }
}
