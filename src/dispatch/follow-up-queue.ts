/**
 * What Temporal is to be told after a commit. Best effort: whoever is not told here finds the rows by their deadlines, or by `sweep`.
 *
 * Before a connection to Temporal is there (`tells`), and while it is down, nothing is queued.
 */
import type { EntityUrl } from '../domain/ids.js'
import type { StartedWake } from '../registry/deliveries.js'

export interface Temporal {
  deliver(wake: StartedWake, retryInMs: number): Promise<boolean>
  stop(url: EntityUrl): Promise<boolean>
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

  async deliver(wake: StartedWake, retryInMs: number): Promise<boolean> {
    return (await this.#temporal?.deliver(wake, retryInMs)) ?? false
  }

  stopping(urls: readonly EntityUrl[]): void {
    for (const url of urls) this.#begin(async (temporal) => await temporal.stop(url))
  }

  stopped(url: EntityUrl): void {
    this.#begin(async (temporal) => await temporal.stopped(url))
  }

  async drained(): Promise<void> {
    await Promise.allSettled(this.#underway)
  }

  #begin(work: (temporal: Temporal) => Promise<unknown>): void {
    const temporal = this.#temporal
    if (temporal === null) return
    const underway: Promise<unknown> = work(temporal)
      .catch((failure: unknown) => this.#warn(failure, 'the workflow service could not be told; sweep does it'))
      .finally(() => this.#underway.delete(underway))
    this.#underway.add(underway)
  }
}
