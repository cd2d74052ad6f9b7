/**
 * One connection that listens to a channel of Postgres, and keeps itself connected.
 *
 * Each time the connection is (re-)established `onConnect` runs: what was told meanwhile is lost, so whoever listens looks for itself.
 */
import type { Client } from 'pg'

const reconnectMs = { first: 50, most: 2_000 }

export interface ListeningOptions {
  /** A connection of its own. */
  readonly connect: () => Promise<Client>
  /** A name that needs no quotes. */
  readonly channel: string
  readonly onNotice: (payload: string) => void
  readonly onConnect: () => void
}

export class Listening {
  readonly #options: ListeningOptions
  #listener: Client | null = null
  #reconnect: NodeJS.Timeout | null = null
  #reconnectMs = reconnectMs.first
  #isClosed = false

  constructor(options: ListeningOptions) {
    this.#options = options
    this.#connectSoon()
  }

  #connectSoon(): void {
    this.#connect().then(
      () => {
        this.#reconnectMs = reconnectMs.first
        if (!this.#isClosed) this.#options.onConnect()
      },
      () => this.#connectLater(),
    )
  }

  async #connect(): Promise<void> {
    const { connect, channel, onNotice } = this.#options
    const listener = await connect()
    listener.on('error', () => this.#lost(listener))
    listener.on('end', () => this.#lost(listener))
    listener.on('notification', ({ payload }) => onNotice(payload ?? ''))
    this.#listener = listener
    await listener.query(`LISTEN ${channel}`)
    if (this.#isClosed) await listener.end()
  }

  #lost(listener: Client): void {
    if (this.#listener !== listener) return
    this.#listener = null
    listener.end().catch(() => undefined)
    this.#connectLater()
  }

  #connectLater(): void {
    if (this.#isClosed || this.#reconnect !== null) return
    this.#listener = null
    this.#reconnect = setTimeout(() => {
      this.#reconnect = null
      this.#connectSoon()
    }, this.#reconnectMs)
    this.#reconnect.unref()
    this.#reconnectMs = Math.min(this.#reconnectMs * 2, reconnectMs.most)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#reconnect !== null) clearTimeout(this.#reconnect)
    const listener = this.#listener
    this.#listener = null
    await listener?.end().catch(() => undefined)
  }
}
