/** What every process of ours is made of, whether it answers requests, carries out activities, or both. */
import type { Logger } from 'pino'
import { type Activities, allActivities } from './activities/activities.js'
import type { ForkAttempt, ForkBegun } from './activities/forks.js'
import { Joinable } from './activities/joining.js'
import type { Appends, Parts } from './activities/parts.js'
import { type Configuration, shownUrl } from './config.js'
import type { DeliveryObserver } from './dispatch/deliveries.js'
import { buildDispatch, type Dispatch } from './dispatch/dispatch.js'
import { ForeignPipeline } from './dispatch/foreign-pipeline.js'
import type { Pipeline } from './dispatch/pipeline.js'
import { PostgresPipeline } from './dispatch/postgres-pipeline.js'
import type { Signing } from './dispatch/signing.js'
import { foreignTails, ownTails, type Tails } from './dispatch/tails.js'
import { Waking } from './dispatch/waking.js'
import type { BatchObserver } from './domain/group-commit.js'
import type { Begun, SignalBatch, SignalVerdict, SpawnBatch, SpawnVerdict } from './domain/operations.js'
import { within } from './domain/within.js'
import { Directory } from './entities/directory.js'
import { forkRulesOf } from './entities/fork-rules.js'
import { Rendezvous } from './entities/rendezvous.js'
import { EntityRules } from './entities/rules.js'
import { advertisedBy } from './entities/runners.js'
import { StartFailure } from './process.js'
import { Database } from './registry/database.js'
import { MigrationFailure, migrate } from './registry/migrate.js'
import { httpStreamStore } from './streams/http/store.js'
import { PostgresStreams } from './streams/postgres/store.js'
import type { StreamStore } from './streams/store.js'

export interface Engine {
  readonly database: Database
  readonly streams: StreamStore
  readonly pipeline: Pipeline
  readonly dispatch: Dispatch
  readonly directory: Directory
  readonly rules: EntityRules
  readonly rendezvous: Rendezvous
  readonly signing: Signing
  readonly parts: Parts
  /** The first steps of operations are joined: request and workflow in one process share one effect. */
  readonly activities: Activities
  /** Handlers that are being called get some seconds to answer; then their calls are cut and have failed: their wakes are tried again. */
  endCalls(): Promise<void>
  close(): Promise<void>
}

export interface EngineObservers {
  readonly appends?: BatchObserver
  readonly deliveries?: DeliveryObserver
}

const drainLimitMs = 5_000
/** What hangs for longer when the process ends is left as by a crash: to its row. */
const closeLimitMs = 3_000

/** Connects to Postgres, brings the schema up to date, and builds the parts. */
export async function buildEngine(config: Configuration, log: Logger, observers: EngineObservers = {}): Promise<Engine> {
  const database = new Database({
    url: config.databaseUrl,
    tenant: config.tenant,
    poolMax: config.poolMax,
    onIdleFailure: (failure) => log.warn({ err: failure.message }, 'a Postgres connection was lost'),
  })
  try {
    const applied = await migrate(database)
    if (applied.length > 0) log.info({ applied }, 'migrations applied')
  } catch (failure) {
    await database.close()
    if (failure instanceof MigrationFailure) throw failure
    throw new StartFailure(`Postgres at ${shownUrl(config.databaseUrl)} cannot be used`, failure, 'Start it or correct DATABASE_URL.')
  }
  const { rewriteLoopbackWebhooksTo: rewriteLoopbackTo } = config
  const waking = new Waking(config.limits, (wakes) => dispatch.deliveries.deliver(wakes), { rewriteLoopbackTo }) // none commits before the parts below are there
  const { streams, pipeline, appends, tails } = streamParts(config, database, log, waking, observers.appends)
  const dispatch = await buildDispatch({ config, database, pipeline, waking, tails, log, ...given('observe', observers.deliveries) })
  const directory = new Directory(database, config.limits)
  const rules = new EntityRules(directory, config.limits, advertisedBy(database, directory))
  const rendezvous = new Rendezvous()
  const parts: Parts = {
    database,
    appends,
    streams,
    rules,
    forkRules: forkRulesOf(rules, config.limits),
    limits: config.limits,
    deliver: (id, verdicts) => rendezvous.deliver(id, verdicts),
    signing: dispatch.signing,
    wakes: {
      redeliver: (wakeId) => dispatch.deliveries.redeliver(wakeId),
      stopping: (urls) => dispatch.followUps.stopping(urls),
      finishStop: (url, options) => dispatch.stopping.finish(url, options),
    },
  }
  dispatch.deadlines.start()
  return {
    database,
    streams,
    pipeline,
    dispatch,
    directory,
    rules,
    rendezvous,
    signing: dispatch.signing,
    parts,
    activities: joined(allActivities(parts)),
    endCalls: async () => {
      await within(drainLimitMs, Promise.all([dispatch.outbound.drained(), dispatch.deliveries.drained()]))
      await dispatch.outbound.close()
    },
    close: async () => {
      const drained = drain(dispatch, pipeline)
      await streams.close()
      await within(closeLimitMs, drained)
      await database.close()
    },
  }
}

