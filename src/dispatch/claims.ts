/**
 * Who works on a wake: claims, heartbeats, acks, ends (spec/06 §3.2, §7; spec/07 §3.7).
 *
 * M1  A wake has one holder: whoever claims it with its claim token, or claims its subscription first. A second claim of the same wake by the same
 *     token answers the same; the token of another delivery of it (the handler had answered too late) is FENCED, so one run goes on.
 * M2  What a callback says counts only for the wake that its token was made for, while that is in flight (K4); everything else is FENCED.
 * M3  A wake that ends, also one that nobody may work on now, leaves its subscription idle or with the next wake, its entity with nobody working on it,
 *     and its tokens worthless: one transaction.
 * M4  Locks are taken in the order of the house: entities, (streams,) subscriptions. Which entity a wake will be about shows only behind the lock of its
 *     subscription: who does not hold that entity lets go, and takes both in their order.
 *
 * A crash before a commit leaves the claim as it was, and its lease running; after it the answer may be lost, and a repeated call meets FENCED or the
 * same answer.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { AgentsError, errors } from '../domain/errors.js'
import { GroupCommit, overtakingBy } from '../domain/group-commit.js'
import type { EntityUrl } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import { againInMs } from '../domain/redelivery.js'
import { endLeases, renewLeases, setClaimed, type WakeClaim } from '../registry/claims.js'
import { BeginAgain, type Database, type Transaction } from '../registry/database.js'
import { type EntityHead, findEntityHeads } from '../registry/entities.js'
import { setIdle, setRunning } from '../registry/entity-work.js'
import { dropLink, type LinkState, linksOf, linksOfWakes, mayWake } from '../registry/subscriptions.js'
import {
  asExpired,
  endWakes,
  type LockedWake,
  lockSubscription,
  lockWakeEntities,
  lockWakes,
  setAcked,
  startWakes,
} from '../registry/wakes.js'
import { type Stopping, stoppingOf } from './stopping.js'
import { type Callback, type CallbackEffect, firstPending, isAboutLinks, WakeProgress } from './wake-progress.js'
import { type DeliveryIdentity, hashOfToken, type WakeTokens } from './wake-tokens.js'
import { newWakeId, type Waking } from './waking.js'

export interface ClaimsParts {
  readonly database: Database
  readonly tokens: WakeTokens
  readonly waking: Waking
  readonly stopping: Stopping
  readonly limits: Limits
  /** Ends a wake whose lease has ended, as `Expiry` does. */
  readonly expire: (wakeId: string) => Promise<boolean>
}

interface Granted {
  /** Whether the wake is about an entity, to whose stream its holder writes. */
  readonly writes: boolean
}

interface TokenClaim extends DeliveryIdentity {
  readonly holder: string
}

/** A claim by whoever asks first. */
export interface ClaimedWake {
  readonly wake: LockedWake
  readonly links: readonly LinkState[]
  /** As it was before; null: the wake is about no entity. */
  readonly entity: EntityHead | null
  readonly claimToken: string
}

export type ClaimVerdict =
  | ({ readonly outcome: 'claimed' } & ClaimedWake)
  | { readonly outcome: 'taken'; readonly holder: string; readonly generation: number }
  | { readonly outcome: 'no-work' }
  /** The entity takes no work now: paused, or ended. */
  | { readonly outcome: 'held-back' }

interface NextClaim {
  readonly subscriptionId: string
  readonly worker: string
  /** The entity that is locked for a wake that has not begun. */
  readonly next: EntityUrl | null
}

interface Lapsed {
  readonly outcome: 'lapsed'
  readonly wakeId: string
}

/** M4: a wake is to begin about an entity that is not held. */
interface Unheld {
  readonly outcome: 'unheld'
  readonly entityUrl: EntityUrl
}

export interface AwaitedClaim {
  /** Whether it has come, or comes within `ms`. */
  within(ms: number): Promise<boolean>
  forget(): void
}

export interface CallbackAnswer {
  readonly nextWake: boolean
}

