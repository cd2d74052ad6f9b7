/**
 * Wake-ups between processes: hints that a stream changed, never the truth (spec/14 §6.1).
 *
 * N1  A change is told outside the transaction that made it, at most once per `flushMs` for all changes of that time: NOTIFY takes one lock
 *     for the whole cluster, so one per append would make all commits wait for each other.
 * N2  One listening connection per process (`Database.listen`). Each time it is (re-)established, `onReconnect` runs: what was told meanwhile is lost.
 *
 * A crash loses hints; readers find the change with their next poll.
 */
import { createHash, randomBytes } from 'node:crypto'
import { type Database, keyed } from '../../registry/database.js'

const channel = 'agents_streams'
const flushMs = 8
/** 12 characters each; a payload must stay below 8,000 bytes. */
const hintsPerNotice = 500

/** What stands for a stream in a notice: short, whatever its path. */
export const hintOf = (tenant: string, path: string): string =>
  createHash('sha1').update(`${tenant}\0${path}`).digest('base64url').slice(0, 12)

export interface WakeupHandlers {
  readonly onHints: (hints: readonly string[]) => void
  readonly onReconnect: () => void
}

export class Wakeups {
  readonly #database: Database
  readonly #handlers: WakeupHandlers
  readonly #self = randomBytes(6).toString('base64url')
  #pending = new Set<string>()
  #flush: NodeJS.Timeout | null = null
  #listening: ReturnType<Database['listen']> | null = null
  #isClosed = false

  constructor(database: Database, handlers: WakeupHandlers) {
    this.#database = database
    this.#handlers = handlers
  }

  /** N1. */
  tell(hint: string): void {
    if (this.#isClosed) return
    this.#pending.add(hint)
    this.#flush ??= setTimeout(() => this.#tellPending(), flushMs)
  }

  #tellPending(): void {
    this.#flush = null
    const hints = [...this.#pending]
    this.#pending = new Set()
    for (let at = 0; at < hints.length; at += hintsPerNotice) {
      const notice = [this.#self, ...hints.slice(at, at + hintsPerNotice)].join(',')
      this.#database.query(keyed`SELECT pg_notify(${channel}, ${notice})`).catch(() => undefined) // a lost hint costs one poll
    }
  }

  /** Begins to listen, once (N2). */
  listen(): void {
    if (this.#isClosed) return
    this.#listening ??= this.#database.listen({
      channel,
      onNotice: (notice) => this.#heard(notice),
      onConnect: () => this.#handlers.onReconnect(),
    })
  }

  #heard(notice: string): void {
    const [sender, ...hints] = notice.split(',')
    if (sender !== this.#self) this.#handlers.onHints(hints) // what this process tells, its readers knew before
  }

  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#flush !== null) clearTimeout(this.#flush)
    await this.#listening?.close()
  }
}
