/**
 * Who is woken by what was appended or made: decided in the transaction that does it (design §4, 2a).
 *
 * A1  An accepted append to a linked stream leaves its subscription with a wake in flight, or held back by its entity's status: there is no commit
 *     between the entry and the wake.
 * A2  A new stream is linked to every pattern that names it, in the transaction that makes it, with nothing acked but what a fork copies: that is no
 *     news to anybody, also not to those who linked its name before.
 * A3  An entity that has a dispatch policy and has lost its subscription gets it back with the next message.
 *
 * After the commit the wakes are handed to `deliver` at once; a crash before that leaves rows with a deadline.
 */
import { randomBytes } from 'node:crypto'
import { isWebhookUrl } from '../domain/dispatch-policy.js'
import type { DispatchPolicy } from '../domain/entity.js'
import { type EntityUrl, entityOfMainStream, type Offset, type StreamPath } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import { rewriteLoopback } from '../domain/loopback.js'
import {
  type EntitySubscription,
  entityOfWake,
  isLinkable,
  type MadeStream,
  matches,
  nothingAcked,
  prefixesOf,
  subscriptionOf,
} from '../domain/subscriptions.js'
import type { Transaction } from '../registry/database.js'
import { type StartedWake, setDueIn } from '../registry/deliveries.js'
import {
  hasPending,
  holdSubscriptions,
  insertEntitySubscriptions,
  insertLinks,
  linksOf,
  mayWake,
  type PatternSubscription,
  patternsAt,
  sharePatterns,
} from '../registry/subscriptions.js'
import { asExpired, endWakes, type LockedWake, lockSubscribers, type Subscriber, setAcked, startWakes } from '../registry/wakes.js'
import { firstPending } from './wake-progress.js'

export interface Appended {
  readonly path: StreamPath
  /** Where the stream ended before. */
  readonly before: Offset
  /** Of the entity that the append is a message to (A3). */
  readonly policy?: DispatchPolicy | null
}

/**
 * These locked links as they stand to streams that were made: behind what is copied. What was acked of a former stream of the name is forgotten; the
 * `own` subscriptions, made just now, stand where they were put.
 */
async function placed(
  tx: Transaction,
  locked: readonly Subscriber[],
  streams: readonly MadeStream[],
  own: ReadonlySet<string>,
): Promise<Subscriber[]> {
  const made = new Map(streams.map((stream) => [stream.path, stream]))
  const moved = locked.map((subscriber) => {
    const { copied = nothingAcked, begins } = made.get(subscriber.path) ?? {}
    const former = begins === true && !own.has(subscriber.id) ? nothingAcked : subscriber.acked
    return { ...subscriber, acked: later(former, copied) }
  })
  const changed = moved.filter(({ acked }, index) => acked !== locked[index]?.acked)
  await setAcked(
    tx,
    changed.map(({ id, path, acked }) => ({ subscriptionId: id, path, offset: acked })),
  )
  return moved
}

/** `nothingAcked` sorts before every offset. */
const later = (one: string, other: string): string => (one > other ? one : other)

/** Links that patterns make to new streams. */
const matching = (streams: readonly Pick<MadeStream, 'path' | 'copied'>[], patterns: readonly PatternSubscription[]) =>
  streams
    .filter(({ path }) => isLinkable(path))
    .flatMap(({ path, copied = nothingAcked }) =>
      patterns
        .filter(({ mount, pattern, wake_stream }) => path !== wake_stream && matches(mount, pattern, path))
        .map(({ id }) => ({ subscriptionId: id, path, acked: copied })),
    )

interface WantedWake {
  readonly id: string
  readonly path: StreamPath
  /** After how long it is to be delivered; default: at once. */
  readonly inMs?: number
}

type HeldBack = Pick<LockedWake, 'id' | 'wake_id' | 'lost_leases'>

export const newWakeId = (): string => `w_${randomBytes(12).toString('hex')}`

export class Waking {
  readonly #ownedMs: number
  readonly #deliver: (wakes: readonly StartedWake[]) => void
  readonly #rewriteLoopbackTo: string | undefined

  constructor(
    { wakeOwnedMs }: Pick<Limits, 'wakeOwnedMs'>,
    deliver: (wakes: readonly StartedWake[]) => void,
    { rewriteLoopbackTo }: { readonly rewriteLoopbackTo?: string | undefined } = {},
  ) {
    this.#ownedMs = wakeOwnedMs
    this.#deliver = deliver
    this.#rewriteLoopbackTo = rewriteLoopbackTo
  }

