/**
 * The pipeline with streams in Postgres: append and consequences in one transaction, group-committed with the other appends of the moment.
 *
 * A crash before the commit leaves nothing, after it everything. Locks are taken in one order everywhere: patterns, entity rows by URL,
 * streams by id, subscriptions by id, and what hangs on those.
 */
import type { DispatchPolicy, EntityStatus } from '../domain/entity.js'
import { errors } from '../domain/errors.js'
import { type BatchObserver, GroupCommit, overtakingBy } from '../domain/group-commit.js'
import { type EntityUrl, offsetOf, positionOf, type StreamPath } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import type { MadeStream } from '../domain/subscriptions.js'
import { writeTokenHashes } from '../registry/claims.js'
import { type Database, isConnectionFailure, type Transaction } from '../registry/database.js'
import { resumePaused, statusesOf } from '../registry/statuses.js'
import { dropLinks, linkedPaths, sharePatterns } from '../registry/subscriptions.js'
import type { Subscriber } from '../registry/wakes.js'
import { madeReady, madeReadyToCreate, needsTime, needsTimeToCreate } from '../streams/protocol/append-rules.js'
import type {
  AppendVerdict,
  CreateRequest,
  CreateVerdict,
  DeleteVerdict,
  LockedStreams,
  NewStream,
  TransactionalStreams,
} from '../streams/store.js'
import { drawFrom } from './consequences.js'
import {
  barOf,
  entitiesAskedBy,
  itemsOf,
  lastOfEach,
  type Pipeline,
  type PipelineAppend,
  type PipelineVerdict,
  projectionRows,
  resumedBy,
  type Together,
  writtenBy,
} from './pipeline.js'
import type { Appended, Waking } from './waking.js'

/** A stream to be made. With `dispatch` it is the main stream of an entity with that policy, whose last `waking` entries wake it; default: all behind the first. */
export interface PipelineCreate extends NewStream {
  readonly dispatch?: DispatchPolicy | null
  readonly waking?: number
}

/** Streams to which something is to be appended, and whom that may wake: locked in this order. */
interface Locked {
  readonly streams: LockedStreams
  readonly subscribers: readonly Subscriber[]
}

interface CreatedIn {
  readonly verdicts: readonly CreateVerdict[]
  wake(): Promise<unknown>
}

interface DecidedIn {
  readonly verdicts: readonly AppendVerdict[]
  write(): Promise<unknown>
}

export interface PostgresPipelineParts {
  readonly database: Database
  readonly streams: TransactionalStreams
  readonly waking: Waking
  readonly limits: Limits
  readonly observe?: BatchObserver
  /** Told why an append was refused that Postgres could not take: its caller is not. */
  readonly warn?: (failure: unknown, text: string) => void
}

export class PostgresPipeline implements Pipeline {
  readonly #database: Database
  readonly #streams: TransactionalStreams
  readonly #waking: Waking
  readonly #warn: (failure: unknown, text: string) => void
  readonly #commits: GroupCommit<PipelineAppend, PipelineVerdict>
  readonly #creates: GroupCommit<PipelineCreate, CreateVerdict>

