/**
 * The main stream of an entity as one wake reads it: from `-1` to the tail, then by long-poll (spec/06 §12 step 2b).
 *
 * Read with the published client, which retries 5xx and network failures for ever; another 4xx ends the tail.
 */
import { type JsonBatch, stream } from '@durable-streams/client'
import { Bell } from './bell.js'
import { parseStreamEvent, type StreamEvent } from './wake.js'

export class EntityTail {
  readonly #events: StreamEvent[] = []
  readonly #bell = new Bell()
  readonly #onChange: () => void
  readonly #ends = new AbortController()
  #offset = ''
  #isLoaded = false
  #isEnded = false
  #failure: Error | undefined

  private constructor(onChange: () => void) {
    this.#onChange = onChange
  }

  /** Begins to read at once; `onChange` is called after every batch, and at the end. */
  static open(url: string, headers: Readonly<Record<string, string>>, onChange: () => void): EntityTail {
    const tail = new EntityTail(onChange)
    tail.#read(url, headers).catch((failure: unknown) => tail.#fail(failure))
    return tail
  }

  get events(): readonly StreamEvent[] {
    return this.#events
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  /** Throws when the stream cannot be read. */
  async loaded(withinMs = 60_000): Promise<void> {
    const settled = await this.#bell.until(() => this.#isLoaded || this.#isEnded, withinMs)
    if (this.#failure !== undefined) throw new Error(`the stream cannot be read: ${this.#failure.message}`, { cause: this.#failure })
    if (!settled || !this.#isLoaded) throw new Error(`the stream was not loaded within ${withinMs} ms`)
  }

  /** Whether everything up to `offset` was read; gives up when the stream cannot be read any more. */
  async reaches(offset: string, withinMs: number): Promise<boolean> {
    await this.#bell.until(() => this.#offset >= offset || this.#isEnded, withinMs)
    return this.#offset >= offset
  }

  close(): void {
    this.#ends.abort()
    this.#isEnded = true
    this.#bell.ring()
  }

  #take({ items, offset, upToDate, streamClosed }: JsonBatch): void {
    try {
      this.#events.push(...items.map(parseStreamEvent))
    } catch (failure) {
      this.#fail(failure)
      return
    }
    this.#offset = offset
    this.#isLoaded ||= upToDate
    this.#isEnded ||= streamClosed
    this.#bell.ring()
    this.#onChange()
  }

  #fail(failure: unknown): void {
    if (this.#isEnded) return
    this.#failure = failure instanceof Error ? failure : new Error(String(failure))
    this.#isEnded = true
    this.#bell.ring()
    this.#onChange()
  }

  async #read(url: string, headers: Readonly<Record<string, string>>): Promise<void> {
    const response = await stream({
      url,
      headers: { ...headers },
      offset: '-1',
      live: 'long-poll',
      json: true,
      signal: this.#ends.signal,
      warnOnHttp: false,
    })
    response.subscribeJson((batch) => {
      if (!this.#isEnded) this.#take(batch)
    })
    await response.closed // to hear of failures; of a closed stream it settles before its last batch is handed over
  }
}
