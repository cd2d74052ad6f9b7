/**
 * What Temporal is to be told after a commit. Best effort: whoever is not told here finds the rows by their deadlines, or by `sweep`.
 *
 * Before a connection to Temporal is there (`tells`), and while it is down, nothing is queued.
 */
import type { EntityUrl } from '../domain/ids.js'
import type { StartedWake } from '../registry/deliveries.js'

export interface Temporal {
  deliver(wake: StartedWake, retryInMs: number): Promise<void>
  stop(url: EntityUrl): Promise<void>
  stopped(url: EntityUrl): Promise<void>
}

export class FollowUpQueue {
  readonly #warn: (failure: unknown, text: string) => void
  readonly #underway = new Set<Promise<unknown>>()
  #temporal: Temporal | null = null

  constructor(warn: (failure: unknown, text: string) => void) {
    this.#warn = warn
  }

  tells(temporal: Temporal): void {
    this.#temporal = temporal
  }

  /** False: it could not be told. */
  async deliver(wake: StartedWake, retryInMs: number): Promise<boolean> {
    return await this.#told((temporal) => temporal.deliver(wake, retryInMs))
  }

  stopping(urls: readonly EntityUrl[]): void {
    for (const url of urls) this.#begin((temporal) => temporal.stop(url))
  }

  stopped(url: EntityUrl): void {
    this.#begin((temporal) => temporal.stopped(url))
  }

  async drained(): Promise<void> {
    await Promise.allSettled(this.#underway)
  }

  #begin(work: (temporal: Temporal) => Promise<void>): void {
    const underway: Promise<unknown> = this.#told(work).finally(() => this.#underway.delete(underway))
    this.#underway.add(underway)
  }

  async #told(work: (temporal: Temporal) => Promise<void>): Promise<boolean> {
    if (this.#temporal === null) return false
    try {
      await work(this.#temporal)
      return true
    } catch (failure) {
      this.#warn(failure, 'the workflow service could not be told; its row is found without it')
      return false
    }
  }
}