  /** A1. To be called in the transaction of the appends, whose streams are locked. */
  async appended(tx: Transaction, appended: readonly Appended[]): Promise<void> {
    if (appended.length === 0) return
    await this.wake(tx, await this.wokenBy(tx, appended, await this.lock(tx, appended)))
  }

  /** A1, first third: locks whom appends to these streams may wake. To be asked behind the streams' locks. */
  async lock(tx: Transaction, appends: readonly { readonly path: StreamPath }[]): Promise<readonly Subscriber[]> {
    return await lockSubscribers(tx, [...new Set(appends.map(({ path }) => path))])
  }

  /** A1, second third: those of the locked whom these appends wake; A3. Asks nothing where no subscription is lost. */
  async wokenBy(tx: Transaction, appended: readonly Appended[], locked: readonly Subscriber[]): Promise<readonly Subscriber[]> {
    const paths = new Set(appended.map(({ path }) => path))
    const subscribers = locked.filter(({ path }) => paths.has(path))
    const lost = this.#lostBy(appended, subscribers)
    if (lost.length === 0) return subscribers
    await insertEntitySubscriptions(tx, lost)
    return await this.lock(tx, appended)
  }

  /** A1, last third, and the end of A2: starts a wake for those of the locked that are idle and may be woken. One turn of the event loop. */
  async wake(tx: Transaction, locked: readonly Subscriber[]): Promise<void> {
    const first = new Map<string, Subscriber>()
    for (const subscriber of locked)
      if (subscriber.wake_id === null && mayWake(subscriber.entity_status) && !first.has(subscriber.id))
        first.set(subscriber.id, subscriber)
    await this.start(tx, [...first.values()])
  }

  /**
   * An entry that is work for nobody: whoever waits for nothing else has acknowledged it, all others are woken as by any entry. In one transaction with
   * its append nothing of the kind is needed: there it is acknowledged with what it is about.
   */
  async passedOver(tx: Transaction, path: StreamPath, before: Offset, tail: Offset): Promise<void> {
    const subscribers = await lockSubscribers(tx, [path])
    const isCaughtUp = ({ wake_id, acked }: Subscriber): boolean => wake_id === null && acked === before
    await setAcked(
      tx,
      subscribers.filter(isCaughtUp).map(({ id }) => ({ subscriptionId: id, path, offset: tail })),
    )
    await this.wake(
      tx,
      subscribers.filter((subscriber) => !isCaughtUp(subscriber)),
    )
  }

  /** A2, first half: to be called before streams are made, for all of them. What it answers goes to `made`. */
  async patternsFor(tx: Transaction, paths: readonly StreamPath[]): Promise<readonly PatternSubscription[]> {
    const [, patterns] = await Promise.all([
      sharePatterns(tx),
      patternsAt(tx, [...new Set(paths.filter(isLinkable).flatMap(prefixesOf))]), // its snapshot is taken under the lock
    ])
    return patterns
  }

  /** Holds every subscription that a stream to be made may concern: before any of their links is touched (subscriptions.ts, `holdSubscriptions`). */
  async hold(
    tx: Transaction,
    streams: readonly Pick<MadeStream, 'path' | 'dispatch'>[],
    patterns: readonly PatternSubscription[],
  ): Promise<void> {
    const own = this.#ownSubscriptions(streams)
    await holdSubscriptions(
      tx,
      [...own.map(({ subscription }) => subscription.id), ...matching(streams, patterns).map(({ subscriptionId }) => subscriptionId)],
      streams.map(({ path }) => path),
    )
  }

  /** A2, second half: to be called after they were made. */
  async made(tx: Transaction, streams: readonly MadeStream[], patterns: readonly PatternSubscription[]): Promise<void> {
    await this.wake(tx, await this.wokenByMade(tx, streams, patterns))
  }

