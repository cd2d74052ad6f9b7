/**
 * Leases that end: the handler is taken for dead (spec/06 §4, §13.4; spec/05 §6).
 *
 * X1  Its wake ends with it: tokens worthless, claim `expired`, entity idle (or stopped, where that was asked for), runs that it left open closed visibly:
 *     also those that stand on a foreign stream server and that nobody has heard of, because the server died that had taken them.
 * X2  What it has not acknowledged is delivered again, with the next generation: the stream that the wake was about before all others.
 * X3  Events that outlive `maxLostLeases` handlers in a row, which died of them or were done without them (wake-progress.ts), are given up: an `error`
 *     event says so, they are acknowledged, and the wake is a dead letter.
 *     What was pending on other streams meanwhile was in front of none of those handlers (X2): it starts the next wake.
 *
 * All of it is one transaction (with a foreign stream server its events follow from intents). Any number of processes may try; one of them does it.
 */
import { randomUUID } from 'node:crypto'
import { entryOf, lostRun, lostWake } from '../domain/events.js'
import { type EntityUrl, mainStream } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import type { Database, Transaction } from '../registry/database.js'
import { setDead } from '../registry/deliveries.js'
import { setIdle } from '../registry/entity-work.js'
import { type LinkState, linksOfWakes } from '../registry/subscriptions.js'
import { asExpired, endWakes, type LockedWake, lockWakeEntities, lockWakes, peekWake, setAcked } from '../registry/wakes.js'
import { ackedBy } from './deliveries.js'
import { unendedRuns } from './fenced-runs.js'
import type { Pipeline, Together } from './pipeline.js'
import { type Stopping, stoppingOf } from './stopping.js'
import type { Tails } from './tails.js'
import { firstPending } from './wake-progress.js'
import type { Waking } from './waking.js'

export interface ExpiryParts {
  readonly database: Database
  readonly pipeline: Pick<Pipeline, 'catchUp' | 'together'>
  readonly tails: Pick<Tails, 'hold'>
  readonly waking: Waking
  readonly stopping: Stopping
  readonly limits: Pick<Limits, 'maxLostLeases'>
}

/** Somebody else was faster, or the handler lives. */
class StillHeld extends Error {}

export class Expiry {
  readonly #parts: ExpiryParts

  constructor(parts: ExpiryParts) {
    this.#parts = parts
  }

  /** Ends the wake, if its lease has ended. Whether this call did it. */
  async expire(wakeId: string): Promise<boolean> {
    const { database, pipeline } = this.#parts
    const url = (await peekWake(database, wakeId))?.wake_entity_url ?? null
    if (url !== null) await pipeline.catchUp([mainStream(url)]) // X1: which runs are open is read from the registry
    try {
      const stopping = await pipeline.together((tx) => this.#expireIn(tx, wakeId))
      await this.#parts.stopping.finishBehind(stopping)
      return true
    } catch (failure) {
      if (failure instanceof StillHeld) return false
      throw failure
    }
  }

  async #expireIn(tx: Transaction, wakeId: string): Promise<Together<EntityUrl | null>> {
    const [statuses, peeked] = await Promise.all([lockWakeEntities(tx, [wakeId]), peekWake(tx, wakeId)])
    if (peeked === null) throw new StillHeld()
    const { wake_entity_url: url, lost_leases } = peeked
    if (url !== null) await this.#parts.tails.hold(tx, [mainStream(url)]) // X1: what its handler appends is there by now, or finds its token gone
    const givesUp = lost_leases + 1 >= this.#parts.limits.maxLostLeases
    const atMs = Date.now()
    const events =
      url === null
        ? []
        : [...(await unendedRuns(tx, url)).map((run) => lostRun(run, atMs)), ...(givesUp ? [lostWake(randomUUID(), atMs)] : [])]
    const appends =
      url === null || events.length === 0 ? [] : [{ path: mainStream(url), contentType: 'application/json', body: entryOf(events) }]
    return { result: stoppingOf(peeked, statuses), appends, after: async () => await this.#endIn(tx, wakeId, givesUp) }
  }

  async #endIn(tx: Transaction, wakeId: string, givesUp: boolean): Promise<void> {
    const [wakes, links] = await Promise.all([lockWakes(tx, [wakeId]), linksOfWakes(tx, [wakeId])])
    const wake = wakes.get(wakeId)
    if (wake === undefined || !wake.lease_ended) throw new StillHeld()
    const url = wake.wake_entity_url
    const { own, next, lostLeases } = afterLoss(wake, links, givesUp)
    const acks = givesUp ? own.flatMap(({ path, tail }) => (tail === null ? [] : [{ subscriptionId: wake.id, path, offset: tail }])) : []
    await setAcked(tx, acks)
    await endWakes(tx, [asExpired(wakeId, lostLeases)])
    if (givesUp)
      await setDead(tx, {
        wakeId,
        reason: `${wake.lost_leases + 1} handlers in a row acknowledged nothing`,
        attempts: wake.attempts,
        ackedBefore: ackedBy(own),
      })
    if (url !== null) await setIdle(tx, [url], Date.now())
    if (next !== undefined) await this.#parts.waking.start(tx, [{ id: wake.id, path: next.path }])
  }
}

/** X2, X3: links of the stream that the wake was about, and what the next wake is about. Losses are counted of one stream. */
function afterLoss({ wake_path, lost_leases }: LockedWake, links: readonly LinkState[], givesUp: boolean) {
  const own = links.filter(({ path }) => path === wake_path)
  const others = links.filter(({ path }) => path !== wake_path)
  const again = givesUp ? undefined : firstPending(own)
  const next = again ?? firstPending(others)
  const isOver = givesUp || (next !== undefined && next !== again)
  return { own, next, lostLeases: isOver ? 0 : lost_leases + 1 }
}
