/** The worker: carries out workflows and activities. Runs inside the server, or alone as `node dist/worker.js`. */
import { hostname } from 'node:os'
import { fileURLToPath } from 'node:url'
import { asyncLocalStorage as activityContext } from '@temporalio/activity'
import { Client, isGrpcServiceError } from '@temporalio/client'
import { NativeConnection, Runtime, Worker } from '@temporalio/worker'
import type { Logger } from 'pino'
import { heartbeatEveryMs, heartbeats } from './activities/heartbeats.js'
import { FollowUps } from './client/follow-ups.js'
import { type Configuration, loadConfiguration } from './config.js'
import { WaiterRelay } from './dispatch/waiter-relay.js'
import { buildEngine, type Engine } from './engine.js'
import { loadEnvFile } from './env-file.js'
import { createLog } from './log.js'
import { isScript, runProgram, StartFailure, stopOnSignals } from './process.js'
import { restWhenEmpty } from './resting-storage.js'

const connectLimitMs = 15_000

export interface RunningWorker {
  /** Rejects when the worker dies. */
  readonly done: Promise<void>
  shutdown(): void
}

/** Connects in a loop: the SDK rejects at once when nobody listens yet (temporal-notes §3.3). A namespace that is not there is no matter of time. */
export async function connectTemporal({ temporal }: Configuration): Promise<NativeConnection> {
  const { address, namespace } = temporal
  for (const deadline = Date.now() + connectLimitMs; ; ) {
    try {
      return await connectedTo(temporal)
    } catch (failure) {
      const isMissing = isGrpcServiceError(failure) && failure.code === notFound
      if (isMissing || Date.now() > deadline)
        throw new StartFailure(`Temporal at ${address}, namespace "${namespace}", cannot be used`, failure, temporalAdvice)
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
  }
}

const temporalAdvice = 'Start it or correct TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE.'
const notFound = 5 // gRPC

async function connectedTo({ connection: options, namespace }: Configuration['temporal']): Promise<NativeConnection> {
  const connection = await NativeConnection.connect({ ...options, grpcCompression: { codec: 'none' } })
  restWhenEmpty(connection.callContextStorage)
  try {
    await connection.withDeadline(Date.now() + connectLimitMs, () => connection.workflowService.describeNamespace({ namespace }))
  } catch (failure) {
    await connection.close()
    throw failure
  }
  return connection
}

export const identity = (role: string): string => `${role}@${hostname()}:${process.pid}`

/** What the SDK calls info is detail to us. */
const levels = { TRACE: 'trace', DEBUG: 'debug', INFO: 'debug', WARN: 'warn', ERROR: 'error' } as const

/** Before any connection: the SDK would take the process's signals otherwise. */
export function installRuntime(log: Logger): void {
  Runtime.install({
    shutdownSignals: [],
    logger: {
      log: (level, message, meta) => log[levels[level]](meta ?? {}, message),
      trace: (message, meta) => log.trace(meta ?? {}, message),
      debug: (message, meta) => log.debug(meta ?? {}, message),
      info: (message, meta) => log.debug(meta ?? {}, message),
      warn: (message, meta) => log.warn(meta ?? {}, message),
      error: (message, meta) => log.error(meta ?? {}, message),
    },
  })
}

/** Bounds for two cores (temporal-notes §4.2). */
export async function startWorker(config: Configuration, connection: NativeConnection, engine: Engine): Promise<RunningWorker> {
  restWhenEmpty(activityContext)
  const worker = await Worker.create({
    connection,
    namespace: config.temporal.namespace,
    taskQueue: config.temporal.taskQueue,
    identity: identity('worker'),
    workflowBundle: { codePath: fileURLToPath(new URL('./workflows.bundle.js', import.meta.url)) },
    activities: engine.activities,
    interceptors: { activity: [heartbeats] },
    maxHeartbeatThrottleInterval: heartbeatEveryMs,
    maxConcurrentWorkflowTaskExecutions: 40,
    maxConcurrentLocalActivityExecutions: 50,
    maxConcurrentActivityTaskExecutions: 50,
    stickyQueueScheduleToStartTimeout: '2s', // the default delays recovery after a process died
    shutdownGraceTime: '5s',
    shutdownForceTime: '10s', // with what comes before and after it less than the hard limit of a process that ends (process.ts)
  })
  return { done: worker.run(), shutdown: () => worker.shutdown() }
}

/** spec/13 §9: activities may end; those that do not in time are tried again elsewhere. */
export async function stopWorking(worker: RunningWorker | null, connection: NativeConnection, log: Logger): Promise<void> {
  try {
    worker?.shutdown()
    await worker?.done
    await connection.close()
  } catch (failure) {
    log.warn({ err: failure }, 'activities have not ended in time; they are tried again elsewhere')
  }
}

const signalLimitMs = 3_000

/** Tells workflows what they wait for, from any process that has a Temporal client. */
export function startRelay(engine: Engine, connection: NativeConnection, client: Client, log: Logger): WaiterRelay {
  return new WaiterRelay({
    database: engine.database,
    signal: (workflowId) =>
      connection.withDeadline(Date.now() + signalLimitMs, () => client.workflow.getHandle(workflowId).signal('statusChanged')),
    onFailure: (failure) => log.warn({ err: failure }, 'a waiting workflow could not be told; it will be'),
  })
}

async function main(): Promise<void> {
  loadEnvFile(process.cwd(), process.env)
  const config = loadConfiguration(process.env)
  const log = createLog({ level: config.logLevel, ...(config.logFile ? { folder: config.logDir } : {}) })
  installRuntime(log)
  const engine = await buildEngine(config, log)
  const connection = await connectTemporal(config)
  const client = new Client({ connection, namespace: config.temporal.namespace, identity: identity('worker') })
  const { taskQueue } = config.temporal
  engine.dispatch.followUps.tells(
    new FollowUps({ client, taskQueue, attributeBytes: config.limits.maxSearchAttributeBytes, graceMs: config.limits.stopGraceMs }),
  )
  const worker = await startWorker(config, connection, engine)
  const relay = startRelay(engine, connection, client, log)
  log.info({ taskQueue: config.temporal.taskQueue }, 'worker running')
  const stop = async () => {
    await relay.close()
    await Promise.all([engine.endCalls(), stopWorking(worker, connection, log)])
    await engine.close()
  }
  stopOnSignals({ stop }, (failure) => log.error({ err: failure }, 'the worker ends after an error'))
}

if (isScript(import.meta.url)) runProgram('worker', main)
