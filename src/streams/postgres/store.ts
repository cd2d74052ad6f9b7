/**
 * The StreamStore in Postgres (spec/14 §6). Appends and creates are group-committed: what arrives while a transaction is under way goes into
 * the next one together; so are the first looks of readers (`opening.ts`). Invariants S1–S4 of the port; those of each part stand in its file.
 */
import { errors } from '../../domain/errors.js'
import { GroupCommit } from '../../domain/group-commit.js'
import { type Offset, offsetOf, type StreamPath } from '../../domain/ids.js'
import { defaultLimits, type Limits } from '../../domain/limits.js'
import { type Database, isConnectionFailure, type Transaction } from '../../registry/database.js'
import { madeReady, madeReadyToCreate, needsTime, needsTimeToCreate, prepareAppend } from '../protocol/append-rules.js'
import * as refusals from '../protocol/refusals.js'
import type {
  AppendRequest,
  AppendVerdict,
  CreateRequest,
  CreateVerdict,
  DeleteVerdict,
  HeadVerdict,
  LockedStreams,
  NewStream,
  ReadRequest,
  ReadResponse,
  StoredEvents,
  StreamAppend,
  StreamRefusal,
  StreamStore,
  TransactionalStreams,
} from '../store.js'
import { isRefused } from '../store.js'
import { appendAll, decideAll, type Locked, lockStreams, type PathAppend } from './appending.js'
import { createAll } from './creating.js'
import { historyReads, readEvents, shareStreams } from './events.js'
import { Opening } from './opening.js'
import { deleteStream, sweepStreams } from './purging.js'
import { beyondAll } from './reading.js'
import { etagOf, serveRead } from './serving.js'
import { Watching } from './watching.js'

const sweepMs = 1_000

export interface PostgresStreamsOptions {
  readonly database: Database
  readonly limits?: Limits
  /** Told why streams that are gone could not be purged. */
  readonly warn?: (failure: unknown, text: string) => void
}

export class PostgresStreams implements StreamStore {
  readonly transactional: TransactionalStreams
  readonly #database: Database
  readonly #limits: Limits
  readonly #warn: (failure: unknown, text: string) => void
  readonly #watching: Watching
  readonly #opening: Opening
  readonly #appends: GroupCommit<PathAppend, AppendVerdict>
  readonly #creates: GroupCommit<NewStream, CreateVerdict>
  readonly #sweeper: NodeJS.Timeout
  #sweep: Promise<void> | null = null

