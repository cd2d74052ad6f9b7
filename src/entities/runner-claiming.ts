/** A runner claims a wake that it has read of (spec/07 §3.7): the event is a hint, the subscription decides. */
import type { Claims } from '../dispatch/claims.js'
import type { PublicBase } from '../dispatch/public-url.js'
import { enrichedWake, primaryFirst } from '../dispatch/wake-body.js'
import { AgentsError, errors } from '../domain/errors.js'
import type { Principal } from '../domain/principals.js'
import type { Queryable } from '../registry/database.js'
import { findSubscription, type StoredSubscription } from '../registry/subscriptions.js'
import { authorizeRunner } from './authorize.js'
import type { Directory } from './directory.js'

export type RunnerClaim =
  | { readonly outcome: 'claimed'; readonly wake: object }
  /** Nothing to do: the subscription is gone, or its entity takes no work now. */
  | { readonly outcome: 'gone' }
  | { readonly outcome: 'done' }

/** What a wake event says; whoever sends it may have made it up. */
export interface ToldWake {
  readonly subscriptionId?: string | undefined
  readonly generation?: number | undefined
}

export class RunnerClaiming {
  readonly #database: Queryable
  readonly #directory: Directory
  readonly #claims: Claims
  readonly #base: PublicBase

  constructor(database: Queryable, directory: Directory, { claims, base }: { readonly claims: Claims; readonly base: PublicBase }) {
    this.#database = database
    this.#directory = directory
    this.#claims = claims
    this.#base = base
  }

  /** Rows 1–9, from 404 on; throws the first refusal. */
  async claim(caller: Principal, runnerId: string, told: ToldWake): Promise<RunnerClaim> {
    const runner = await this.#directory.runner(runnerId)
    if (runner === null) throw errors.RUNNER_UNKNOWN()
    authorizeRunner(caller, runner, errors.RUNNER_CLAIM_REFUSED)
    if (runner.admin_status === 'disabled') throw errors.RUNNER_DISABLED()
    const own = `runner:${runnerId}`
    const subscriptionId = told.subscriptionId ?? own
    if (subscriptionId !== own && !subscriptionId.startsWith(`${own}:`)) throw errors.WAKE_OF_ANOTHER_RUNNER()
    const known = await findSubscription(this.#database, subscriptionId)
    if (known === null || !isFor(runnerId, known)) return { outcome: 'gone' }
    refuseOver(known, told.generation)
    return await this.#claimAt(subscriptionId, runnerId)
  }

  async #claimAt(subscriptionId: string, runnerId: string): Promise<RunnerClaim> {
    const verdict = await this.#claims.claimNext(subscriptionId, runnerId).catch((failure: unknown) => {
      if (failure instanceof AgentsError && failure.refusal.code === 'SUBSCRIPTION_NOT_FOUND') return { outcome: 'gone' } as const
      throw failure
    })
    switch (verdict.outcome) {
      case 'gone':
        return verdict
      case 'held-back':
        return { outcome: 'done' }
      case 'no-work':
        throw errors.NO_PENDING_WORK()
      case 'taken':
        throw errors.WAKE_CLAIMED(verdict.holder, verdict.generation)
      case 'claimed': {
        const { wake, links, entity, claimToken } = verdict
        if (entity === null) {
          await this.#claims.giveBack(wake)
          throw errors.CLAIM_WITHOUT_ENTITY()
        }
        const facts = {
          subscriptionId,
          mount: wake.mount,
          wakeId: wake.wake_id,
          generation: wake.generation,
          claimToken,
          baseUrl: await this.#base.read(),
          links: primaryFirst(links, wake.wake_entity_url),
        }
        return { outcome: 'claimed', wake: enrichedWake(facts, entity, 'message_received') }
      }
      default:
        return verdict satisfies never
    }
  }
}

/** An id is only a name: what a webhook is called for, or another runner works on, is not claimed by it. */
const isFor = (runnerId: string, { type, entity_url, runner_id }: StoredSubscription): boolean =>
  type === 'pull-wake' && (entity_url === null || runner_id === runnerId)

/**
 * An old event costs one look-up and no lock: a runner that reads its whole wake stream sends many (spec/07 §6.3). Where the current wake waits
 * to be claimed the old event is as good a hint as its own.
 */
function refuseOver(known: StoredSubscription, told: number | undefined): void {
  if (told === undefined || told >= known.generation) return
  if (known.wake_id === null) throw errors.NO_PENDING_WORK()
  if (known.lease_until !== null) throw errors.WAKE_CLAIMED(known.holder ?? '', known.generation)
}
