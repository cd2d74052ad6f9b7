/** Steps of `deliverWake` and `stopEntity`: what could not be done at once (design §3). */
import type { EntityUrl } from '../domain/ids.js'
import type { Parts, RedeliveryVerdict } from './parts.js'

export interface WakeActivities {
  /** One more delivery of a wake. Idempotent: who has it begun carries it out, and a wake that was taken is over. */
  redeliverWake(wake: { readonly wakeId: string }): Promise<RedeliveryVerdict>
  /** The grace period is over: the entity stops without its handler. Idempotent. */
  stopWithoutHandler(entity: { readonly url: EntityUrl }): Promise<void>
}

export const wakeActivities = (parts: Parts): WakeActivities => ({
  async redeliverWake({ wakeId }) {
    return await parts.wakes.redeliver(wakeId)
  },

  async stopWithoutHandler({ url }) {
    await parts.wakes.finishStop(url, { despiteClaim: true })
  },
})
