/**
 * Deliveries of wakes: a webhook is called, a pull-wake is announced on its stream (spec/06 §4, §6).
 *
 * L1  A started wake is delivered at once by the process that committed it. Its row has a deadline, after which any process may.
 * L2  One process carries out an attempt: whoever moves `attempts` (wakes.ts K3), and makes one at a time. An attempt ends within `deliveryLimitMs`.
 * L3  Calls are bounded for each origin of handlers and in all, and begin gently (origin-lanes.ts R1); what waits is bounded, and what is beyond
 *     waits in its row. Those that Temporal asks for stand in the same lanes. Announcements call nobody, and wait for no call.
 * L4  The answer counts for its own wake only, and never undoes what a callback of that wake has said meanwhile.
 * L5  What has failed is handed to Temporal (`handOver`), which tries again; where that cannot be told, the row's own deadline does.
 *
 * A crash in mid-call leaves the row with its deadline: the handler is called again, with the same wake and generation, unless it has claimed it.
 */
import type { RedeliveryVerdict } from '../activities/parts.js'
import type { EntityStatus } from '../domain/entity.js'
import { AgentsError, errors } from '../domain/errors.js'
import { GroupCommit, overtakingBy } from '../domain/group-commit.js'
import type { EntityUrl } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import { retryAfterMsOf, retryInMs } from '../domain/redelivery.js'
import type { Database, Transaction } from '../registry/database.js'
import { beginDeliveries, type StartedWake, setDead, setDelivered, setDueIn, setFailed, undeliveredWake } from '../registry/deliveries.js'
import { type EntityHead, findEntityHeads } from '../registry/entities.js'
import { setIdle, setRunning } from '../registry/entity-work.js'
import { hasPending, type LinkState, linksOfWakes, mayWake } from '../registry/subscriptions.js'
import { asExpired, endWakes, type LockedWake, lockWakeEntities, lockWakes } from '../registry/wakes.js'
import { Announcements } from './announcements.js'
import type { AwaitedClaim, Claims } from './claims.js'
import { OriginLanes } from './origin-lanes.js'
import { type Outbound, OutboundFailure } from './outbound.js'
import type { Pipeline } from './pipeline.js'
import type { PublicBase } from './public-url.js'
import type { Signing } from './signing.js'
import { type Stopping, stoppingOf } from './stopping.js'
import { enrichedWake, plainWake, primaryFirst, type WakeFacts } from './wake-body.js'
import type { WakeTokens } from './wake-tokens.js'
import type { Waking } from './waking.js'

export interface DeliveriesParts {
  readonly database: Database
  readonly pipeline: Pipeline
  readonly claims: Claims
  readonly waking: Pick<Waking, 'holdBack'>
  readonly stopping: Stopping
  readonly tokens: WakeTokens
  readonly signing: Signing
  readonly outbound: Outbound
  readonly base: PublicBase
  readonly limits: Limits
  /** Told what this process could not do, and nobody else hears. */
  readonly warn: (failure: unknown, text: string) => void
  readonly handOver: HandOver
  readonly observe?: DeliveryObserver
}

export type DeliveryOutcome = 'delivered' | 'done' | 'announced' | 'failed' | 'dead' | 'superseded'
export type DeliveryObserver = (delivery: { readonly outcome: DeliveryOutcome; readonly seconds: number }) => void

/** Takes over a wake whose delivery has failed. False: it could not. */
export type HandOver = (wake: StartedWake, retryInMs: number) => Promise<boolean>

/** What this process has in hand, from its place in a lane to its end. */
interface Attempt {
  /** What comes of it. Undefined: it waits. */
  made: Promise<Made> | undefined
  /** Temporal hears what becomes of it. */
  isAwaited: boolean
  /** The wake as it was when it became due again while this was under way, as where its runner has come. */
  next: StartedWake | undefined
}

interface Made {
  readonly outcome: DeliveryOutcome
  readonly verdict: RedeliveryVerdict
  /** Its call ran out of time. */
  readonly isLate: boolean
}

