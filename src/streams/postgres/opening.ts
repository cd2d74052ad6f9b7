/**
 * Opening streams to read them: what concurrent readers ask becomes one statement. Whether they may was decided before, for each request.
 *
 * O1  A stream is looked up by a statement that leaves after it was asked for: readers who wait join the next one, never one under way. So they see
 *     what was acknowledged before they asked, by any replica. Nothing is remembered.
 * O2  A lone reader waits for nobody.
 * O3  A statement brings `maxStreamReadBatchBytes` at most. Each of its streams has an equal share, bounded too: neither many reads nor a large one
 *     hold the next statement up for long. What goes beyond its share is read for its reader alone (`readChunk`), beside the next statements.
 * O4  Streams that Postgres refuses to read together are read one by one: what is wrong with one of them is that reader's alone.
 */
import { errors } from '../../domain/errors.js'
import { GroupCommit } from '../../domain/group-commit.js'
import type { Limits } from '../../domain/limits.js'
import { isConnectionFailure, type Queryable } from '../../registry/database.js'
import { type ChunkBounds, type OpenedStream, openStreams, type WantedStream } from './reading.js'

/** Of a reader who is alone. */
const maxShareBytes = 256 * 1024
/** What an entry costs, however small. */
const bytesPerEntry = 256

export type OpeningLimits = Pick<Limits, 'maxStreamReadBatch' | 'maxStreamReadBatchBytes' | 'maxWaitingReads'>

export class Opening {
  readonly #database: Queryable
  readonly #limits: OpeningLimits
  readonly #reads: GroupCommit<WantedStream, PromiseSettledResult<OpenedStream>>

  constructor(database: Queryable, limits: OpeningLimits) {
    this.#database = database
    this.#limits = limits
    this.#reads = new GroupCommit((wanted) => this.#openAll(wanted), {
      maxBatch: limits.maxStreamReadBatch,
      maxWaiting: limits.maxWaitingReads,
      overloaded: () => errors.OVERLOADED('reads').retryAfter(1),
    })
  }

  /** The stream at `path`, and what of it lies behind `after`, as far as its share goes. */
  async open(path: string, after: number): Promise<OpenedStream> {
    if (path.includes('\0')) return 'missing' // refused by Postgres; no row holds it
    const opened = await this.#reads.add({ path, after })
    if (opened.status === 'rejected') throw opened.reason
    return opened.value
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
