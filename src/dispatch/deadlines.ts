/**
 * Deadlines of wakes: deliveries that are due, leases that have ended. Every process looks for both every `deadlinesEveryMs`, by two index scans;
 * which process carries one out is decided by its row (wakes.ts K3, K4). The clock is the database's.
 *
 * Memory holds nothing but the timer: a crash costs the others nothing.
 */
import type { Limits } from '../domain/limits.js'
import { endedLeases } from '../registry/claims.js'
import type { Database } from '../registry/database.js'
import { takeDueWakes } from '../registry/deliveries.js'
import type { Deliveries } from './deliveries.js'
import type { Expiry } from './expiry.js'

const perLook = 256
const expiriesAtOnce = 16

export interface DeadlinesParts {
  readonly database: Database
  readonly deliveries: Deliveries
  readonly expiry: Expiry
  readonly limits: Pick<Limits, 'deadlinesEveryMs' | 'wakeOwnedMs'>
  readonly warn: (failure: unknown, text: string) => void
}

export class Deadlines {
  readonly #parts: DeadlinesParts
  #timer: NodeJS.Timeout | null = null
  #look: Promise<void> | null = null
  #isStopped = false

  constructor(parts: DeadlinesParts) {
    this.#parts = parts
  }

  start(): void {
    this.#schedule()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#look
  }

  #schedule(): void {
    if (this.#isStopped) return
    this.#timer = setTimeout(() => {
      this.#look = this.#lookOnce().then(
        () => this.#schedule(),
        (failure: unknown) => {
          this.#parts.warn(failure, 'deadlines could not be looked at') // the next look does it
          this.#schedule()
        },
      )
    }, this.#parts.limits.deadlinesEveryMs)
    this.#timer.unref()
  }

  async #lookOnce(): Promise<void> {
    const { database, deliveries, limits } = this.#parts
    const [due, ended] = await Promise.all([takeDueWakes(database, perLook, limits.wakeOwnedMs), endedLeases(database, perLook)])
    deliveries.deliver(due)
    await this.#expireAll([...ended])
  }

  async #expireAll(wakeIds: string[]): Promise<void> {
    const { expiry, warn } = this.#parts
    const lane = async () => {
      for (let wakeId = wakeIds.pop(); wakeId !== undefined; wakeId = wakeIds.pop())
        await expiry.expire(wakeId).catch((failure: unknown) => warn(failure, 'a lease that has ended could not be settled'))
    }
    await Promise.all(Array.from({ length: expiriesAtOnce }, lane))
  }
}
