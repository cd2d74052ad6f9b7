/**
 * Opening streams to read them: what concurrent readers ask becomes one statement. Whether they may was decided before, for each request.
 *
 * O1  A stream is looked up by a statement that leaves after it was asked for: readers who wait join the next one, never one under way. So they see
 *     what was acknowledged before they asked, by any replica. Only bytes that never change are remembered (`beginnings.ts`).
 * O2  A lone reader waits for nobody.
 * O3  A statement brings `maxStreamReadBatchBytes` at most. Each of its streams has an equal share, bounded too: neither many reads nor a large one
 *     hold the next statement up for long. What goes beyond its share is read for its reader alone (`readChunk`), beside the next statements.
 * O4  Streams that Postgres refuses to read together are read one by one: what is wrong with one of them is that reader's alone.
 */
import { errors } from '../../domain/errors.js'
import { GroupCommit } from '../../domain/group-commit.js'
import type { Limits } from '../../domain/limits.js'
import { type Database, isConnectionFailure, type Queryable } from '../../registry/database.js'
import { type Beginning, Beginnings } from './beginnings.js'
import { type Chunk, type ChunkBounds, joined, type OpenedStream, openStreams, type StreamView, type WantedStream } from './reading.js'

/** Of a reader who is alone. */
const maxShareBytes = 256 * 1024
/** What an entry costs, however small. */
const bytesPerEntry = 256

export type OpeningLimits = Pick<Limits, 'maxStreamReadBatch' | 'maxStreamReadBatchBytes' | 'maxWaitingReads' | 'keptReadBytes'>

/** Whoever remembers what it has read must know the era. */
export type ReadDatabase = Queryable & Pick<Database, 'era'>

/** A stream as it was opened, and in which era of the database. */
export type Opened = (Exclude<OpenedStream, string> & { readonly era: number }) | Extract<OpenedStream, string>

export class Opening {
  readonly #database: ReadDatabase
  readonly #limits: OpeningLimits
  readonly #reads: GroupCommit<WantedStream, PromiseSettledResult<OpenedStream>>
  readonly #beginnings: Beginnings

  constructor(database: ReadDatabase, limits: OpeningLimits) {
    this.#database = database
    this.#limits = limits
    this.#beginnings = new Beginnings(limits.keptReadBytes)
    this.#reads = new GroupCommit((wanted) => this.#openAll(wanted), {
      maxBatch: limits.maxStreamReadBatch,
      maxWaiting: limits.maxWaitingReads,
      overloaded: () => errors.OVERLOADED('reads').retryAfter(1),
    })
  }

  /** The stream at `path`, and what of it lies behind `after`, as far as its share goes. */
  async open(path: string, after: number): Promise<Opened> {
    if (path.includes('\0')) return 'missing' // refused by Postgres; no row holds it
    const { era } = this.#database
    const kept = after === 0 ? this.#beginnings.at(path) : undefined
    const known = kept?.era === era ? kept : undefined
    const asked = await this.#reads.add({ path, after: known?.last ?? after })
    if (asked.status === 'rejected') throw asked.reason
    const opened = asked.value
    if (typeof opened === 'string') return opened
    const { view } = opened
    if (known === undefined) return { ...opened, era }
    if (known.id !== view.id || this.#database.era !== era) return { view, chunk: null, era } // of another stream, or maybe of other entries
    return { view, chunk: continued(view, known, opened.chunk), era }
  }

  /** Remembers what a stream begins with, where that is all of it. */
  keep(path: string, { view, era }: { readonly view: StreamView; readonly era: number }, chunk: Chunk): void {
    if (chunk.last !== view.tail || chunk === this.#beginnings.at(path)) return
    this.#beginnings.keep(path, { id: view.id, era, ...chunk })
  }

  async #openAll(wanted: readonly WantedStream[]): Promise<readonly PromiseSettledResult<OpenedStream>[]> {
    try {
      const opened = await openStreams(this.#database, wanted, this.#share(wanted.length))
      return opened.map((value) => ({ status: 'fulfilled', value }))
    } catch (failure) {
      if (wanted.length === 1 || isConnectionFailure(failure)) throw failure
      return await Promise.allSettled(wanted.map((one) => this.#openAlone(one)))
    }
  }

  /** O4. */
  async #openAlone(wanted: WantedStream): Promise<OpenedStream> {
    const [opened = 'missing'] = await openStreams(this.#database, [wanted], this.#share(1))
    return opened
  }

  /** O3. */
  #share(streams: number): ChunkBounds {
    const bytes = Math.min(maxShareBytes, Math.floor(this.#limits.maxStreamReadBatchBytes / streams))
    return { bytes, entries: Math.ceil(bytes / bytesPerEntry) }
  }
}

/** A beginning, and what was read behind it. */
const continued = (view: StreamView, known: Beginning, more: Chunk | null): Chunk =>
  more === null ? known : { data: joined(view, [known.data, more.data]), last: more.last }
