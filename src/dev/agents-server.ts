/** Our own server, and our own worker, as child processes. What they need to know travels in the environment, never in arguments: it holds a password. */

import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Connection } from '@temporalio/client'
import { Child, type ChildOptions, lastLine, type StopStep } from './child.js'
import { type Part, PartFailure, type PartName } from './part.js'

export interface AgentsProcessOptions {
  /** Set variables win over inherited ones; undefined removes one. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Marks the process, so that a later start knows it as a leftover of this folder. */
  readonly folder: string
  readonly logFile?: string
  readonly onOutput?: (chunk: Buffer) => void
  readonly readyWithinMs?: number
}

export interface AgentsServerOptions extends AgentsProcessOptions {
  readonly host: string
  readonly port: number
}

export interface AgentsWorkerOptions extends AgentsProcessOptions {
  readonly temporalAddress: string
  readonly namespace: string
  readonly taskQueue: string
}

export interface AgentsPart extends Part {
  readonly pid: number
  kill(signal: NodeJS.Signals): Promise<void>
}

const scriptOf = {
  server: fileURLToPath(new URL('../../dist/server.js', import.meta.url)),
  worker: fileURLToPath(new URL('../../dist/worker.js', import.meta.url)),
}
const stopSteps: readonly StopStep[] = [{ signal: 'SIGTERM', withinMs: 5_000 }]
const defaultReadyWithinMs = 60_000

/** The mark of a process that belongs to `folder`. */
export const folderMark = (folder: string): string => `--data-folder=${folder}`

/** Where a server that listens on `host` answers, from this machine. */
export function addressOf({ host, port }: { readonly host: string; readonly port: number }): string {
  const reachable = ['0.0.0.0', '::', ''].includes(host) ? '127.0.0.1' : host
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`
}

/**
 * Starts the server; it is there when it says that it runs and answers on its port, which it opens when everything else is ready. An answer alone may be
 * another's, who has taken the port meanwhile.
 */
export async function startAgentsServer(options: AgentsServerOptions): Promise<AgentsPart> {
  const address = addressOf(options)
  let isRunning = false
  const onOutput = (chunk: Buffer): void => {
    isRunning ||= chunk.includes('server running at')
    options.onOutput?.(chunk)
  }
  const env = { ELECTRIC_AGENTS_HOST: options.host, ELECTRIC_AGENTS_PORT: String(options.port) }
  const child = new Child(launch('server', { ...options, onOutput }, env))
  const isReady = async () => isRunning && (await answersHealth(address))
  await untilReady('server', child, options.readyWithinMs ?? defaultReadyWithinMs, isReady)
  return partOf('server', child, address)
}

/** Starts a worker in a process of its own; it is there when Temporal sees it poll. */
export async function startAgentsWorker(options: AgentsWorkerOptions): Promise<AgentsPart> {
  const began = Date.now()
  const child = new Child(launch('worker', options, {}))
  await untilReady('worker', child, options.readyWithinMs ?? defaultReadyWithinMs, async () => await polls(options, began))
  return partOf('worker', child, options.taskQueue)
}

function launch(script: keyof typeof scriptOf, options: AgentsProcessOptions, env: Readonly<Record<string, string>>): ChildOptions {
  return {
    command: process.execPath,
    args: [scriptOf[script], folderMark(options.folder)],
    env: { ...options.env, ...env },
    stopSignals: stopSteps,
    ...(options.logFile === undefined ? {} : { logFile: options.logFile }),
    ...(options.onOutput === undefined ? {} : { onOutput: options.onOutput }),
  }
}

const advice = 'See its output above, or its log in the data folder.'

async function untilReady(name: PartName, child: Child, withinMs: number, isReady: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + withinMs
  while (!(await isReady())) {
    if (child.exit !== undefined)
      throw new PartFailure(name, `it did not start: ${lastLine(child.output, /error|invalid|missing|cannot|in use/i)}`, advice)
    if (Date.now() > deadline) {
      await child.stop()
      throw new PartFailure(name, `it was not ready within ${withinMs / 1000} s: ${lastLine(child.output)}`, advice)
    }
    await wait(25)
  }
}

async function answersHealth(address: string): Promise<boolean> {
  try {
    const response = await fetch(`${address}/_electric/health`, { signal: AbortSignal.timeout(5_000) })
    await response.arrayBuffer()
    return response.status === 200
  } catch {
    return false
  }
}

const workflowTaskQueue = 1

async function polls(options: AgentsWorkerOptions, sinceMs: number): Promise<boolean> {
  let connection: Connection | undefined
  try {
    connection = await Connection.connect({ address: options.temporalAddress, connectTimeout: 2_000 })
    const { namespace } = options
    const { pollers } = await connection.workflowService.describeTaskQueue({
      namespace,
      taskQueue: { name: options.taskQueue },
      taskQueueType: workflowTaskQueue,
    })
    return (pollers ?? []).some(
      ({ lastAccessTime }) => Number(lastAccessTime?.seconds ?? 0) * 1_000 + Number(lastAccessTime?.nanos ?? 0) / 1e6 >= sinceMs,
    )
  } catch {
    return false
  } finally {
    await connection?.close()
  }
}

function partOf(name: PartName, child: Child, address: string): AgentsPart {
  return {
    name,
    address,
    shown: address,
    pid: child.pid ?? 0,
    broken: child.exited.then(
      (exit) => new PartFailure(name, `it ended by itself (${exit.signal ?? `exit code ${exit.code}`}): ${lastLine(child.output)}`, advice),
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
