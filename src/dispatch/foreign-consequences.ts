/**
 * What follows from entries on a foreign stream server (design §4, 2): it is drawn from the entries as they stand there, after they have landed.
 *
 * C1  Consequences are drawn in stream order and once: `stream_progress` moves only from where the reader read (compare-and-set).
 * C2  An intent goes away in the transaction that draws the consequences of everything up to and including its entry, or once its stream is gone for
 *     good (intents.ts `giveUpIntent`); that of an append that begins runs after it (`fenced-runs.ts` R1).
 * C3  What is read may be older than what was appended (a cache, a replica that lags): an intent stays until its entry was read.
 * C4  A stream that ends before what was drawn of it has come back with older data (a restored backup). What is about to be appended, or was and has not
 *     been drawn, is news all the same: cursors beyond it go back before it, or its entries would wake nobody until the stream has outgrown its former end.
 *
 * A crash leaves the progress at the end of a step, and the intent: whoever draws next, in any process, goes on from there.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { errors } from '../domain/errors.js'
import { tellsOfLostWake } from '../domain/events.js'
import { entityOfMainStream, type Offset, type StreamPath, zeroOffset } from '../domain/ids.js'
import type { Database, Transaction } from '../registry/database.js'
import { lostDispatchPolicy } from '../registry/entities.js'
import { deleteIntents, giveUpIntent, intentsAbout } from '../registry/intents.js'
import { advanceProgress, progressOf } from '../registry/projections.js'
import { forgetProgress } from '../registry/subscription-editing.js'
import { lowerAcks } from '../registry/subscriptions.js'
import { isRefused, type StoredEvents, type StreamStore } from '../streams/store.js'
import { drawFrom } from './consequences.js'
import { lastOfEach, projectionRows } from './pipeline.js'
import type { Appended, Waking } from './waking.js'

/** Events read at once while consequences are drawn. */
const eventsPerStep = 1_000
const parallelStreams = 16
/** C3. */
const untilShownMs = [20, 100, 500]

export interface ConsequencesParts {
  readonly database: Database
  readonly streams: Pick<StreamStore, 'head' | 'readEvents'>
  readonly waking: Pick<Waking, 'appended' | 'made' | 'passedOver'>
  readonly warn: (facts: object, text: string) => void
}

export class ForeignConsequences {
  readonly #database: Database
  readonly #streams: ConsequencesParts['streams']
  readonly #waking: ConsequencesParts['waking']
  readonly #warn: ConsequencesParts['warn']

  constructor({ database, streams, waking, warn }: ConsequencesParts) {
    this.#database = database
    this.#streams = streams
    this.#waking = waking
    this.#warn = warn
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

  /**
   * C1: from where the stream was processed to its tail, step by step; C2: with the intent, if there is one, cleared in the last step. `landed`: where its
   * entry ends, if that is known. Whether all of it could be drawn (C3).
   */
  async draw(path: StreamPath, intentId: string | null, landed: Offset = zeroOffset): Promise<boolean> {
    for (const pauseMs of [...untilShownMs, null]) {
      if (await this.#drawnTo(path, intentId, landed)) return true
      if (pauseMs !== null) await delay(pauseMs)
    }
    this.#warn({ path, landed }, 'a stream is read older than it was written')
    return false
  }

  /** False: what can be read is older than `landed`, or than what was drawn. */
  async #drawnTo(path: StreamPath, intentId: string | null, landed: Offset): Promise<boolean> {
    for (;;) {
      const from = (await progressOf(this.#database, [path])).get(path) ?? null
      const before = from ?? zeroOffset
      const read = await this.#readFrom(path, before)
      if (read === null) {
        await this.#forget(path, intentId)
        return true
      }
      if (read.next < before && (await this.#wentBack(path, before))) continue
      if (read.next < before || (read.upToDate && read.next < landed)) return false
      const moved = await this.#database.transaction(async (tx) => {
        const url = entityOfMainStream(path)
        const policy = url === null ? null : await lostDispatchPolicy(tx, url) // A3, for entities that have not ended
        if (!(await moveProgress(tx, path, from, read.next))) return false
        await drawFrom(tx, lastOfEach(projectionRows(path, read.events)))
        if (read.next !== before) await this.#wake(tx, { path, before, policy }, read)
        if (read.upToDate && intentId !== null) await deleteIntents(tx, [intentId])
        return true
      })
      if (moved && read.upToDate) return true
    }
  }

  /** C4. False: the stream itself says that it ends at `drawn` or behind it, and what was read is old. */
  async #wentBack(path: StreamPath, drawn: Offset): Promise<boolean> {
    const found = await this.#streams.head(path)
    if (isRefused(found)) return true // it is gone: whoever reads next hears so
    if (found.head.tail >= drawn) return false
    const ends = await this.#endsOf(path)
    this.#warn({ path, drawn, tail: found.head.tail }, 'a stream has come back with older data: it ends before what was drawn of it')
    await this.#database.transaction(async (tx) => {
      const news = await intentsAbout(tx, path)
      const old = ends.at(-1 - news) ?? zeroOffset
      if (await advanceProgress(tx, path, drawn, old)) await lowerAcks(tx, path, old)
    })
    return true
  }

  /** Where the entries of a main stream end, in their order; of others that is not known. */
  async #endsOf(path: StreamPath): Promise<readonly Offset[]> {
    const ends = new Set<Offset>()
    for (let after: Offset = zeroOffset; entityOfMainStream(path) !== null; ) {
      const read = await this.#streams.readEvents(path, after, eventsPerStep)
      if ('outcome' in read) break
      for (const { entry } of read.events) ends.add(entry)
      if (read.upToDate) break
      after = read.next
    }
    return [...ends]
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
