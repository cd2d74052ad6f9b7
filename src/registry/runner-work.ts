/** What a runner works on (spec/07 §3.4, `claims` and `dispatch`). */
import type { Queryable } from './database.js'

export interface RunnerClaim {
  readonly consumer_id: string
  readonly epoch: number
  readonly entity_url: string
  readonly stream_path: string
  readonly claimed_at: Date
  readonly last_heartbeat_at: Date | null
  readonly lease_expires_at: Date | null
}

export interface RunnerWork {
  readonly claims: readonly RunnerClaim[]
  readonly dispatch: {
    readonly entities_with_active_claim: number
    readonly entities_with_outstanding_wake: number
    readonly entities_with_pending_work: number
  }
}

/** Nothing yet: claims and dispatch state come with their tables. */
export async function findRunnerWork(_queryable: Queryable, _id: string): Promise<RunnerWork> {
  return {
    claims: [],
    dispatch: { entities_with_active_claim: 0, entities_with_outstanding_wake: 0, entities_with_pending_work: 0 },
  }
}