/** What became of a wake whose delivery was to begin. */
interface BeginVerdict {
  /** Null: it is not this process's to deliver now. */
  readonly begun: Begun | null
  /** The entity that the wake was about, to be stopped. */
  readonly stopping: EntityUrl | null
}

interface Begun {
  readonly wake: LockedWake
  readonly links: readonly LinkState[]
  /** As it was before. */
  readonly entity: EntityHead | null
}

/** How much later than a failed wake's new attempt is due another process looks after it, where Temporal has it. */
const handedOverMarginMs = 15_000
/** What an attempt may take beside its call. */
const attemptMarginMs = 5_000
/** A handler that takes a wake claims it at once: then the claim starts its lease, and this process need not. */
const claimFollowsMs = 100
/** Calls that Temporal's activities wait for, at most: of its slots, which all else that it asks for needs too, a part. */
const maxAwaited = 16

export class Deliveries {
  readonly #parts: DeliveriesParts
  readonly #announcements: Announcements
  readonly #calls: OriginLanes
  readonly #announcing: OriginLanes
  readonly #begins: GroupCommit<StartedWake, BeginVerdict>
  readonly #delivered: GroupCommit<string, true>
  /** Of each wake, at most one attempt. */
  readonly #inHand = new Map<string, Attempt>()
  #awaited = 0
  #isClosed = false

  constructor(parts: DeliveriesParts) {
    this.#parts = parts
    const { limits } = parts
    this.#announcements = new Announcements(parts)
    const { maxDeliveriesPerOrigin: perOrigin, maxWaitingDeliveries: maxWaiting } = limits
    this.#calls = new OriginLanes({ perOrigin, most: limits.maxDeliveries, maxWaiting, fresh: limits.freshDeliveriesPerOrigin })
    this.#announcing = new OriginLanes({ perOrigin, most: perOrigin, maxWaiting })
    const bounds = {
      maxBatch: limits.maxOperationBatch,
      turns: parts.database.turns,
      maxWaiting: limits.maxWaitingDeliveries,
      overloaded: () => errors.OVERLOADED('deliveries').retryAfter(1),
    }
    this.#begins = new GroupCommit((wakes) => this.#beginAll(wakes), { ...bounds, overtaking: overtakingBy(({ wakeId }) => wakeId) })
    this.#delivered = new GroupCommit((wakeIds) => this.#deliveredAll(wakeIds), { ...bounds, overtaking: overtakingBy((wakeId) => wakeId) })
  }

  /** How many wait for a place. */
  get waiting(): number {
    return this.#calls.waiting + this.#announcing.waiting
  }

