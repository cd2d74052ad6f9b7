/** A runner claims a wake that it has read of (spec/07 §3.7): the event is a hint, the subscription decides. */
import type { Claims } from '../dispatch/claims.js'
import type { PublicBase } from '../dispatch/public-url.js'
import { enrichedWake, primaryFirst } from '../dispatch/wake-body.js'
import { AgentsError, errors } from '../domain/errors.js'
import type { Principal } from '../domain/principals.js'
import { authorizeRunner } from './authorize.js'
import type { Directory } from './directory.js'

export type RunnerClaim =
  | { readonly outcome: 'claimed'; readonly wake: object }
  /** Nothing to do: the subscription is gone, or its entity takes no work now. */
  | { readonly outcome: 'gone' }
  | { readonly outcome: 'done' }

export class RunnerClaiming {
  readonly #directory: Directory
  readonly #claims: Claims
  readonly #base: PublicBase

  constructor(directory: Directory, { claims, base }: { readonly claims: Claims; readonly base: PublicBase }) {
    this.#directory = directory
    this.#claims = claims
    this.#base = base
  }

  /** Rows 1–9, from 404 on; throws the first refusal. */
  async claim(caller: Principal, runnerId: string, subscriptionId = `runner:${runnerId}`): Promise<RunnerClaim> {
    const runner = await this.#directory.runner(runnerId)
    if (runner === null) throw errors.RUNNER_UNKNOWN()
    authorizeRunner(caller, runner, errors.RUNNER_CLAIM_REFUSED)
    if (runner.admin_status === 'disabled') throw errors.RUNNER_DISABLED()
    const own = `runner:${runnerId}`
    if (subscriptionId !== own && !subscriptionId.startsWith(`${own}:`)) throw errors.WAKE_OF_ANOTHER_RUNNER()
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
