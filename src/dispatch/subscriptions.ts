/**
 * The subscription API's use cases (spec/06 §3): who is woken by which streams, and how a pull-wake is claimed.
 *
 * B1  An id names one subscription, of one view: others see none, and cannot make theirs under its name.
 * B2  A stream that a subscription names, or that its pattern names, wakes it for everything after the link was made, and for nothing before.
 * B3  Who may is asked of the row that the transaction has locked: what an id named before decides nothing.
 * B4  A subscription that is deleted ends with its wake: tokens are worthless, the entity is nobody's, late answers change nothing.
 *
 * Locks: patterns (alone, while links are made), entities, streams, subscriptions. A crash leaves all of a request, or nothing.
 */
import { errors } from '../domain/errors.js'
import type { StreamPath } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import { configurationOf, type SubscriptionRequest } from '../domain/subscription-request.js'
import { isLinkable, type Mount, matches, patternPrefix } from '../domain/subscriptions.js'
import { BeginAgain, type Database, type Queryable, type Transaction } from '../registry/database.js'
import { setIdle } from '../registry/entity-work.js'
import {
  deleteSubscription,
  forgetFailures,
  insertSubscription,
  linkAtTails,
  setWebhookUrl,
  unlinkExplicit,
} from '../registry/subscription-editing.js'
import { findSubscription, type LinkState, linksOf, ownPatterns, type StoredSubscription } from '../registry/subscriptions.js'
import { asExpired, endWakes, lockEntityOfSubscription, lockSubscription } from '../registry/wakes.js'
import type { CallbackAnswer, ClaimedWake, Claims } from './claims.js'
import type { Stopping } from './stopping.js'
import type { Tails } from './tails.js'
import type { Callback } from './wake-progress.js'
import type { WakeTokens } from './wake-tokens.js'
import { type WebhookUrlOptions, webhookUrl } from './webhook-urls.js'

/** Which subscription, on which view. */
export interface SubscriptionName {
  readonly id: string
  readonly mount: Mount
}

/** Throws where the caller may not have its way with this one (B3). */
export type Guard = (subscription: StoredSubscription) => void

export interface ShownSubscription {
  readonly subscription: StoredSubscription
  readonly links: readonly LinkState[]
}

export interface SubscriptionsParts {
  readonly database: Database
  readonly claims: Claims
  readonly tokens: WakeTokens
  readonly stopping: Stopping
  readonly tails: Tails
  readonly urls: WebhookUrlOptions
  readonly limits: Pick<Limits, 'maxSubscriptionStreams'>
}

/** What a holder says of its wake, beside its token. */
export interface Said {
  readonly wakeId?: string | undefined
  readonly generation?: number | undefined
  readonly acks: Callback['acks']
  readonly ends?: 'done' | 'release' | undefined
}

export class Subscriptions {
  readonly #parts: SubscriptionsParts

  constructor(parts: SubscriptionsParts) {
    this.#parts = parts
  }

