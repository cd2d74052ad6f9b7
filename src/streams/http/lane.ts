/**
 * How many writes may be under way at the foreign server at once.
 *
 * L1  Never more than `width` tasks run; the others wait in order, at most `maxWaiting` of them (beyond that `OVERLOADED`), none longer than
 *     `maxWaitMs` (`STREAM_SERVICE_UNAVAILABLE`: the server is stalled).
 * L2  `narrow` is for ever: from then on a task starts only when none runs. A server that lost one write under concurrency will lose the next.
 *
 * A crash loses the waiting tasks and nothing else: none of them has been sent.
 */
import { errors } from '../../domain/errors.js'

export class WriteLane {
  #width: number
  #running = 0
  readonly #maxWaiting: number
  readonly #maxWaitMs: number
  readonly #waiting = new Set<() => void>()

  constructor(options: { readonly width: number; readonly maxWaiting: number; readonly maxWaitMs: number }) {
    this.#width = options.width
    this.#maxWaiting = options.maxWaiting
    this.#maxWaitMs = options.maxWaitMs
  }

  get width(): number {
    return this.#width
  }

  narrow(): void {
    this.#width = 1
  }

  async run<Result>(task: () => Promise<Result>): Promise<Result> {
    await this.#enter()
    try {
      return await task()
    } finally {
      this.#running -= 1
      this.#next()
    }
  }

  async #enter(): Promise<void> {
    if (this.#running < this.#width && this.#waiting.size === 0) {
      this.#running += 1
      return
    }
    if (this.#waiting.size >= this.#maxWaiting) throw errors.OVERLOADED('writes to the stream service').retryAfter(1)
    await new Promise<void>((start, refuse) => {
      const admit = (): void => {
        clearTimeout(patience)
        start()
      }
      const patience = setTimeout(() => {
        this.#waiting.delete(admit)
        refuse(errors.STREAM_SERVICE_UNAVAILABLE().retryAfter(1))
      }, this.#maxWaitMs)
      this.#waiting.add(admit)
    })
  }

  #next(): void {
    for (const admit of this.#waiting) {
      if (this.#running >= this.#width) return
      this.#waiting.delete(admit)
      this.#running += 1
      admit()
    }
  }
}