  constructor({ database, streams, waking, limits, observe, warn = () => undefined }: PostgresPipelineParts) {
    this.#database = database
    this.#streams = streams
    this.#waking = waking
    this.#warn = warn
    this.#creates = new GroupCommit((creates) => this.#commitCreates(creates), {
      maxBatch: limits.maxAppendBatch,
      turns: database.turns,
      maxWeight: limits.maxAppendBatchBytes,
      weigh: ({ body }) => body?.length ?? 0,
      maxWaiting: limits.maxWaitingAppends,
      overloaded: () => errors.OVERLOADED('creates').retryAfter(1),
    })
    this.#commits = new GroupCommit((appends) => this.#commitOrSplit(appends), {
      maxBatch: limits.maxAppendBatch,
      turns: database.turns,
      maxWeight: limits.maxAppendBatchBytes,
      weigh: (append) => append.body.length,
      maxWaiting: limits.maxWaitingAppends,
      overtaking: overtakingBy(({ path }) => path),
      overloaded: () => errors.OVERLOADED('appends').retryAfter(1),
      ...(observe === undefined ? {} : { observe }),
    })
  }

  async append(append: PipelineAppend): Promise<PipelineVerdict> {
    return await this.#commits.add(needsTime(append) ? await madeReady(append) : append) // what is small joins its batch in this very turn
  }

  async together<Result>(work: (tx: Transaction) => Promise<Together<Result>>): Promise<Result> {
    const { result, appends } = await this.#database.transaction(async (tx) => {
      const done = await work(tx)
      await this.#finish(tx, done)
      return done
    })
    this.announce(appends.map(({ path }) => path))
    return result
  }

  async #finish(tx: Transaction, { appends, rows, after }: Together<unknown>): Promise<void> {
    if (appends.length === 0) await rows?.()
    else {
      const [, { write }] = await Promise.all([rows?.(), this.decideIn(tx, appends)]) // in this order (database.ts D7)
      if (after === undefined) tx.last(write)
      else await write()
    }
    await after?.()
  }

  async create(path: StreamPath, request: CreateRequest): Promise<CreateVerdict> {
    return await this.#creates.add({ path, ...(needsTimeToCreate(request) ? await madeReadyToCreate(request) : request) })
  }

  /**
   * One transaction: a stream that is made under the name afterwards keeps the links that come with it. With the patterns shared nobody links the stream
   * by a pattern while it goes.
   */
  async delete(path: StreamPath): Promise<DeleteVerdict> {
    return await this.#database.transaction(async (tx) => {
      const [, verdict] = await Promise.all([sharePatterns(tx), this.#streams.delete(tx, path)])
      if (verdict.outcome === 'deleted') await dropLinks(tx, path)
      return verdict
    })
  }

  /** There is nothing to catch up with. */
  async catchUp(): Promise<void> {}

  async drained(): Promise<void> {
    await Promise.all([this.#commits.drained(), this.#creates.drained()])
  }

  /**
   * Makes streams, with their links, inside the caller's transaction, which asks for the wakes of their first entries by `wake`, in one turn of the event
   * loop (database.ts D9).
   */
  async createIn(tx: Transaction, creates: readonly PipelineCreate[]): Promise<CreatedIn> {
    const paths = creates.map(({ path }) => path)
    const [patterns, linked, verdicts] = await Promise.all([
      this.#waking.patternsFor(tx, paths),
      linkedPaths(tx, paths), // in this order (database.ts D7): with the patterns shared nobody else links them from now on
      this.#streams.create(tx, creates),
    ])
    const made = creates.flatMap((create, index) => madeBy(create, verdicts[index]))
    const woken = await this.#waking.wokenByMade(tx, made, patterns, linked)
    return { verdicts, wake: () => this.#waking.wake(tx, woken) }
  }

  async #commitCreates(creates: readonly PipelineCreate[]): Promise<readonly CreateVerdict[]> {
    return await this.#database.transaction(async (tx) => {
      const { verdicts, wake } = await this.createIn(tx, creates)
      tx.last(wake)
      return verdicts
    })
  }

  /**
   * Appends with their consequences inside the caller's transaction, which asks for them by `write`, in one turn of the event loop (database.ts D9); after
   * its commit it calls `announce`.
   */
  async decideIn(tx: Transaction, appends: readonly PipelineAppend[]): Promise<DecidedIn> {
    return await this.#decide(tx, appends, await this.#lock(tx, appends))
  }

  /** Two round trips, with the commit: everything is locked in the first, and written in the second. */
  async #lock(tx: Transaction, appends: readonly PipelineAppend[]): Promise<Locked> {
    const [streams, subscribers] = await Promise.all([this.#streams.lock(tx, appends), this.#waking.lock(tx, appends)]) // in this order (database.ts D7)
    return { streams, subscribers }
  }

  async #decide(tx: Transaction, appends: readonly PipelineAppend[], locked: Locked): Promise<DecidedIn> {
    const { verdicts, write } = this.#streams.decide(locked.streams, appends)
    const rows = lastOfEach(appends.flatMap((append, index) => consequencesOf(append, verdicts[index])))
    const appended = appends.flatMap((append, index) => appendedBy(append, verdicts[index]))
    const woken = await this.#waking.wokenBy(tx, appended, locked.subscribers)
    return { verdicts, write: () => Promise.all([write(tx), drawFrom(tx, rows), this.#waking.wake(tx, woken)]) }
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
      this.#warn(failure, `an append to ${append.path} was not taken`)
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
    const asked = entitiesAskedBy(appends)
    const written = writtenBy(appends)
    if (paused.length > 0) await resumePaused(tx, paused, Date.now())
    const [locked, statuses, tokens] = await Promise.all([
      this.#lock(tx, appends),
      asked.length > 0 ? statusesOf(tx, asked) : new Map<string, EntityStatus>(), // answered after the locks (database.ts D7)
      written.length > 0 ? writeTokenHashes(tx, written) : new Map<string, Buffer>(),
    ])
    const bars = appends.map((append) => barOf(append, { statuses, tokens }))
    const admitted = appends.filter((_, index) => bars[index] === null)
    const resumed = resumedBy(admitted, statuses)
    if (resumed.length > 0) throw new Paused(resumed)
    const { verdicts, write } = await this.#decide(tx, admitted, locked)
    tx.last(write)
    const taken = verdicts.values()
    return bars.map((error) => (error === null ? (taken.next().value as AppendVerdict) : { outcome: 'barred', error }))
  }
}

/** What a creation itself says wakes nobody of its entity's own; what a fork inherits wakes nobody at all, nor what its operation says behind that. */
function madeBy({ path, more = [], waking, dispatch }: PipelineCreate, verdict: CreateVerdict | undefined): MadeStream[] {
  if (verdict?.outcome !== 'created') return []
  const { tail } = verdict.head
  const acked = offsetOf(positionOf(tail) - (waking ?? more.length))
  const copied = verdict.inherited === undefined ? {} : { copied: waking === undefined ? verdict.inherited : acked }
  return [{ path, tail, begins: true, ...copied, ...(dispatch ? { dispatch: { policy: dispatch, acked } } : {}) }]
}

/** Entities whose pause a message ends. */
class Paused extends Error {
  readonly urls: readonly EntityUrl[]

  constructor(urls: readonly EntityUrl[]) {
    super('paused')
    this.urls = urls
  }
}

/** Positions count entries (docs/decisions/0008): the one before an entry is its stream's former end. A close without an entry wakes nobody. */
function appendedBy({ path, body, message }: PipelineAppend, verdict: AppendVerdict | undefined): Appended[] {
  if (verdict?.outcome !== 'appended' || body.length === 0) return []
  return [{ path, before: offsetOf(positionOf(verdict.tail) - 1), ...(message?.policy ? { policy: message.policy } : {}) }]
}

function consequencesOf(append: PipelineAppend, verdict: AppendVerdict | undefined) {
  if (verdict?.outcome !== 'appended') return []
  return projectionRows(append.path, append.path.endsWith('/main') ? itemsOf(append).map((item) => ({ entry: verdict.tail, item })) : [])
}
