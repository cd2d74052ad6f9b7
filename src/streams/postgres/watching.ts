/**
 * Who waits for which stream in this process.
 *
 * W1  A reader subscribes first and reads then; whatever commits after that read wakes it.
 * W2  A hint (local append, notice, reconnect, safety poll) marks a stream; marked streams are looked up in one query, and a waiter is woken
 *     if the stream differs from what the waiter saw. A change that nobody told is found by the poll of all watched streams.
 * W3  Waiters of one stream share one read per position; nothing is kept after it was handed out.
 * W4  A waiter holds no connection and no transaction; a stream is forgotten with its last watcher.
 * W5  A shared read is handed to a portion of them in each turn of the event loop, in the order they asked: however many there are, others get through.
 *
 * A crash leaves nothing behind.
 */
import type { Database } from '../../registry/database.js'
import { readEntries, renew, type StreamEntries, type StreamView, streamStates } from './reading.js'
import { hintOf, Wakeups } from './wakeups.js'

const pollMs = 1_500
/** While a stream is watched whose sliding expiry is shorter than a few polls. */
const shortPollMs = 250
const shortTtlS = 6

/** What a reader knows of the stream it reads. */
export interface Seen {
  readonly id: number
  readonly tail: number
  readonly closed: boolean
}

export type Waking = 'changed' | 'time-out' | 'aborted' | 'closing'

interface Watched {
  readonly path: string
  watchers: number
  /** Of a sliding expiry. */
  ttlS: number
  /** Undefined: not looked up yet. Null: no such stream any more. */
  known: StreamView | null | undefined
  readonly waiters: Set<{ readonly seen: Seen; readonly wake: (waking: Waking) => void }>
  readonly reads: Map<string, SharedRead>
}

export class Watching {
  readonly #database: Database
  readonly #wakeups: Wakeups
  readonly #watched = new Map<string, Watched>()
  #marked = new Set<Watched>()
  #isLooking = false
  #poll: NodeJS.Timeout | null = null
  #pollsOften = false
  #isClosed = false

