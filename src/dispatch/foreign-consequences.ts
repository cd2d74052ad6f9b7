/**
 * What follows from entries on a foreign stream server (design §4, 2): it is drawn from the entries as they stand there, after they have landed.
 *
 * C1  Consequences are drawn in stream order and once: `stream_progress` moves only from where the reader read (compare-and-set).
 * C2  An intent goes away in the transaction that draws the consequences of everything up to and including its entry, or once its stream is gone for
 *     good (intents.ts `giveUpIntent`); that of an append that begins runs after it (`fenced-runs.ts` R1).
 *
 * A crash leaves the progress at the end of a step, and the intent: whoever draws next, in any process, goes on from there.
 */
import { errors } from '../domain/errors.js'
import { tellsOfLostWake } from '../domain/events.js'
import { entityOfMainStream, type Offset, type StreamPath, zeroOffset } from '../domain/ids.js'
import type { Database, Transaction } from '../registry/database.js'
import { lostDispatchPolicy } from '../registry/entities.js'
import { deleteIntents, giveUpIntent } from '../registry/intents.js'
import { advanceProgress, progressOf } from '../registry/projections.js'
import { forgetProgress } from '../registry/subscription-editing.js'
import { isRefused, type StoredEvents, type StreamStore } from '../streams/store.js'
import { drawFrom } from './consequences.js'
import { lastOfEach, projectionRows } from './pipeline.js'
import type { Appended, Waking } from './waking.js'

/** Events read at once while consequences are drawn. */
const eventsPerStep = 1_000
const parallelStreams = 16

export interface ConsequencesParts {
  readonly database: Database
  readonly streams: Pick<StreamStore, 'head' | 'readEvents'>
  readonly waking: Pick<Waking, 'appended' | 'made' | 'passedOver'>
}

export class ForeignConsequences {
  readonly #database: Database
  readonly #streams: ConsequencesParts['streams']
  readonly #waking: ConsequencesParts['waking']

  constructor({ database, streams, waking }: ConsequencesParts) {
    this.#database = database
    this.#streams = streams
    this.#waking = waking
  }

  /** Draws the consequences of all that stands on these streams, also of what was written when they were made; of those that are no more it forgets the tail. */
  async catchUp(paths: readonly StreamPath[]): Promise<void> {
    const progress = await progressOf(this.#database, paths)
    const waiting = [...paths]
    const lane = async () => {
      for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) await this.#catchUp(path, progress.get(path))
    }
    await Promise.all(Array.from({ length: Math.min(parallelStreams, paths.length) }, lane))
  }

  /** A stream whose tail is where it was drawn to before is drawn: neither of the two goes back. */
  async #catchUp(path: StreamPath, drawn: Offset | undefined): Promise<void> {
    const head = await this.#streams.head(path)
    if (isRefused(head) || head.head.tail !== drawn) await this.draw(path, null)
  }

  /** C1: from where the stream was processed to its tail, step by step; C2: with the intent, if there is one, cleared in the last step. */
  async draw(path: StreamPath, intentId: string | null): Promise<void> {
    for (;;) {
      const from = (await progressOf(this.#database, [path])).get(path) ?? null
      const read = await this.#readFrom(path, from ?? zeroOffset)
      if (read === null) return await this.#forget(path, intentId)
      const moved = await this.#database.transaction(async (tx) => {
        const url = entityOfMainStream(path)
        const policy = url === null ? null : await lostDispatchPolicy(tx, url) // A3, for entities that have not ended
        if (!(await moveProgress(tx, path, from, read.next))) return false
        await drawFrom(tx, lastOfEach(projectionRows(path, read.events)))
        const before = from ?? zeroOffset
        if (read.next !== before) await this.#wake(tx, { path, before, policy }, read)
        if (read.upToDate && intentId !== null) await deleteIntents(tx, [intentId])
        return true
      })
      if (moved && read.upToDate) return
    }
  }

  /** What stands up to `copied` is no news: the stream was made with it. */
  async passOver(path: StreamPath, copied: Offset): Promise<void> {
    await this.#database.transaction(async (tx) => {
      if (await advanceProgress(tx, path, null, copied)) await this.#waking.made(tx, [{ path, tail: copied, copied }], [])
    })
  }

  /** The stream is gone, and so is what it said. */
  async #forget(path: StreamPath, intentId: string | null): Promise<void> {
    if (intentId === null) await forgetProgress(this.#database, path)
    else await giveUpIntent(this.#database, { id: intentId, path })
  }

  async #wake(tx: Transaction, appended: Appended, { events, next }: Pick<StoredEvents, 'events' | 'next'>): Promise<void> {
    const tellsOnly = isOneEntry(events) && events.some(({ item }) => tellsOfLostWake(item))
    if (tellsOnly) return await this.#waking.passedOver(tx, appended.path, appended.before, next)
    await this.#waking.appended(tx, [appended])
  }

  /** What follows from entries is only asked of main streams; of others how far they reach. */
  async #readFrom(path: StreamPath, after: Offset): Promise<Pick<StoredEvents, 'events' | 'next' | 'upToDate'> | null> {
    if (entityOfMainStream(path) === null) {
      const verdict = await this.#streams.head(path)
      return isRefused(verdict) ? null : { events: [], next: verdict.head.tail, upToDate: true }
    }
    const read = await this.#streams.readEvents(path, after, eventsPerStep)
    if (!('outcome' in read)) return read
    if (read.because === 'offset') throw errors.STREAM_SERVICE_UNAVAILABLE() // we have asked with an offset of its own: that says nothing of the stream
    return null
  }
}

const isOneEntry = (events: StoredEvents['events']): boolean => events.every(({ entry }) => entry === events[0]?.entry)

/** A stream whose progress already stands at `to` needs no move. */
async function moveProgress(tx: Transaction, path: StreamPath, from: Offset | null, to: Offset): Promise<boolean> {
  return from === to || (await advanceProgress(tx, path, from, to))
}