interface Applied extends CallbackAnswer {
  /** The lease has ended, and the wake is to be settled as its end asks. */
  readonly isLapsed: boolean
  /** The entity that waited for this wake to end, to be stopped. */
  readonly stopping: EntityUrl | null
}

export class Claims {
  readonly #parts: ClaimsParts
  readonly #claims: GroupCommit<TokenClaim, Granted | AgentsError>
  readonly #callbacks: GroupCommit<Callback, Applied | AgentsError>
  /** Who waits here for a claim of these wakes: it spares him a statement that would change nothing any more. */
  readonly #awaited = new Map<string, () => void>()

  constructor(parts: ClaimsParts) {
    this.#parts = parts
    const { limits } = parts
    const bounds = {
      maxBatch: limits.maxOperationBatch,
      maxWaiting: limits.maxWaitingOperations,
      turns: parts.database.turns,
      overloaded: () => errors.OVERLOADED('claims').retryAfter(1),
    }
    this.#claims = new GroupCommit((claims) => this.#claimAll(claims), { ...bounds, overtaking: overtakingBy(({ wakeId }) => wakeId) })
    this.#callbacks = new GroupCommit((callbacks) => this.#applyAll(callbacks), {
      ...bounds,
      overtaking: overtakingBy(({ wakeId }) => wakeId),
    })
  }

  /** Claims a delivered wake; `holder` is shown to operators. The token for the stream of its entity, where it is about one (M1). Throws FENCED. */
  async claim(wake: DeliveryIdentity, holder: string): Promise<string | null> {
    const verdict = await this.#claims.add({ ...wake, holder })
    if (verdict instanceof AgentsError) throw verdict
    this.#awaited.get(wake.wakeId)?.()
    return verdict.writes ? this.#parts.tokens.writeToken(wake) : null
  }

  /** Watches, from now on, for a claim of the wake, or another callback, that this process accepts: it has started the lease, or ended the wake. */
  awaited(wakeId: string): AwaitedClaim {
    const claimed = new Promise<true>((resolve) => this.#awaited.set(wakeId, () => resolve(true)))
    return {
      within: async (ms) => await Promise.race([claimed, delay(ms, false as const, { ref: false })]),
      forget: () => this.#awaited.delete(wakeId),
    }
  }

  /** A heartbeat, acks, a done or a release. Throws FENCED, INVALID_OFFSET. */
  async callback(callback: Callback): Promise<CallbackAnswer> {
    const verdict = await this.#callbacks.add(callback)
    if (verdict instanceof AgentsError) throw verdict
    this.#awaited.get(callback.wakeId)?.()
    if (verdict.isLapsed) await this.#parts.expire(callback.wakeId) // or whoever looks for such leases: it stands in the row
    await this.#parts.stopping.finishBehind(verdict.stopping) // whoever hears that its done was taken finds the entity stopped
    return { nextWake: verdict.nextWake }
  }

  /** The wake of `subscriptionId` for whoever asks first: the outstanding one, or a new one where work is pending (spec/06 §3.2 "claim"). */
  async claimNext(subscriptionId: string, worker: string): Promise<ClaimVerdict> {
    for (let next: EntityUrl | null = null; ; ) {
      const claim: NextClaim = { subscriptionId, worker, next }
      const verdict = await this.#parts.database.transaction((tx) => this.#claimNextIn(tx, claim))
      if (verdict.outcome === 'unheld') next = verdict.entityUrl
      else if (verdict.outcome === 'lapsed')
        await this.#parts.expire(verdict.wakeId) // its holder is fenced by the next generation, not joined
      else return verdict
    }
  }

  /** A wake that its claimer cannot work on: it ends, and its stream wakes this subscription no more (spec/07 §3.7 row 6). */
  async giveBack(wake: LockedWake): Promise<void> {
    await this.#parts.database.transaction(async (tx) => {
      const locked = await lockSubscription(tx, wake.id)
      if (locked?.wake_id !== wake.wake_id) return // it has ended meanwhile, and the next is somebody's (K4)
      await dropLink(tx, wake.id, wake.wake_path)
      await this.#parts.waking.holdBack(tx, [wake])
    })
  }

  async drained(): Promise<void> {
    await Promise.all([this.#claims.drained(), this.#callbacks.drained()])
  }

  async #claimAll(claims: readonly TokenClaim[]): Promise<readonly (Granted | AgentsError)[]> {
    return await this.#parts.database.transaction(async (tx) => {
      const wakeIds = [...new Set(claims.map(({ wakeId }) => wakeId))]
      const [statuses, wakes] = await Promise.all([lockWakeEntities(tx, wakeIds), lockWakes(tx, wakeIds)])
      const admitted = new Map<string, WakeClaim>()
      const heldBack = new Set<LockedWake>()
      const verdicts = claims.map((claim) => {
        const wake = wakes.get(claim.wakeId)
        if (wake === undefined || wake.generation !== claim.generation || wake.id !== claim.subscriptionId) return errors.FENCED()
        const status = wake.wake_entity_url === null ? null : statuses.get(wake.wake_entity_url)
        if (status === undefined) return errors.FENCED() // the entity is gone
        if (status !== 'stopping' && !mayWake(status) && wake.holder === null) {
          heldBack.add(wake) // whoever holds it goes on to its next checkpoint (spec/05 §2), and may ask for its token again (M1)
          return errors.NOT_RUNNING()
        }
        const claimed = admitted.get(claim.wakeId)?.attempt ?? wake.claimed_attempt
        if (claimed !== null && claimed !== claim.attempt) return errors.FENCED() // M1
        const tokenHash = hashOfToken(this.#parts.tokens.writeToken(claim))
        const { wakeId, attempt, holder } = claim
        admitted.set(wakeId, { wakeId, attempt, holder, runnerId: wake.runner_id, tokenHash })
        return { writes: wake.wake_entity_url !== null }
      })
      const entities = [...admitted.keys()].map((id) => wakes.get(id)?.wake_entity_url ?? null)
      if (heldBack.size > 0) await this.#parts.waking.holdBack(tx, [...heldBack])
      tx.last(() => this.#take(tx, [...admitted.values()], entities))
      return verdicts
    })
  }

  async #take(tx: Transaction, claims: readonly WakeClaim[], entities: readonly (EntityUrl | null)[]): Promise<void> {
    if (claims.length === 0) return
    const urls = entities.filter((url) => url !== null)
    await Promise.all([setClaimed(tx, claims), setRunning(tx, urls, Date.now())])
  }

  async #applyAll(callbacks: readonly Callback[]): Promise<readonly (Applied | AgentsError)[]> {
    return await this.#parts.database.transaction((tx) => this.#applyIn(tx, callbacks))
  }

  /** M3. */
  async #applyIn(tx: Transaction, callbacks: readonly Callback[]): Promise<readonly (Applied | AgentsError)[]> {
    const wakeIds = [...new Set(callbacks.map(({ wakeId }) => wakeId))]
    const aboutLinks = [...new Set(callbacks.filter(isAboutLinks).map(({ wakeId }) => wakeId))]
    const [statuses, wakes, links] = await Promise.all([
      lockWakeEntities(tx, wakeIds),
      lockWakes(tx, wakeIds),
      linksOfWakes(tx, aboutLinks),
    ])
    const progress = new WakeProgress(wakes, links, this.#parts.limits.maxLostLeases)
    const outcomes = callbacks.map((callback) => progress.apply(callback))
    const effects = outcomes.filter((outcome): outcome is CallbackEffect => !(outcome instanceof AgentsError))
    const ended = effects.filter(({ ends }) => ends === 'wake')
    const lapsed = effects.filter(({ ends }) => ends === 'lease').map(({ wake }) => wake.wake_id)
    const entities = [...new Set(ended.flatMap(({ wake }) => wake.wake_entity_url ?? []))]
    const overIds = new Set([...ended.map(({ wake }) => wake.wake_id), ...lapsed])
    const started = ended.flatMap(({ wake, next, losses }) => (next === null ? [] : [{ id: wake.id, path: next, inMs: againInMs(losses) }]))
    const acks = effects.flatMap((effect) => effect.acks)
    const renewed = effects.map(({ wake }) => wake.wake_id).filter((id) => !overIds.has(id))
    tx.last(() =>
      Promise.all([
        setAcked(tx, acks),
        renewLeases(tx, renewed),
        endLeases(tx, lapsed),
        endWakes(tx, ended.map(asReleased)),
        setIdle(tx, entities, Date.now()),
        this.#parts.waking.start(tx, started),
      ]),
    )
    return outcomes.map((outcome) => {
      if (outcome instanceof AgentsError) return outcome
      const { wake, ends, next } = outcome
      return { nextWake: next !== null, isLapsed: ends === 'lease', stopping: ends === 'wake' ? stoppingOf(wake, statuses) : null }
    })
  }

  async #claimNextIn(tx: Transaction, { subscriptionId, worker, next }: NextClaim): Promise<ClaimVerdict | Lapsed | Unheld> {
    const locked = await lockSubscription(tx, subscriptionId, next)
    if (locked === null) throw errors.SUBSCRIPTION_NOT_FOUND()
    if (locked.wake_id !== null && locked.lease_ended) return { outcome: 'lapsed', wakeId: locked.wake_id }
    if (locked.wake_id !== null && locked.has_lease) return { outcome: 'taken', holder: locked.holder ?? '', generation: locked.generation }
    if (!locked.holds_entity) throw new BeginAgain()
    const links = await linksOf(tx, [subscriptionId])
    const { wake_id } = locked
    const isOutstanding = wake_id !== null && links.some(({ path, entity_status }) => path === locked.wake_path && mayWake(entity_status))
    const pending = firstPending(links)
    if (wake_id !== null && (!isOutstanding || pending === undefined)) await endWakes(tx, [asExpired(wake_id, locked.lost_leases)])
    if (pending === undefined) {
      const isHeldBack = wake_id !== null && links.some(({ entity_status }) => !mayWake(entity_status))
      return { outcome: isHeldBack ? 'held-back' : 'no-work' } // or its streams are gone
    }
    if (!isOutstanding) {
      const entityUrl = pending.entity_status === null ? null : urlOf(pending)
      if (entityUrl !== null && entityUrl !== locked.held_entity) return { outcome: 'unheld', entityUrl }
      const begun = { id: subscriptionId, wakeId: newWakeId(), path: pending.path, entityUrl }
      await startWakes(tx, [begun], this.#parts.limits.wakeOwnedMs) // no announcement: it is claimed in this very step (spec/07 §6.3)
    }
    return await this.#claimLocked(tx, subscriptionId, worker, links)
  }

  async #claimLocked(tx: Transaction, subscriptionId: string, worker: string, links: readonly LinkState[]): Promise<ClaimVerdict> {
    const locked = await lockSubscription(tx, subscriptionId)
    if (locked?.wake_id == null || locked.wake_path === null)
      throw new Error(`subscription ${subscriptionId} has lost its wake under its lock`)
    const wake: LockedWake = { ...locked, wake_id: locked.wake_id, wake_path: locked.wake_path }
    const identity = { subscriptionId, wakeId: wake.wake_id, generation: wake.generation, attempt: wake.attempts }
    const url = wake.wake_entity_url
    const entity = url === null ? null : ((await findEntityHeads(tx, [url])).get(url) ?? null)
    const tokenHash = hashOfToken(this.#parts.tokens.writeToken(identity))
    await this.#take(tx, [{ wakeId: wake.wake_id, attempt: wake.attempts, holder: worker, runnerId: wake.runner_id, tokenHash }], [url])
    return { outcome: 'claimed', wake, links, entity, claimToken: this.#parts.tokens.claimToken(identity) }
  }
}

const urlOf = ({ path }: LinkState): EntityUrl => path.slice(0, -'/main'.length) as EntityUrl // a main stream: it has an entity

/** A wake whose handler is done with it, or leaves it. */
const asReleased = ({ wake, acks, losses }: CallbackEffect) => ({
  wakeId: wake.wake_id,
  as: 'released' as const,
  acked: Object.fromEntries(acks.map(({ path, offset }) => [path, offset])),
  lostLeases: losses,
})
