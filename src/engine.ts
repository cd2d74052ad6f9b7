/** What every process of ours is made of, whether it answers requests, carries out activities, or both. */
import type { Logger } from 'pino'
import { type Activities, allActivities } from './activities/activities.js'
import { Joinable } from './activities/joining.js'
import type { Appends, Parts } from './activities/parts.js'
import type { Configuration } from './config.js'
import { ForeignPipeline } from './dispatch/foreign-pipeline.js'
import type { Pipeline } from './dispatch/pipeline.js'
import { PostgresPipeline } from './dispatch/postgres-pipeline.js'
import type { BatchObserver } from './domain/group-commit.js'
import type { ForkAttempt, ForkBegun } from './activities/forks.js'
import type { Begun, SignalBatch, SignalVerdict, SpawnBatch, SpawnVerdict } from './domain/operations.js'
import { Directory } from './entities/directory.js'
import { forkRulesOf } from './entities/fork-rules.js'
import { Rendezvous } from './entities/rendezvous.js'
import { EntityRules } from './entities/rules.js'
import { Database } from './registry/database.js'
import { migrate } from './registry/migrate.js'
import { httpStreamStore } from './streams/http/store.js'
import { PostgresStreams } from './streams/postgres/store.js'
import type { StreamStore } from './streams/store.js'

export interface Engine {
  readonly database: Database
  readonly streams: StreamStore
  readonly pipeline: Pipeline
  readonly directory: Directory
  readonly rules: EntityRules
  readonly rendezvous: Rendezvous
  readonly parts: Parts
  /** The first steps of operations are joined: request and workflow in one process share one effect. */
  readonly activities: Activities
  close(): Promise<void>
}

/** Connects to Postgres, brings the schema up to date, and builds the parts. */
export async function buildEngine(config: Configuration, log: Logger, observeAppends?: BatchObserver): Promise<Engine> {
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
    throw failure
  }
  const { streams, pipeline, appends } = streamParts(config, database, log, observeAppends)
  const directory = new Directory(database, config.limits)
  const rules = new EntityRules(directory, config.limits, async () => []) // runners, who advertise profiles, come with their feature
  const rendezvous = new Rendezvous()
  const parts: Parts = {
    database,
    appends,
    streams,
    rules,
    forkRules: forkRulesOf(rules, config.limits),
    limits: config.limits,
    deliver: (id, verdicts) => rendezvous.deliver(id, verdicts),
  }
  return {
    database,
    streams,
    pipeline,
    directory,
    rules,
    rendezvous,
    parts,
    activities: joined(allActivities(parts)),
    close: async () => {
      await pipeline.drained()
      await streams.close()
      await database.close()
    },
  }
}

function streamParts(
  config: Configuration,
  database: Database,
  log: Logger,
  observeAppends: BatchObserver | undefined,
): { streams: StreamStore; pipeline: Pipeline; appends: Appends } {
  if (config.streams !== undefined) {
    const { url, bearer } = config.streams
    const streams = httpStreamStore({ url, log, ...(bearer === undefined ? {} : { bearer }) })
    const pipeline = new ForeignPipeline(database, streams, config.limits, observeAppends)
    const appends: Appends = {
      kind: 'intents',
      streams,
      intendIn: (tx, id, written) => pipeline.intendIn(tx, id, written),
      landOperation: (id) => pipeline.landOperation(id),
      catchUp: (paths) => pipeline.catchUp(paths),
      sweep: () => pipeline.sweep(),
    }
    return { streams, pipeline, appends }
  }
  const streams = new PostgresStreams({ database, limits: config.limits })
  const pipeline = new PostgresPipeline(database, streams.transactional, config.limits, observeAppends)
  const appends: Appends = {
    kind: 'transaction',
    streams: streams.transactional,
    appendIn: (tx, written) => pipeline.appendIn(tx, written),
    announce: (paths) => pipeline.announce(paths),
  }
  return { streams, pipeline, appends }
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
