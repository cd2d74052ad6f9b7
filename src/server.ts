/**
 * The server: HTTP, a Temporal client and (unless told otherwise) a worker in one process, on one connection.
 *
 * The port opens when everything else is ready. Nothing that was acknowledged depends on this process's memory: it may be killed at any line.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '@temporalio/client'
import type { NativeConnection } from '@temporalio/worker'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { ensurePrincipals } from './activities/principals.js'
import { FollowUps } from './client/follow-ups.js'
import { type Configuration, loadConfiguration, withoutPassword } from './config.js'
import { publicUrl } from './dispatch/public-url.js'
import type { Begun, ForkBatch, ForkItem, ForkVerdict, SignalItem, SignalVerdict, SpawnItem, SpawnVerdict } from './domain/operations.js'
import { within } from './domain/within.js'
import { buildEngine, type Engine } from './engine.js'
import { Attachments } from './entities/attachments.js'
import { AuthorizationHook, type AuthorizeRequest } from './entities/authorization-hook.js'
import { CollectionWriting } from './entities/collection-writing.js'
import { Discovery } from './entities/discovery.js'
import { Forking, largeOfFork } from './entities/forking.js'
import { InboxEditing } from './entities/inbox-editing.js'
import { Operations } from './entities/operations.js'
import { RunnerClaiming } from './entities/runner-claiming.js'
import { Runners } from './entities/runners.js'
import { Sending } from './entities/sending.js'
import { Signalling } from './entities/signalling.js'
import { Spawning } from './entities/spawning.js'
import { StreamWriting } from './entities/stream-writing.js'
import { Tagging } from './entities/tagging.js'
import { EntityTypes } from './entities/types.js'
import { WorkflowService } from './entities/workflow-service.js'
import { loadEnvFile } from './env-file.js'
import { buildApp } from './http/app.js'
import { discoveredRegistration } from './http/entity-types/bodies.js'
import { InFlight } from './http/in-flight.js'
import type { AuthenticateRequest, Authentication } from './http/principals.js'
import { createLog } from './log.js'
import { Metrics } from './metrics.js'
import { isScript, runProgram, stopOnSignals } from './process.js'
import { readBacklog } from './registry/backlog.js'
import { announceAgain } from './registry/deliveries.js'
import { insertUsers } from './registry/spawning.js'
import { isWake } from './registry/wakes.js'
import { ensureSearchAttributes, ensureSweep } from './temporal-setup.js'
import { connectTemporal, identity, installRuntime, startRelay, startWorker, stopWorking } from './worker.js'

/** Acknowledged requests in flight get this long to finish. */
const drainLimitMs = 10_000

export interface RunningServer {
  readonly url: string
  stop(): Promise<void>
}

/** What a program that embeds the server may bring (spec/13 §3). */
export interface EmbeddingOptions {
  /** Says who calls, instead of the header (spec/12 §1.3). */
  readonly authenticateRequest?: AuthenticateRequest
  /** Has the last word on every permission (spec/12 §5). */
  readonly authorizeRequest?: AuthorizeRequest
}

export async function startServer(config: Configuration, log: Logger, embedding: EmbeddingOptions = {}): Promise<RunningServer> {
  installRuntime(log)
  const metrics = config.metricsPort === undefined ? undefined : new Metrics()
  const engine = await buildEngine(
    config,
    log,
    metrics === undefined ? {} : { appends: metrics.batches('append'), deliveries: metrics.delivery },
  )
  metrics?.readBacklogFrom(() => readBacklog(engine.database))
  try {
    const connection = await connectTemporal(config)
    return await serve(config, log, engine, connection, { ...embedding, metrics })
  } catch (failure) {
    await engine.close()
    throw failure
  }
}

