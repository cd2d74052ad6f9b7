/** What a runner works on (spec/07 §3.4, `claims` and `dispatch`). */
import { z } from 'zod'
import { type Queryable, sql } from './database.js'

export interface RunnerClaim {
  readonly consumer_id: string
  readonly epoch: number
  readonly entity_url: string | null
  readonly stream_path: string
  readonly claimed_at: Date
  readonly last_heartbeat_at: Date | null
  readonly lease_expires_at: Date | null
}

export interface RunnerWork {
  /** Those whose lease holds, oldest first. */
  readonly claims: readonly RunnerClaim[]
  readonly dispatch: {
    readonly entities_with_active_claim: number
    readonly entities_with_outstanding_wake: number
    readonly entities_with_pending_work: number
  }
}

const claimRow: z.ZodType<RunnerClaim> = z.object({
  consumer_id: z.string(),
  epoch: z.number(),
  entity_url: z.string().nullable(),
  stream_path: z.string(),
  claimed_at: z.date(),
  last_heartbeat_at: z.date().nullable(),
  lease_expires_at: z.date().nullable(),
})
const dispatchRow: z.ZodType<RunnerWork['dispatch']> = z.object({
  entities_with_active_claim: z.number(),
  entities_with_outstanding_wake: z.number(),
  entities_with_pending_work: z.number(),
})

export async function findRunnerWork(queryable: Queryable, id: string, claimLimit: number): Promise<RunnerWork> {
  const [claims, dispatch] = await Promise.all([findClaims(queryable, id, claimLimit), countEntities(queryable, id)])
  return { claims, dispatch }
}

/** A lease that has run out is no claim, also before anybody has marked it. Index: consumer_claims_by_runner. */
async function findClaims(queryable: Queryable, id: string, limit: number): Promise<RunnerClaim[]> {
  const { rows } = await queryable.query(sql`
    SELECT consumer_id, epoch, entity_url, stream_path, claimed_at, last_heartbeat_at, lease_expires_at
      FROM consumer_claims
     WHERE tenant_id = ${queryable.tenant} AND runner_id = ${id} AND status = 'active'
       AND (lease_expires_at IS NULL OR lease_expires_at > now())
     ORDER BY claimed_at, consumer_id
     LIMIT ${limit}`)
  return rows.map((row) => claimRow.parse(row))
}

/** Of the entities that are pinned to the runner. Index: subscriptions_by_runner. */
async function countEntities(queryable: Queryable, id: string): Promise<RunnerWork['dispatch']> {
  const { rows } = await queryable.query(sql`
    SELECT count(*) FILTER (WHERE d.active_runner_id = ${id}) AS entities_with_active_claim,
           count(*) FILTER (WHERE d.outstanding_wake_id IS NOT NULL) AS entities_with_outstanding_wake,
           count(*) FILTER (WHERE d.pending_source_streams <> '[]') AS entities_with_pending_work
      FROM (SELECT DISTINCT entity_url FROM subscriptions
             WHERE tenant_id = ${queryable.tenant} AND runner_id = ${id} AND entity_url IS NOT NULL) pinned
      JOIN entity_dispatch_state d ON d.tenant_id = ${queryable.tenant} AND d.entity_url = pinned.entity_url`)
  return dispatchRow.parse(rows[0])
}
