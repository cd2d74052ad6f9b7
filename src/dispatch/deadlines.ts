/**
 * Deadlines of wakes: deliveries that are due, leases that have ended. Every process looks for both every `deadlinesEveryMs`, by index scans;
 * which process carries one out is decided by its row (wakes.ts K3, K4). The clock is the database's.
 *
 * D1  A look waits for the database and for nothing else: what it has found is carried out beside it, and the next look comes all the same.
 * D2  Leases of wakes that work on an entity are settled in lanes of their own: settling them may ask a foreign stream server (expiry.ts X1), and one
 *     that hangs keeps whatever needs it, for as long as a request may take, but neither other wakes nor, by one stream, other entities.
 * D3  Of each kind this process holds at most `perLook`, and looks past those: memory is bounded, and none is settled twice at once.
 * D4  What waits for a place at its handler becomes due again and again, so that somebody finds it after a crash: the more wait, the later, or whatever is
 *     due would stand behind all of them. They are at most half of a look.
 *
 * Memory holds the timer and what is under way: a crash costs the others nothing.
 */
import type { Limits } from '../domain/limits.js'
import { endedLeases } from '../registry/claims.js'
import type { Database } from '../registry/database.js'
import { takeDueWakes } from '../registry/deliveries.js'
import type { Deliveries } from './deliveries.js'
import type { Expiry } from './expiry.js'
import { OriginLanes } from './origin-lanes.js'

const perLook = 256
const kinds = ['of an entity', 'of no entity'] as const
const expiriesAtOnce = 16 // of each kind

export interface DeadlinesParts {
  readonly database: Database
  readonly deliveries: Deliveries
  readonly expiry: Expiry
  readonly limits: Pick<Limits, 'deadlinesEveryMs' | 'wakeOwnedMs'>
  readonly warn: (failure: unknown, text: string) => void
}

export class Deadlines {
  readonly #parts: DeadlinesParts
  readonly #lanes = new OriginLanes({ perOrigin: expiriesAtOnce, most: expiriesAtOnce * kinds.length, maxWaiting: perLook * kinds.length })
  /** Wakes that are being settled, or wait for it (D3). */
  readonly #held = { 'of an entity': new Set<string>(), 'of no entity': new Set<string>() }
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
    this.#lanes.clear()
    await this.#lanes.drained()
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
    const { database, deliveries } = this.#parts
    const [due] = await Promise.all([
      takeDueWakes(database, perLook, this.#ownedMs),
      ...kinds.map(async (kind) => await this.#lookForEnded(kind)),
    ])
    deliveries.deliver(due)
  }

  /** D4. */
  get #ownedMs(): number {
    const { deliveries, limits } = this.#parts
    return Math.max(limits.wakeOwnedMs, Math.ceil((2 * deliveries.waiting) / perLook) * limits.deadlinesEveryMs)
  }

  async #lookForEnded(kind: (typeof kinds)[number]): Promise<void> {
    const held = this.#held[kind]
    if (held.size >= perLook) return
    const ended = await endedLeases(this.#parts.database, {
      ofEntities: kind === 'of an entity',
      besides: [...held],
      limit: perLook - held.size,
    })
    for (const wakeId of ended) {
      held.add(wakeId)
      this.#lanes.add(kind, async () => {
        await this.#expire(wakeId)
        held.delete(wakeId)
        return true
      })
    }
  }

  async #expire(wakeId: string): Promise<void> {
    const { expiry, warn } = this.#parts
    await expiry.expire(wakeId).catch((failure: unknown) => warn(failure, 'a lease that has ended could not be settled'))
  }
}