async function serve(
  config: Configuration,
  log: Logger,
  engine: Engine,
  connection: NativeConnection,
  { metrics, ...embedding }: EmbeddingOptions & { readonly metrics: Metrics | undefined },
): Promise<RunningServer> {
  const client = new Client({ connection, namespace: config.temporal.namespace, identity: identity('http') })
  const service = new WorkflowService({
    connection,
    client,
    startLimitMs: config.limits.workflowStartLimitMs,
    busyLimitMs: config.limits.workflowBusyLimitMs,
    onChange: (state, reason) => {
      log.warn({ reason }, `the workflow service is ${state}`)
      metrics?.workflowServiceIs(state)
    },
  })
  const attributeBytes = (await ensureSearchAttributes(connection, config.temporal.namespace, log))
    ? config.limits.maxSearchAttributeBytes
    : null
  const relay = startRelay(engine, connection, client, log)
  const worker = config.worker === 'in-process' ? await startWorker(config, connection, engine) : null
  const useCases = buildUseCases(config, engine, service, { attributeBytes, worksHere: worker !== null, metrics })
  engine.dispatch.followUps.tells(
    new FollowUps({
      client,
      start: (type, options) => service.start(type, options),
      taskQueue: config.temporal.taskQueue,
      attributeBytes,
      graceMs: config.limits.stopGraceMs,
    }),
  )
  await useCases.entityTypes.ensurePrincipalType()
  await engine.signing.ensureKey()
  await ensureSweep(client, config.temporal.taskQueue, log)
  let stopping = false
  const app = await buildApp({
    limits: config.limits,
    tenant: config.tenant,
    database: engine.database,
    directory: engine.directory,
    streams: engine.streams,
    signing: engine.signing,
    streamWriting: new StreamWriting(engine),
    dispatch: { ...engine.dispatch, isWake: (wakeId) => isWake(engine.database, wakeId) },
    principalEntities: { ensure: (principal) => useCases.spawning.ensurePrincipal(principal) },
    ...useCases,
    authentication: authenticationOf(config, log, embedding),
    logger: log,
    ...(metrics === undefined ? {} : { observeRequest: metrics.observeRequest }),
    publicUrl: (path) => publicUrl(config.baseUrl ?? url, path),
    isStopping: () => stopping,
  })
  const inFlight = new InFlight(app.server)
  const url = await listen(app, config)
  await engine.dispatch.base.isOwn(url)
  const metricsServer = config.metricsPort === undefined ? undefined : await metrics?.listen(config.host, config.metricsPort)
  return {
    url,
    stop: async () => {
      stopping = true
      await stopServing({ app, inFlight, engine, useCases, service, noticeMs: config.limits.shutdownNoticeMs })
      await relay.close()
      await Promise.all([engine.endCalls(), stopWorking(worker, connection, log)])
      await metricsServer?.close()
      await engine.close()
    },
  }
}

function authenticationOf(config: Configuration, log: Logger, { authenticateRequest, authorizeRequest }: EmbeddingOptions): Authentication {
  const warn = (failure: unknown, text: string) => log.warn({ err: failure }, text)
  return {
    allowDevFallback: config.allowDevFallback,
    refuseSystemHeader: config.refuseSystemPrincipals,
    ...(authenticateRequest === undefined ? {} : { authenticateRequest }),
    ...(authorizeRequest === undefined ? {} : { hook: new AuthorizationHook(authorizeRequest, { tenant: config.tenant, warn }) }),
  }
}

interface Circumstances {
  /** Null where the namespace has no search attributes of ours. */
  readonly attributeBytes: number | null
  readonly worksHere: boolean
  readonly metrics: Metrics | undefined
}

function buildUseCases(
  config: Configuration,
  engine: Engine,
  service: WorkflowService,
  { attributeBytes, worksHere, metrics }: Circumstances,
) {
  const shared = {
    taskQueue: config.temporal.taskQueue,
    attributeBytes,
    service,
    rendezvous: engine.rendezvous,
    database: engine.database,
    limits: config.limits,
  }
  const spawns = new Operations<SpawnItem, SpawnVerdict>({
    ...shared,
    kind: 'spawn',
    ...(metrics === undefined ? {} : { observer: metrics.operations('spawn') }),
    workflowType: 'spawnEntities',
    large: largeOfSpawn,
    ...(worksHere ? { effect: (batch) => engine.activities.createEntities(batch) } : {}),
  })
  const closes = new Operations<SignalItem, SignalVerdict>({
    ...shared,
    kind: 'close',
    ...(metrics === undefined ? {} : { observer: metrics.operations('close') }),
    workflowType: 'closeEntities',
    large: largeOfSignal,
    ...(worksHere ? { effect: (batch) => engine.activities.applySignals(batch) } : {}),
  })
  const forks = new Operations<ForkItem, ForkVerdict>({
    ...shared,
    kind: 'fork',
    ...(metrics === undefined ? {} : { observer: metrics.operations('fork') }),
    workflowType: 'forkSubtree',
    large: largeOfFork,
    ...(worksHere ? { effect: (batch) => atOnce(engine, batch) } : {}),
  })
  const spawning = new Spawning({
    rules: engine.rules,
    directory: engine.directory,
    operations: spawns,
    ensurePrincipals: (keys) => ensurePrincipals(engine.parts, keys),
    ensureUser: (id) => engine.database.transaction((tx) => insertUsers(tx, [id])),
  })
  const { outbound } = engine.dispatch
  return {
    spawning,
    inboxEditing: new InboxEditing(engine.pipeline),
    collections: new CollectionWriting(engine.directory, engine.pipeline, (principal) => spawning.ensurePrincipal(principal)),
    attachments: new Attachments({ ...engine, limits: config.limits }),
    tagging: new Tagging(engine.pipeline, config.limits),
    sending: new Sending({ ...engine, ensurePrincipal: (principal, standing) => spawning.ensurePrincipal(principal, standing) }),
    runners: new Runners({ ...engine, limits: config.limits, onAvailable: announceAgain }),
    runnerClaiming: new RunnerClaiming(engine.database, engine.directory, engine.dispatch),
    signalling: new Signalling(engine.rules, closes, engine.parts, config.limits),
    forking: new Forking({ ...shared, rules: engine.rules, directory: engine.directory, operations: forks }),
    entityTypes: new EntityTypes(engine.database, {
      limits: config.limits,
      discovery: new Discovery({ outbound, parse: discoveredRegistration(config.limits.maxJsonDepth), limits: config.limits }),
      ...(config.rewriteLoopbackWebhooksTo === undefined ? {} : { rewriteLoopbackTo: config.rewriteLoopbackWebhooksTo }),
    }),
    operations: { spawns, closes, forks },
  }
}
type UseCases = ReturnType<typeof buildUseCases>