  /** The same without its end. `linked`: those that somebody linked before there was such a stream, where the caller knows. */
  async wokenByMade(
    tx: Transaction,
    streams: readonly MadeStream[],
    patterns: readonly PatternSubscription[],
    linked: ReadonlySet<string> = new Set(streams.map(({ path }) => path)),
  ): Promise<readonly Subscriber[]> {
    const own = this.#ownSubscriptions(streams)
    const links = matching(streams, patterns)
    if (own.length === 0 && links.length === 0 && !streams.some(({ path }) => linked.has(path))) return []
    const paths = streams.map(({ path }) => path)
    const [, hasReplaced, , locked] = await Promise.all([
      links.length > 0 ? this.hold(tx, streams, patterns) : undefined, // without links nobody else's are touched before they are locked
      insertEntitySubscriptions(tx, own),
      insertLinks(tx, links, 'glob'),
      lockSubscribers(tx, paths), // among them who linked a stream before there was one
    ]) // in this order (database.ts D7)
    const subscribers = await placed(
      tx,
      hasReplaced ? await lockSubscribers(tx, paths) : locked,
      streams,
      new Set(own.map(({ subscription }) => subscription.id)),
    )
    const tails = new Map(streams.map(({ path, tail }) => [path, tail]))
    return subscribers.filter(({ path, acked }) => hasPending({ acked, tail: tails.get(path) ?? null }))
  }

  #ownSubscriptions(streams: readonly Pick<MadeStream, 'path' | 'dispatch'>[]) {
    return streams.flatMap(({ path, dispatch }) => {
      const url = entityOfMainStream(path)
      return dispatch === undefined || url === null ? [] : [{ subscription: this.#ownOf(url, dispatch.policy), acked: dispatch.acked }]
    })
  }

  /**
   * Starts a wake for each of these idle, locked subscriptions, whose pending work the caller has seen; delivers after the commit, or leaves it to
   * whoever finds it due `inMs` later. One turn of the event loop.
   */
  async start(tx: Transaction, wanted: readonly WantedWake[]): Promise<readonly StartedWake[]> {
    const starts = wanted.map(({ id, path, inMs = 0 }) => ({ id, path, wakeId: newWakeId(), entityUrl: entityOfWake(path), inMs }))
    const later = starts.filter(({ inMs }) => inMs > 0)
    const [started] = await Promise.all([
      startWakes(tx, starts, this.#ownedMs),
      ...later.map(async ({ wakeId, inMs }) => await setDueIn(tx, wakeId, inMs)), // answered in this order (database.ts D7)
    ])
    const due = later.length === 0 ? started : started.filter(({ wakeId }) => later.every((one) => one.wakeId !== wakeId))
    if (due.length > 0) tx.afterCommit(() => this.#deliver(due))
    return started
  }

  /** Ends wakes that nobody may work on now, whose subscriptions are locked: their work stays pending, what else is pending there starts the next ones. */
  async holdBack(tx: Transaction, wakes: readonly HeldBack[]): Promise<void> {
    const ids = wakes.map(({ id }) => id)
    const links = await linksOf(tx, ids)
    const next = ids.flatMap((id) => firstPending(links.filter(({ subscription_id }) => subscription_id === id)) ?? [])
    const moved = new Set(next.map(({ subscription_id }) => subscription_id)) // handlers that were lost, were lost over another stream
    await endWakes(
      tx,
      wakes.map(({ id, wake_id, lost_leases }) => asExpired(wake_id, moved.has(id) ? 0 : lost_leases)),
    )
    await this.start(
      tx,
      next.map(({ subscription_id, path }) => ({ id: subscription_id, path })),
    )
  }

  #lostBy(appended: readonly Appended[], subscribers: readonly Subscriber[]) {
    const linked = new Set(subscribers.filter(({ is_own }) => is_own).map(({ path }) => path))
    const first = new Map<StreamPath, Appended>()
    for (const append of appended) if (append.policy && !linked.has(append.path) && !first.has(append.path)) first.set(append.path, append)
    return [...first.values()].flatMap(({ path, policy, before }) => {
      const url = entityOfMainStream(path)
      return policy && url !== null ? [{ subscription: this.#ownOf(url, policy), acked: before }] : []
    })
  }

  /** What is called is where the policy's URL really is; the policy itself is shown as it was given (spec/13 §5.2). */
  #ownOf(url: EntityUrl, policy: DispatchPolicy): EntitySubscription {
    const own = subscriptionOf(url, policy)
    return own.webhookUrl === null || !isWebhookUrl(own.webhookUrl)
      ? own
      : { ...own, webhookUrl: rewriteLoopback(own.webhookUrl, this.#rewriteLoopbackTo, 'url') }
  }
}