  /** L1, L3. */
  deliver(wakes: readonly StartedWake[]): void {
    if (this.#isClosed) return
    for (const wake of wakes) {
      const attempt = this.#inHand.get(wake.wakeId)
      if (attempt?.made === undefined) this.#line(wake)
      else attempt.next = wake
    }
  }

  /** One attempt. Throws where this process could not make one. */
  async attempt(wake: StartedWake): Promise<RedeliveryVerdict> {
    return (await this.#make(wake)).verdict
  }

  /**
   * The next attempt of a wake that still waits for one, in its lane like any other. If it cannot begin at once it is in this process's hands as after
   * `deliver`, and Temporal's are free; so where another attempt waits already, and where too many are awaited. One that is under way serves whoever
   * asks for it.
   */
  async redeliver(wakeId: string): Promise<RedeliveryVerdict> {
    const attempt = this.#inHand.get(wakeId) ?? (await this.#lineNext(wakeId))
    if (attempt?.made === undefined || this.#awaited >= maxAwaited) return { state: 'over' }
    attempt.isAwaited = true
    this.#awaited += 1
    try {
      return (await attempt.made).verdict
    } finally {
      this.#awaited -= 1
    }
  }

  async #lineNext(wakeId: string): Promise<Attempt | undefined> {
    const wake = await undeliveredWake(this.#parts.database, wakeId)
    return wake === null ? undefined : this.#line(wake)
  }

  async drained(): Promise<void> {
    this.#isClosed = true
    const lanes = [this.#calls, this.#announcing]
    for (const each of lanes) each.clear()
    this.#inHand.clear()
    await Promise.all(lanes.map((each) => each.drained()))
  }

  /** The attempt that is in hand, or a new one. Undefined: it was refused, and waits for its row's deadline. */
  #line(wake: StartedWake): Attempt | undefined {
    const { wakeId } = wake
    const inHand = this.#inHand.get(wakeId)
    if (inHand !== undefined) return inHand
    const attempt: Attempt = { made: undefined, isAwaited: false, next: undefined }
    this.#inHand.set(wakeId, attempt)
    const lanes = wake.type === 'pull-wake' ? this.#announcing : this.#calls
    const isTaken = lanes.add(originOf(wake), async () => {
      const made = await this.#carry(wake, attempt)
      this.#inHand.delete(wakeId)
      if (made?.verdict.state === 'over' && attempt.next !== undefined) this.deliver([attempt.next])
      return made?.isLate !== true
    })
    if (isTaken) return attempt
    this.#inHand.delete(wakeId)
    return undefined
  }

  /** What fails for Temporal is Temporal's to try again; all else is handed over. Undefined: this process could not make it. */
  async #carry(wake: StartedWake, attempt: Attempt): Promise<Made | undefined> {
    try {
      attempt.made = this.#make(wake)
      const made = await attempt.made
      if (made.verdict.state === 'over' || attempt.isAwaited) return made
      const { retryInMs } = made.verdict
      if (!(await this.#parts.handOver(wake, retryInMs))) await setDueIn(this.#parts.database, wake.wakeId, retryInMs) // L5: its own deadline does it
      return made
    } catch (failure) {
      if (!attempt.isAwaited) this.#parts.warn(failure, 'a wake could not be delivered by this process') // L1
      return undefined
    }
  }

  async #make(wake: StartedWake): Promise<Made> {
    const since = performance.now()
    const { begun, stopping } = await this.#begins.add(wake)
    await this.#parts.stopping.finishBehind(stopping)
    const made = begun === null ? over('superseded') : await this.#carryOut(begun)
    this.#parts.observe?.({ outcome: made.outcome, seconds: (performance.now() - since) / 1_000 })
    return made
  }

  /** L2: rows, links and entities of those that are this process's to deliver; whoever takes no work now ends here, and keeps it. */
  async #beginAll(wakes: readonly StartedWake[]): Promise<readonly BeginVerdict[]> {
    const { database, limits, waking } = this.#parts
    const wakeIds = [...new Set(wakes.map(({ wakeId }) => wakeId))]
    const verdicts = await database.transaction(async (tx) => {
      const [statuses, rows, mine, links, heads] = await Promise.all([
        lockWakeEntities(tx, wakeIds),
        lockWakes(tx, wakeIds),
        beginDeliveries(tx, wakes, limits.deliveryLimitMs + attemptMarginMs),
        linksOfWakes(tx, wakeIds),
        findEntityHeads(tx, [...new Set(wakes.flatMap(({ entityUrl }) => entityUrl ?? []))]),
      ])
      const ours = [...rows.values()].flatMap((row) => (mine.has(row.wake_id) ? [{ ...row, attempts: row.attempts + 1 }] : []))
      const isIdle = (wake: LockedWake) => isHeldBack(wake, statuses) || !hasWork(wake, links)
      const heldBack = ours.filter(isIdle)
      const delivered = ours.filter((wake) => !isIdle(wake))
      const running = delivered.filter(({ type }) => type === 'webhook').flatMap(({ wake_entity_url }) => wake_entity_url ?? [])
      if (heldBack.length > 0) {
        await waking.holdBack(tx, heldBack)
        await setIdle(tx, entitiesLeftRunning(heldBack), Date.now())
      }
      tx.last(() => setRunning(tx, running, Date.now()))
      return new Map<string, BeginVerdict>([
        ...delivered.map((wake) => [wake.wake_id, { begun: begunOf(wake, links, heads), stopping: null }] as const),
        ...heldBack.map((wake) => [wake.wake_id, { begun: null, stopping: stoppingOf(wake, statuses) }] as const),
      ])
    })
    return wakes.map(({ wakeId }) => {
      const mine = verdicts.get(wakeId) ?? notMine
      verdicts.delete(wakeId) // L2: who asked for the same wake in the same batch carries out nothing
      return mine
    })
  }

  async #deliveredAll(wakeIds: readonly string[]): Promise<readonly true[]> {
    await this.#parts.database.transaction(async (tx) => {
      await lockWakes(tx, wakeIds)
      tx.last(() => setDelivered(tx, wakeIds))
    })
    return wakeIds.map(() => true)
  }

  async #carryOut(begun: Begun): Promise<Made> {
    return begun.wake.type === 'webhook' ? await this.#call(begun) : over(await this.#announcements.announce(begun.wake))
  }

  async #call(begun: Begun): Promise<Made> {
    const { wake } = begun
    const { claims, limits, outbound, signing } = this.#parts
    const body = Buffer.from(JSON.stringify(await this.#bodyOf(begun)))
    const claim = claims.awaited(wake.wake_id)
    try {
      const answer = await outbound.call({
        method: 'POST',
        url: wake.webhook_url ?? '',
        headers: { 'content-type': 'application/json', 'webhook-signature': await signing.header(body) },
        body,
        limitMs: limits.deliveryLimitMs,
        maxBytes: limits.maxDeliveryAnswerBytes,
        maxRedirects: 0,
      })
      if (answer.status >= 200 && answer.status < 300) return await this.#taken(begun, answer.body, claim)
      const retryAfter = answer.headers['retry-after']
      const asked = retryAfterMsOf(typeof retryAfter === 'string' ? retryAfter : undefined, Date.now())
      return await this.#failed(begun, `the handler answered ${answer.status}`, asked)
    } catch (failure) {
      if (failure instanceof OutboundFailure) return { ...(await this.#failed(begun, failure.message)), isLate: failure.isLate }
      throw failure
    } finally {
      claim.forget()
    }
  }

  async #bodyOf({ wake, links, entity }: Begun): Promise<object> {
    const { tokens, base } = this.#parts
    const facts: WakeFacts = {
      subscriptionId: wake.id,
      mount: wake.mount,
      wakeId: wake.wake_id,
      generation: wake.generation,
      claimToken: tokens.claimToken({ subscriptionId: wake.id, wakeId: wake.wake_id, generation: wake.generation, attempt: wake.attempts }),
      baseUrl: await base.read(),
      links: primaryFirst(links, wake.wake_entity_url),
    }
    return entity === null ? plainWake(facts) : enrichedWake(facts, entity, 'inbox')
  }

  /** A 2xx: `{"done":true}` acknowledges what was shown; anything else means that callbacks follow. */
  async #taken({ wake, links }: Begun, body: Buffer, claim: AwaitedClaim) {
    const { claims } = this.#parts
    if (!saysDone(body)) {
      if (!(await claim.within(claimFollowsMs))) await this.#delivered.add(wake.wake_id)
      return over('delivered')
    }
    const acks = links.flatMap(({ path, tail, acked }) => (tail === null || tail <= acked ? [] : [{ path, offset: tail }]))
    const { wake_id: wakeId, generation, attempts: attempt } = wake
    await claims.callback({ wakeId, generation, attempt, acks, acksShown: true, ends: 'done' }).catch(unlessFenced) // L4
    return over('done')
  }

  async #failed({ wake }: Begun, reason: string, askedMs?: number): Promise<Made> {
    const { database, stopping } = this.#parts
    const settled = await database.transaction((tx) => this.#failIn(tx, wake, reason, askedMs))
    await stopping.finishBehind(settled.stopping)
    return settled.made
  }

  /** L4: a wake that has been claimed meanwhile is no failure, nor is one that is delivered anew since this attempt was taken for lost. */
  async #failIn(tx: Transaction, { wake_id, attempts }: LockedWake, reason: string, askedMs: number | undefined) {
    const [statuses, wakes, links] = await Promise.all([
      lockWakeEntities(tx, [wake_id]),
      lockWakes(tx, [wake_id]),
      linksOfWakes(tx, [wake_id]),
    ])
    const wake = wakes.get(wake_id)
    if (wake === undefined || wake.has_lease || wake.attempts !== attempts) return { made: over('superseded'), stopping: null }
    const failures = wake.failures + 1
    const { limits } = this.#parts
    const url = wake.wake_entity_url
    const stopping = stoppingOf(wake, statuses)
    const isDead = failures >= limits.maxDeliveryAttempts || wake.age_ms > limits.maxDeliveryAgeMs || stopping !== null
    const delayMs = retryInMs(failures, askedMs)
    if (stopping !== null) await this.#parts.waking.holdBack(tx, [wake])
    else if (isDead) {
      await endWakes(tx, [asExpired(wake_id, wake.lost_leases)])
      await setDead(tx, { wakeId: wake_id, reason, attempts: failures, ackedBefore: ackedBy(links) })
    } else await setFailed(tx, wake_id, reason, delayMs + handedOverMarginMs)
    if (url !== null) await setIdle(tx, [url], Date.now())
    const failed: Made = { outcome: 'failed', verdict: { state: 'failed', retryInMs: delayMs }, isLate: false }
    return { made: isDead ? over('dead') : failed, stopping }
  }
}