async function drain(dispatch: Dispatch, pipeline: Pipeline): Promise<void> {
  await dispatch.deadlines.stop()
  await dispatch.drained()
  await pipeline.drained()
}

function streamParts(
  config: Configuration,
  database: Database,
  log: Logger,
  waking: Waking,
  observe: BatchObserver | undefined,
): { streams: StreamStore; pipeline: Pipeline; appends: Appends; tails: Tails } {
  const { limits } = config
  if (config.streams !== undefined) {
    const { url, bearer } = config.streams
    const streams = httpStreamStore({ url, log, ...(bearer === undefined ? {} : { bearer }) })
    const pipeline = new ForeignPipeline({ database, streams, waking, limits, observe, warn: (facts, text) => log.warn(facts, text) })
    const appends: Appends = {
      kind: 'intents',
      streams,
      intendIn: (tx, id, written) => pipeline.intendIn(tx, id, written),
      landOperation: (id) => pipeline.landOperation(id),
      catchUp: (paths) => pipeline.catchUp(paths),
      linkIn: (tx, made) => pipeline.linkIn(tx, made),
      sweep: () => pipeline.sweep(),
    }
    return { streams, pipeline, appends, tails: foreignTails(database, pipeline) }
  }
  const warn = (failure: unknown, text: string) => log.warn({ err: failure }, text)
  const store = new PostgresStreams({ database, limits, warn })
  const pipeline = new PostgresPipeline({
    database,
    streams: store.transactional,
    waking,
    limits,
    warn,
    ...given('observe', observe),
  })
  const appends: Appends = {
    kind: 'transaction',
    createIn: (tx, made) => pipeline.createIn(tx, made),
    streams: store.transactional,
    decideIn: (tx, written) => pipeline.decideIn(tx, written),
    announce: (paths) => pipeline.announce(paths),
  }
  return { streams: store, pipeline, appends, tails: ownTails(store.transactional) }
}

/** The member `name`, where there is a value for it. */
function given<const Name extends string, Value>(name: Name, value: Value | undefined): { readonly [member in Name]?: Value } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [member in Name]: Value }) // computed names widen to string
}

function joined(activities: Activities): Activities {
  const spawns = new Joinable<SpawnBatch, Begun<SpawnVerdict>>((batch) => activities.createEntities(batch))
  const signals = new Joinable<SignalBatch, Begun<SignalVerdict>>((batch) => activities.applySignals(batch))
  const forks = new Joinable<ForkAttempt, ForkBegun>((attempt) => activities.forkEntities(attempt))
  return {
    ...activities,
    createEntities: (batch) => spawns.run(batch),
    applySignals: (batch) => signals.run(batch),
    // A fork that waits looks more than once: only what is done at once is joined.
    forkEntities: (attempt) => (attempt.waiter === undefined ? forks.run(attempt) : activities.forkEntities(attempt)),
  }
}