  constructor(database: Database) {
    this.#database = database
    this.#wakeups = new Wakeups(database, {
      onHints: (hints) => this.#mark(hints.flatMap((hint) => this.#watched.get(hint) ?? [])),
      onReconnect: () => this.#mark(this.#watched.values()),
    })
  }

  /** Something was committed to these streams by this process. */
  announce(paths: readonly string[]): void {
    for (const path of paths) {
      const hint = hintOf(this.#database.tenant, path)
      const watched = this.#watched.get(hint)
      if (watched !== undefined) this.#mark([watched])
      this.#wakeups.tell(hint)
    }
  }

  /** W1: to be called before the stream is read, and released in any case. */
  watch(path: string): Watch {
    this.#wakeups.listen()
    const hint = hintOf(this.#database.tenant, path)
    const watched: Watched = this.#watched.get(hint) ?? {
      path,
      watchers: 0,
      ttlS: Number.POSITIVE_INFINITY,
      known: undefined,
      waiters: new Set(),
      reads: new Map(),
    }
    watched.watchers += 1
    this.#watched.set(hint, watched)
    this.#poll ??= this.#schedulePoll(pollMs)
    return new Watch(this, watched, () => {
      watched.watchers -= 1
      if (watched.watchers === 0) this.#watched.delete(hint) // W4
    })
  }

  async waitFor(watched: Watched, seen: Seen, ms: number, signal: AbortSignal): Promise<Waking> {
    if (this.#isClosed) return 'closing'
    if (signal.aborted) return 'aborted'
    if (watched.known?.id === seen.id && differs(watched.known, seen)) return 'changed'
    if (watched.known === null || (watched.known !== undefined && watched.known.id !== seen.id)) this.#mark([watched]) // may be older than `seen`
    return await new Promise<Waking>((resolve) => {
      const settle = (waking: Waking) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
        watched.waiters.delete(waiter)
        resolve(waking)
      }
      const onAbort = () => settle('aborted')
      const timer = setTimeout(() => settle('time-out'), ms)
      const waiter = { seen, wake: settle }
      watched.waiters.add(waiter)
      signal.addEventListener('abort', onAbort)
    })
  }

  /** W3. */
  async entries(watched: Watched, id: number, after: number): Promise<StreamEntries | null> {
    const key = `${id}:${after}`
    const underway = watched.reads.get(key)
    if (underway !== undefined) return await underway.share()
    const shared = new SharedRead(
      readEntries(this.#database, id, after).finally(() => {
        if (watched.reads.get(key) === shared) watched.reads.delete(key)
      }),
    )
    watched.reads.set(key, shared)
    return await shared.share()
  }

  #mark(watched: Iterable<Watched>): void {
    for (const each of watched) {
      this.#marked.add(each)
      each.reads.clear() // they may have begun before the change
    }
    if (this.#marked.size > 0 && !this.#isLooking) this.#look()
  }

  #look(): void {
    this.#isLooking = true
    const marked = [...this.#marked].filter((watched) => watched.watchers > 0)
    this.#marked = new Set()
    this.#lookUp(marked).then(
      () => this.#looked(),
      () => this.#looked(), // the database is away: the next poll looks again
    )
  }

  #looked(): void {
    this.#isLooking = false
    if (this.#marked.size > 0 && !this.#isClosed) this.#look()
  }

  /** W2. */
  async #lookUp(marked: readonly Watched[]): Promise<void> {
    if (marked.length === 0) return
    const states = await streamStates(
      this.#database,
      marked.map((watched) => watched.path),
    )
    for (const watched of marked) {
      watched.known = states.get(watched.path) ?? null
      for (const waiter of [...watched.waiters]) if (differs(watched.known, waiter.seen)) waiter.wake('changed')
    }
    await renew(
      this.#database,
      [...states.values()].filter((view) => view.renewalDue).map((view) => view.id),
    )
  }

  #schedulePoll(ms: number): NodeJS.Timeout {
    this.#pollsOften = ms === shortPollMs
    const timer = setTimeout(() => {
      this.#poll = null
      this.#pollsOften = false
      if (this.#watched.size === 0 || this.#isClosed) return
      this.#mark(this.#watched.values())
      this.#poll = this.#schedulePoll(this.#watchesShortLives() ? shortPollMs : pollMs)
    }, ms)
    timer.unref()
    return timer
  }

  #watchesShortLives(): boolean {
    for (const { ttlS } of this.#watched.values()) if (ttlS < shortTtlS) return true
    return false
  }

  /** A sliding expiry does not pass while somebody reads (spec/14 §1.5). */
  keepAlive(watched: Watched, ttlS: number): void {
    watched.ttlS = ttlS
    if (ttlS >= shortTtlS || this.#isClosed || this.#pollsOften) return
    if (this.#poll !== null) clearTimeout(this.#poll)
    this.#poll = this.#schedulePoll(shortPollMs)
  }

  /** Wakes every waiter: held reads end cleanly. */
  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#poll !== null) clearTimeout(this.#poll)
    for (const watched of this.#watched.values()) for (const waiter of [...watched.waiters]) waiter.wake('closing')
    await this.#wakeups.close()
  }
}

/** How many readers are handed a read in one turn: a few milliseconds of writing. */
const portion = 64

/** W5. */
class SharedRead {
  #turn: Promise<StreamEntries | null>
  #places = portion

  constructor(read: Promise<StreamEntries | null>) {
    this.#turn = read
  }

  async share(): Promise<StreamEntries | null> {
    if (this.#places === 0) {
      this.#turn = this.#turn.then(inNextTurn)
      this.#places = portion
    }
    this.#places -= 1
    return await this.#turn
  }
}

const inNextTurn = async (read: StreamEntries | null): Promise<StreamEntries | null> =>
  await new Promise((resolve) => setImmediate(resolve, read))

/** Whether a stream is no longer what a reader saw. What was looked up before the reader's own read is older, and no news. */
function differs(known: StreamView | null | undefined, seen: Seen): boolean {
  if (known === undefined) return false
  if (known === null) return true
  return known.id !== seen.id || known.tail > seen.tail || (known.closed && !seen.closed)
}

/** One reader's interest in one stream. */
export class Watch {
  readonly #watching: Watching
  readonly #watched: Watched
  #release: (() => void) | null

  constructor(watching: Watching, watched: Watched, release: () => void) {
    this.#watching = watching
    this.#watched = watched
    this.#release = release
  }

  /** Waits until the stream is no longer what the reader saw. */
  async changed(seen: Seen, ms: number, signal: AbortSignal): Promise<Waking> {
    return await this.#watching.waitFor(this.#watched, seen, ms, signal)
  }

  keepAlive(ttlS: number): void {
    this.#watching.keepAlive(this.#watched, ttlS)
  }

  /** The stream and its entries behind `after`; null when it has ended. */
  async entries(id: number, after: number): Promise<StreamEntries | null> {
    return await this.#watching.entries(this.#watched, id, after)
  }

  release(): void {
    this.#release?.()
    this.#release = null
  }
}