  constructor({ database, limits = defaultLimits, warn = () => undefined }: PostgresStreamsOptions) {
    this.#database = database
    this.#limits = limits
    this.#warn = warn
    this.#watching = new Watching(database)
    this.#opening = new Opening(database, limits)
    const bounds = {
      maxBatch: limits.maxAppendBatch,
      turns: database.turns,
      maxWaiting: limits.maxWaitingAppends,
      maxWeight: limits.maxAppendBatchBytes,
    }
    this.#appends = new GroupCommit((appends) => this.#commitAppends(appends), {
      ...bounds,
      weigh: ({ prepared }) => prepared.request.body.length,
      overloaded: () => errors.OVERLOADED('appends').retryAfter(1),
    })
    this.#creates = new GroupCommit((streams) => this.#commitCreates(streams), {
      ...bounds,
      weigh: ({ body }) => body?.length ?? 0,
      overloaded: () => errors.OVERLOADED('creates').retryAfter(1),
    })
    this.transactional = {
      create: async (tx, streams) => await createAll(tx, streams),
      delete: async (tx, path) => await this.#deleteIn(tx, path),
      lock: async (tx, appends) => (await lockStreams(tx, appends)) as unknown as LockedStreams, // opaque to callers
      decide: (locked, appends) => decideAll(locked as unknown as Locked, appends.map(preparedAt)), // made by `lock`
      share: async (tx, paths) => await shareStreams(tx, paths),
      history: historyReads,
      announce: (paths) => this.#watching.announce(paths),
    }
    this.#sweeper = setInterval(() => this.#sweepSoon(), sweepMs)
    this.#sweeper.unref()
  }

  async create(path: StreamPath, request: CreateRequest): Promise<CreateVerdict> {
    return await this.#creates.add({ path, ...(needsTimeToCreate(request) ? await madeReadyToCreate(request) : request) })
  }

  async append(path: StreamPath, request: AppendRequest): Promise<AppendVerdict> {
    return await this.#appends.add(preparedAt({ path, ...(needsTime(request) ? await madeReady(request) : request) }))
  }

  async head(path: StreamPath): Promise<HeadVerdict> {
    const opened = await this.#reach(() => this.#opening.open(path, beyondAll))
    if (opened === 'missing') return refusals.missing
    if (opened === 'gone') return refusals.gone
    const { contentType, tail, closed, ttlS, expiresAt } = opened.view
    const life = { ...(ttlS === null ? {} : { ttlS }), ...(expiresAt === null ? {} : { expiresAt }) }
    return { outcome: 'found', head: { contentType, tail: offsetOf(tail), closed, etag: etagOf(opened.view, 'head', tail), ...life } }
  }

  async delete(path: StreamPath): Promise<DeleteVerdict> {
    return await this.#commit(async (tx) => await this.#deleteIn(tx, path))
  }

  async serveRead(request: ReadRequest): Promise<ReadResponse> {
    return await this.#reach((database) =>
      serveRead({ database, opening: this.#opening, watching: this.#watching, limits: this.#limits }, request),
    )
  }

  async readEvents(path: StreamPath, after: Offset, limit: number): Promise<StoredEvents | StreamRefusal> {
    return await this.#reach((database) => readEvents(database, this.#opening, path, after, limit))
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper)
    await this.#watching.close()
    await Promise.all([this.#appends.drained(), this.#creates.drained(), this.#sweep])
  }

  async #deleteIn(tx: Transaction, path: StreamPath): Promise<DeleteVerdict> {
    const verdict = await deleteStream(tx, path)
    tx.afterCommit(() => {
      if (verdict.outcome === 'deleted') this.#watching.announce([path])
      this.#sweepSoon()
    })
    return verdict
  }

  async #commitAppends(appends: readonly PathAppend[]): Promise<readonly AppendVerdict[]> {
    const verdicts = await this.#commit(async (tx) => await appendAll(tx, appends))
    this.#watching.announce(changedPaths(appends, verdicts))
    return verdicts
  }

  async #commitCreates(streams: readonly NewStream[]): Promise<readonly CreateVerdict[]> {
    return await this.#commit(async (tx) => await createAll(tx, streams))
  }

  /** The database holds callers while it is away, and knows what became of a commit whose answer was lost (database.ts D5). */
  async #commit<Result>(body: (tx: Transaction) => Promise<Result>): Promise<Result> {
    return await this.#reach(async (database) => await database.transaction(body))
  }

  async #reach<Result>(work: (database: Database) => Promise<Result>): Promise<Result> {
    try {
      return await work(this.#database)
    } catch (failure) {
      if (isConnectionFailure(failure) || (failure instanceof Error && isConnectionFailure(failure.cause))) {
        throw errors.STREAM_SERVICE_UNAVAILABLE().retryAfter(1) // S4
      }
      throw failure
    }
  }

  /** Also what a crashed process left; what fails is tried again by the next sweep. */
  #sweepSoon(): void {
    this.#sweep ??= sweepStreams(this.#database)
      .catch((failure: unknown) => this.#warn(failure, 'streams that are gone could not be purged'))
      .finally(() => {
        this.#sweep = null
      })
  }
}

const preparedAt = ({ path, ...request }: StreamAppend): PathAppend => ({ path, prepared: prepareAppend(request) })

function changedPaths(appends: readonly PathAppend[], verdicts: readonly AppendVerdict[]): StreamPath[] {
  return [...new Set(appends.filter((_, index) => !isRefused(verdicts[index] ?? refusals.missing)).map(({ path }) => path))]
}
