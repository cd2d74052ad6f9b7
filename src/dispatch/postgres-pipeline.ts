/**
 * The pipeline with streams in Postgres: append and consequences in one transaction, group-committed with the other appends of the moment.
 *
 * A crash before the commit leaves nothing, after it everything. Locks are taken in one order everywhere: entity rows by URL, then streams by id.
 */
import type { EntityStatus } from '../domain/entity.js'
import { errors } from '../domain/errors.js'
import { type BatchObserver, GroupCommit } from '../domain/group-commit.js'
import type { EntityUrl, StreamPath } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import { type Database, isConnectionFailure, type Transaction } from '../registry/database.js'
import { resumePaused, statusesOf } from '../registry/statuses.js'
import type { AppendVerdict, LockedStreams, TransactionalStreams } from '../streams/store.js'
import { drawFrom } from './consequences.js'
import {
  barOf,
  itemsOf,
  lastOfEach,
  type Pipeline,
  type PipelineAppend,
  type PipelineVerdict,
  projectionRows,
  recipientsOf,
  resumedBy,
  type Together,
} from './pipeline.js'

export class PostgresPipeline implements Pipeline {
  readonly #database: Database
  readonly #streams: TransactionalStreams
  readonly #commits: GroupCommit<PipelineAppend, PipelineVerdict>

  constructor(database: Database, streams: TransactionalStreams, limits: Limits, observe?: BatchObserver) {
    this.#database = database
    this.#streams = streams
    this.#commits = new GroupCommit((appends) => this.#commitOrSplit(appends), {
      maxBatch: limits.maxAppendBatch,
      maxWeight: limits.maxAppendBatchBytes,
      weigh: (append) => append.body.length,
      maxWaiting: limits.maxWaitingAppends,
      overloaded: () => errors.OVERLOADED('appends').retryAfter(1),
      ...(observe === undefined ? {} : { observe }),
    })
  }

  append(append: PipelineAppend): Promise<PipelineVerdict> {
    return this.#commits.add(append)
  }

  async together<Result>(work: (tx: Transaction) => Promise<Together<Result>>): Promise<Result> {
    const { result, appends } = await this.#database.transaction(async (tx) => {
      const done = await work(tx)
      await this.appendIn(tx, done.appends)
      return done
    })
    this.announce(appends.map(({ path }) => path))
    return result
  }

  drained(): Promise<void> {
    return this.#commits.drained()
  }

  /** Appends with their consequences inside the caller's transaction; after its commit the caller calls `announce`. */
  async appendIn(tx: Transaction, appends: readonly PipelineAppend[], locked?: LockedStreams): Promise<readonly AppendVerdict[]> {
    if (appends.length === 0) return []
    const verdicts = await this.#streams.append(tx, appends, locked)
    const rows = appends.flatMap((append, index) => consequencesOf(append, verdicts[index]))
    await drawFrom(tx, lastOfEach(rows))
    return verdicts
  }

  announce(paths: readonly StreamPath[]): void {
    this.#streams.announce(paths)
  }

  /** One append that Postgres cannot take must not fail its neighbours. */
  async #commitOrSplit(appends: readonly PipelineAppend[]): Promise<readonly PipelineVerdict[]> {
    try {
      return await this.#commit(appends)
    } catch (failure) {
      if (appends.length === 1 || isConnectionFailure(failure)) throw failure
    }
    const verdicts: PipelineVerdict[] = []
    for (const append of appends) verdicts.push(await this.#commitAlone(append))
    return verdicts
  }

  async #commitAlone(append: PipelineAppend): Promise<PipelineVerdict> {
    try {
      const [verdict] = await this.#commit([append])
      return verdict ?? { outcome: 'barred', error: errors.INTERNAL_SERVER_ERROR() }
    } catch (failure) {
      if (isConnectionFailure(failure)) throw failure
      return { outcome: 'barred', error: errors.INTERNAL_SERVER_ERROR() }
    }
  }

  async #commit(appends: readonly PipelineAppend[]): Promise<readonly PipelineVerdict[]> {
    const paused = new Set<EntityUrl>()
    for (;;) {
      try {
        const verdicts = await this.#database.transaction((tx) => this.#commitIn(tx, appends, [...paused]))
        this.announce(appends.filter((_, index) => verdicts[index]?.outcome === 'appended').map(({ path }) => path))
        return verdicts
      } catch (failure) {
        if (!(failure instanceof Paused)) throw failure
        for (const url of failure.urls) paused.add(url)
      }
    }
  }

  /**
   * P2. The status is read under the streams' locks: a signal that stands before a message on the stream has been seen by it.
   * Rows come before streams, so a pause that only shows then is ended by the next attempt.
   */
  async #commitIn(tx: Transaction, appends: readonly PipelineAppend[], paused: readonly EntityUrl[]): Promise<PipelineVerdict[]> {
    const recipients = recipientsOf(appends)
    if (paused.length > 0) await resumePaused(tx, paused, Date.now())
    const [locked, statuses] = await Promise.all([
      this.#streams.lock(tx, [...new Set(appends.map((append) => append.path))]),
      recipients.length > 0 ? statusesOf(tx, recipients) : new Map<string, EntityStatus>(), // answered after the lock (database.ts D7)
    ])
    const bars = appends.map((append) => barOf(append, statuses))
    const admitted = appends.filter((_, index) => bars[index] === null)
    const resumed = resumedBy(admitted, statuses)
    if (resumed.length > 0) throw new Paused(resumed)
    const appended = (await this.appendIn(tx, admitted, locked)).values()
    return bars.map((error) => (error === null ? (appended.next().value as AppendVerdict) : { outcome: 'barred', error }))
  }
}

/** Entities whose pause a message ends. */
class Paused extends Error {
  readonly urls: readonly EntityUrl[]

  constructor(urls: readonly EntityUrl[]) {
    super('paused')
    this.urls = urls
  }
}

function consequencesOf(append: PipelineAppend, verdict: AppendVerdict | undefined) {
  if (verdict?.outcome !== 'appended') return []
  return projectionRows(append.path, append.path.endsWith('/main') ? itemsOf(append).map((item) => ({ entry: verdict.tail, item })) : [])
}