/** Forks that come in a batch are in haste: none of them waits. */
async function atOnce(engine: Engine, batch: ForkBatch): Promise<Begun<ForkVerdict>> {
  const begun = await engine.activities.forkEntities(batch)
  if (begun.state === 'waits') throw new Error('a fork in haste waits')
  return begun
}

function largeOfSpawn({ args, initialMessage, tags, dispatchPolicy, sandbox, ...rest }: SpawnItem) {
  if ([args, initialMessage, tags, dispatchPolicy, sandbox].every((part) => part === undefined)) return undefined
  return { text: JSON.stringify({ args, initialMessage, tags, dispatchPolicy, sandbox }), rest }
}

function largeOfSignal({ payload, reason, ...rest }: SignalItem) {
  return payload === undefined && reason === undefined ? undefined : { text: JSON.stringify({ payload, reason }), rest }
}

/** Connections that wait to be accepted: one in each turn of the loop. Those beyond Node's 511 would be dropped, and come again after 1, 3, 7 s. */
const listenBacklog = 4_096

async function listen(app: FastifyInstance, config: Configuration): Promise<string> {
  await app.listen({ host: config.host, port: config.port, backlog: listenBacklog })
  const address = app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : config.port
  const host = config.host === '0.0.0.0' || config.host === '::' ? '127.0.0.1' : config.host
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

interface Serving {
  readonly app: FastifyInstance
  readonly inFlight: InFlight
  readonly engine: Engine
  readonly useCases: UseCases
  readonly service: WorkflowService
  readonly noticeMs: number
}

/**
 * spec/13 §9: held reads end cleanly, requests in flight are answered; until then, and for `noticeMs` at least, the port stays open, and says 503 to health
 * and to new mutations: what was sent before anybody could know is answered too.
 */
async function stopServing({ app, inFlight, engine, useCases, service, noticeMs }: Serving): Promise<void> {
  const { operations, signalling, tagging } = useCases
  await within(
    drainLimitMs,
    Promise.all([
      engine.streams.close(),
      delay(noticeMs).then(() => inFlight.drained()),
      operations.spawns.drained(),
      operations.forks.drained(),
      signalling.drained(),
      tagging.drained(),
      engine.pipeline.drained(),
    ]),
  )
  const closed = app.close()
  service.close()
  app.server.closeAllConnections()
  await closed
}

async function main(): Promise<void> {
  loadEnvFile(process.cwd(), process.env)
  const config = loadConfiguration(process.env)
  const log = createLog({ level: config.logLevel, ...(config.logFile ? { folder: config.logDir } : {}) })
  for (const remark of config.remarks) log.info(remark)
  const server = await startServer(config, log)
  stopOnSignals(server, (failure) => log.error({ err: failure }, 'the server ends after an error'))
  process.stdout.write(`Electric Agents server running at ${server.url}\n`)
  process.stdout.write(`Durable Streams: ${config.streams === undefined ? '(in Postgres)' : withoutPassword(config.streams.url)}\n`)
  process.stdout.write(`Working directory: ${config.workingDirectory}\n`)
}

if (isScript(import.meta.url)) runProgram('server', main)