  /** PUT: rows 9 and 10 of spec/06 §3.2. `createdBy` null: a bypass principal, whose subscription is a handler's (wakes.ts K5). */
  async put(
    request: SubscriptionRequest,
    createdBy: string | null,
    guard: Guard,
  ): Promise<ShownSubscription & { readonly isNew: boolean }> {
    this.#refuseTooMany(request.streams)
    const { database, tails } = this.#parts
    if (await database.transaction((tx) => this.#confirmIn(tx, request, guard))) return { ...(await this.#shown(request)), isNew: false }
    const named = new Set([...request.streams, ...(await this.#namedBy(database, request))])
    await tails.catchUp([...named])
    const linked = await database.transaction((tx) => this.#createIn(tx, request, createdBy))
    if (linked === null) return await this.put(request, createdBy, guard) // somebody else was faster
    await tails.catchUp(linked)
    return { ...(await this.#shown(request)), isNew: true }
  }

  async read(name: SubscriptionName, guard: Guard): Promise<ShownSubscription> {
    const shown = await this.#shown(name)
    guard(shown.subscription)
    return shown
  }

  /** B4. One that is not there is deleted already. */
  async delete(name: SubscriptionName, guard: Guard): Promise<void> {
    const { database, stopping } = this.#parts
    const url = await database.transaction(async (tx) => {
      const locked = await lockSubscription(tx, name.id)
      const stored = await find(tx, name)
      if (locked === null || stored === null) return null
      guard(stored)
      if (!locked.holds_entity) throw new BeginAgain()
      if (locked.wake_id !== null) await endWakes(tx, [asExpired(locked.wake_id, locked.lost_leases)])
      await deleteSubscription(tx, name.id)
      if (locked.wake_entity_url !== null) await setIdle(tx, [locked.wake_entity_url], Date.now())
      return locked.wake_entity_url
    })
    await stopping.finishBehind(url)
  }

  /** Links streams at their tails; a link that stands keeps its cursor. */
  async addStreams(name: SubscriptionName, paths: readonly StreamPath[], guard: Guard): Promise<void> {
    const { database, tails } = this.#parts
    this.#refuseTooMany(paths)
    guard(await required(database, name))
    await tails.catchUp(paths)
    await database.transaction(async (tx) => {
      await Promise.all([ownPatterns(tx), lockEntityOfSubscription(tx, name.id)]) // entities come before streams
      await this.#linkIn(tx, paths)
      guard(await this.#locked(tx, name))
      await linkAtTails(tx, name.id, paths, 'explicit')
    })
    await tails.catchUp(paths)
  }

  /** The first of `names` that is linked explicitly loses that link. */
  async removeStream(name: SubscriptionName, paths: readonly StreamPath[], guard: Guard): Promise<void> {
    await this.#parts.database.transaction(async (tx) => {
      guard(await this.#locked(tx, name))
      for (const path of paths) if (await unlinkExplicit(tx, name.id, path)) return
    })
  }

  /** spec/06 §3.2 "claim". */
  async claim(name: SubscriptionName, worker: string, guard: Guard): Promise<ClaimedWake> {
    const stored = await required(this.#parts.database, name)
    guard(stored)
    refuseUnlessPullWake(stored)
    const verdict = await this.#parts.claims.claimNext(name.id, worker)
    switch (verdict.outcome) {
      case 'claimed':
        return verdict
      case 'taken':
        throw errors.ALREADY_CLAIMED().saying({ current_holder: verdict.holder, generation: verdict.generation })
      case 'no-work':
      case 'held-back':
        throw errors.NO_PENDING_WORK()
      default:
        return verdict satisfies never
    }
  }

  /** "callback", "ack" and "release": the token alone says who speaks. `said` is read when it is its turn. */
  async hear(name: SubscriptionName, token: string, as: 'callback' | 'ack' | 'release', said: () => Said): Promise<CallbackAnswer> {
    const stored = await required(this.#parts.database, name)
    if (as !== 'callback') refuseUnlessPullWake(stored)
    const { wakeId, generation, acks, ends } = said()
    const identity = this.#parts.tokens.readClaimToken(name.id, token)
    if (identity === null) throw errors.TOKEN_INVALID()
    if (wakeId !== identity.wakeId || generation !== identity.generation) throw errors.FENCED()
    return await this.#parts.claims.callback({ ...identity, acks, ...(ends === undefined ? {} : { ends }) })
  }

  /** Whether there is one to be confirmed; it is asked before, and again where its creation met one. */
  async #confirmIn(tx: Transaction, request: SubscriptionRequest, guard: Guard): Promise<boolean> {
    if ((await lockSubscription(tx, request.id)) === null) return false
    const stored = await findSubscription(tx, request.id)
    if (stored === null) return false
    guard(stored)
    if (stored.configuration !== configurationOf(request)) throw errors.SUBSCRIPTION_ALREADY_EXISTS()
    const url = this.#calledUrl(request)
    // what the former handler has asked for is nothing to the new one
    if (url !== null && url !== stored.webhook_url) await Promise.all([setWebhookUrl(tx, request.id, url), forgetFailures(tx, request.id)])
    return true
  }

  /** The streams that were linked; null: there is such a subscription. */
  async #createIn(tx: Transaction, request: SubscriptionRequest, createdBy: string | null): Promise<readonly StreamPath[] | null> {
    const webhook = this.#calledUrl(request)
    const matching = await this.#linkIn(tx, request.streams, request)
    if (!(await insertSubscription(tx, { request, configuration: configurationOf(request), webhookUrl: webhook, createdBy }))) return null
    await linkAtTails(tx, request.id, request.streams, 'explicit')
    await linkAtTails(tx, request.id, matching, 'glob')
    return [...request.streams, ...matching]
  }

  /** Until `tx` ends nobody makes a stream, and nobody appends to those that are to be linked (B2). Those that the pattern names. */
  async #linkIn(tx: Transaction, streams: readonly StreamPath[], request?: SubscriptionRequest): Promise<readonly StreamPath[]> {
    await ownPatterns(tx)
    const matching = request === undefined ? [] : await this.#namedBy(tx, request)
    await this.#parts.tails.hold(tx, [...new Set([...streams, ...matching])])
    return matching
  }

  async #namedBy(queryable: Queryable, { mount, pattern, wakeStream }: SubscriptionRequest): Promise<readonly StreamPath[]> {
    if (pattern === null) return []
    const named: StreamPath[] = []
    for await (const page of this.#parts.tails.below(queryable, patternPrefix(mount, pattern))) {
      named.push(...page.filter((path) => path !== wakeStream && isLinkable(path) && matches(mount, pattern, path)))
      this.#refuseTooMany(named)
    }
    return named
  }

  #refuseTooMany(paths: readonly StreamPath[]): void {
    const { maxSubscriptionStreams: most } = this.#parts.limits
    if (paths.length > most) throw errors.INVALID_REQUEST(`A request links at most ${most} streams`)
  }

  /** Row 10. */
  #calledUrl({ webhookUrl: sent }: SubscriptionRequest): string | null {
    if (sent === null) return null
    const judged = webhookUrl(sent, this.#parts.urls)
    if ('refused' in judged) throw errors.WEBHOOK_URL_REJECTED(judged.refused)
    return judged.url
  }

  async #locked(tx: Transaction, name: SubscriptionName): Promise<StoredSubscription> {
    await lockSubscription(tx, name.id)
    return await required(tx, name)
  }

  async #shown(name: SubscriptionName): Promise<ShownSubscription> {
    const { database } = this.#parts
    const [subscription, links] = await Promise.all([required(database, name), linksOf(database, [name.id])])
    return { subscription, links }
  }
}

/** B1. */
async function find(queryable: Queryable, { id, mount }: SubscriptionName): Promise<StoredSubscription | null> {
  const stored = await findSubscription(queryable, id)
  return stored?.mount === mount ? stored : null
}

async function required(queryable: Queryable, name: SubscriptionName): Promise<StoredSubscription> {
  const stored = await find(queryable, name)
  if (stored === null) throw errors.SUBSCRIPTION_NOT_FOUND()
  return stored
}

function refuseUnlessPullWake({ type }: StoredSubscription): void {
  if (type !== 'pull-wake') throw errors.SUBSCRIPTION_NOT_PULL_WAKE()
}