/** An attempt before the one that was just begun was lost, as in a crash: nobody has said since that its entity is idle. */
const entitiesLeftRunning = (wakes: readonly LockedWake[]): readonly EntityUrl[] =>
  wakes.filter(({ attempts, failures }) => attempts - 1 > failures).flatMap(({ wake_entity_url }) => wake_entity_url ?? [])

const notMine: BeginVerdict = { begun: null, stopping: null }

const over = (outcome: DeliveryOutcome): Made => ({ outcome, verdict: { state: 'over' }, isLate: false })

export const ackedBy = (links: readonly LinkState[]): Readonly<Record<string, string>> =>
  Object.fromEntries(links.map(({ path, acked }) => [path, acked]))

function originOf({ webhookUrl }: StartedWake): string {
  return webhookUrl !== null && URL.canParse(webhookUrl) ? new URL(webhookUrl).origin : ''
}

/** What else keeps a done from being written down leaves its delivery undone (L1): whoever carries it out is told. */
function unlessFenced(failure: unknown): void {
  if (!(failure instanceof AgentsError && failure.refusal.code === 'FENCED')) throw failure
}

/** `false` where the wake is about no entity. */
const isHeldBack = ({ wake_entity_url: url }: LockedWake, statuses: ReadonlyMap<string, EntityStatus>): boolean =>
  url !== null && !mayWake(statuses.get(url) ?? 'killed')

/** Its streams may be gone meanwhile, or acknowledged: a handler is never told of nothing (spec/06 §12). */
const hasWork = ({ id }: LockedWake, links: readonly LinkState[]): boolean =>
  links.some((link) => link.subscription_id === id && hasPending(link))

function begunOf(wake: LockedWake, links: readonly LinkState[], heads: ReadonlyMap<string, EntityHead>): Begun {
  const url: EntityUrl | null = wake.wake_entity_url
  return {
    wake,
    links: links.filter(({ subscription_id }) => subscription_id === wake.id),
    entity: url === null ? null : (heads.get(url) ?? null),
  }
}

/** The handler's answer is never trusted: whatever is no such object says nothing. */
function saysDone(body: Buffer): boolean {
  try {
    const answer: unknown = JSON.parse(body.toString('utf8'))
    return typeof answer === 'object' && answer !== null && 'done' in answer && answer.done === true
  } catch {
    return false
  }
}
