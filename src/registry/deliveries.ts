/**
 * Deliveries of wakes that nobody has claimed: begun, failed, announced, given up (spec/06 §4, spec/07 §6.3). Invariants K3 and K4 of `wakes.ts`.
 */
import type { EntityUrl } from '../domain/ids.js'
import type { SubscriptionType } from '../domain/subscriptions.js'
import { keyed, type Queryable, sql, type Transaction } from './database.js'

/** A wake that is to be delivered now. */
export interface StartedWake {
  readonly wakeId: string
  readonly subscriptionId: string
  readonly type: SubscriptionType
  readonly generation: number
  /** Deliveries begun so far. */
  readonly attempts: number
  /** Where to; webhooks only. */
  readonly webhookUrl: string | null
  readonly entityUrl: EntityUrl | null
}

/** Out of a row with these columns. */
export const startedWake = (row: Readonly<Record<string, unknown>>): StartedWake => ({
  wakeId: String(row.wake_id),
  subscriptionId: String(row.id),
  type: row.type as SubscriptionType,
  generation: Number(row.generation),
  attempts: Number(row.attempts),
  webhookUrl: row.webhook_url as string | null,
  entityUrl: row.wake_entity_url as EntityUrl | null,
})

/** K3. Those of these locked wakes whose delivery the caller is to carry out within `limitMs`. */
export async function beginDeliveries(
  tx: Transaction,
  wakes: readonly { readonly wakeId: string; readonly attempts: number }[],
  limitMs: number,
): Promise<ReadonlySet<string>> {
  const { rows } = await tx.query(keyed`
    UPDATE subscriptions s
       SET attempts = s.attempts + 1, due_at = clock_timestamp() + ${limitMs} * interval '1 ms',
           called_until = CASE s.type WHEN 'webhook' THEN clock_timestamp() + ${limitMs} * interval '1 ms' END
      FROM (SELECT k.ctid AS at
              FROM unnest(${wakes.map((w) => w.wakeId)}::text[], ${wakes.map((w) => w.attempts)}::int4[]) AS i (wake_id, attempts)
             CROSS JOIN LATERAL (SELECT ctid FROM subscriptions
                                  WHERE tenant_id = ${tx.tenant} AND wake_id = i.wake_id COLLATE "C" AND attempts = i.attempts AND lease_until IS NULL
                                 OFFSET 0) k) i
     WHERE s.ctid = i.at
    RETURNING s.wake_id`)
  return new Set(rows.map((row) => String(row.wake_id)))
}

/** The handler has taken these locked wakes: from now on their lease runs, unless a callback has started it already. */
export async function setDelivered(tx: Transaction, wakeIds: readonly string[]): Promise<void> {
  await tx.query(keyed`
    WITH delivered AS (
      UPDATE subscriptions s
         SET due_at = NULL, failures = 0, last_error = NULL, lease_until = clock_timestamp() + lease_ttl_ms * interval '1 ms'
        FROM (SELECT k.ctid AS at
                FROM unnest(${wakeIds}::text[]) AS i (wake_id)
               CROSS JOIN LATERAL (SELECT ctid FROM subscriptions
                                    WHERE tenant_id = ${tx.tenant} AND wake_id = i.wake_id COLLATE "C" AND lease_until IS NULL OFFSET 0) k) i
       WHERE s.ctid = i.at
      RETURNING s.wake_id)
    UPDATE wake_notifications n SET delivery_status = 'delivered', delivered_at = now()
      FROM (SELECT k.ctid AS at FROM delivered
             CROSS JOIN LATERAL (SELECT ctid FROM wake_notifications WHERE tenant_id = ${tx.tenant} AND wake_id = delivered.wake_id OFFSET 0) k) d
     WHERE n.ctid = d.at`)
}

/**
 * An announcement stands on the wake stream; whoever finds it unclaimed after `againMs` announces it again. Unless it is due already: then its runner
 * has come back meanwhile, and may have begun to read behind it.
 */
export async function setAnnounced(tx: Queryable, wakeId: string, offset: string | null, againMs: number): Promise<void> {
  await tx.query(sql`
    WITH announced AS (
      UPDATE subscriptions
         SET due_at = CASE WHEN due_at > clock_timestamp() THEN clock_timestamp() + ${againMs} * interval '1 ms' ELSE due_at END, last_error = NULL
       WHERE tenant_id = ${tx.tenant} AND wake_id = ${wakeId} AND lease_until IS NULL
      RETURNING wake_id)
    UPDATE wake_notifications n SET delivery_status = 'delivered', delivered_at = now(), runner_wake_stream_offset = ${offset}
      FROM announced WHERE n.tenant_id = ${tx.tenant} AND n.wake_id = announced.wake_id`)
}

/** A delivery has failed; the next is due in `retryInMs`. The caller holds the lock of the wake, which has no lease. */
export async function setFailed(tx: Transaction, wakeId: string, reason: string, retryInMs: number): Promise<void> {
  await tx.query(sql`
    WITH failed AS (
      UPDATE subscriptions
         SET failures = failures + 1, last_error = ${reason}, due_at = clock_timestamp() + ${retryInMs} * interval '1 ms', called_until = NULL
       WHERE tenant_id = ${tx.tenant} AND wake_id = ${wakeId}
      RETURNING wake_entity_url)
    UPDATE entity_dispatch_state d SET last_error = ${reason}, updated_at = now()
      FROM failed WHERE d.tenant_id = ${tx.tenant} AND d.entity_url = failed.wake_entity_url`)
}

/** The next delivery of a wake that nobody has taken is due in `ms`. */
export async function setDueIn(queryable: Queryable, wakeId: string, ms: number): Promise<void> {
  await queryable.query(sql`
    UPDATE subscriptions SET due_at = clock_timestamp() + ${ms} * interval '1 ms'
     WHERE tenant_id = ${queryable.tenant} AND wake_id = ${wakeId} AND lease_until IS NULL`)
}

/** A wake waits for its runner to come, or for `ms`; where that has come meanwhile the wake is due, and stays so. What is amiss is shown. */
export async function setWaiting(queryable: Queryable, wakeId: string, ms: number, reason: string | null): Promise<void> {
  await queryable.query(sql`
    WITH waiting AS (
      UPDATE subscriptions SET due_at = clock_timestamp() + ${ms} * interval '1 ms', last_error = ${reason}::text
       WHERE tenant_id = ${queryable.tenant} AND wake_id = ${wakeId} AND lease_until IS NULL AND due_at > clock_timestamp()
      RETURNING wake_entity_url, last_error)
    UPDATE entity_dispatch_state d SET last_error = waiting.last_error, updated_at = now()
      FROM waiting WHERE d.tenant_id = ${queryable.tenant} AND d.entity_url = waiting.wake_entity_url AND d.last_error IS DISTINCT FROM waiting.last_error`)
}

/** Outstanding wakes of a runner are announced again as if for the first time, as soon as anybody looks (spec/07 §6.3). */
export async function announceAgain(queryable: Queryable, runnerId: string): Promise<void> {
  await queryable.query(sql`
    WITH outstanding AS (
      SELECT id FROM subscriptions
       WHERE tenant_id = ${queryable.tenant} AND runner_id = ${runnerId} AND wake_id IS NOT NULL AND lease_until IS NULL
       ORDER BY id
         FOR NO KEY UPDATE)
    UPDATE subscriptions s SET due_at = clock_timestamp(), attempts = 0
      FROM outstanding WHERE s.tenant_id = ${queryable.tenant} AND s.id = outstanding.id`)
}

/**
 * Takes wakes whose next delivery is due, oldest first: for `ownedMs` they are the caller's to begin, then anybody's again. So those that wait for a
 * place at a handler that hangs do not stand before all others at every look. Locks wait for nobody. Index: subscriptions_by_due.
 */
export async function takeDueWakes(queryable: Queryable, limit: number, ownedMs: number): Promise<StartedWake[]> {
  const { rows } = await queryable.query(sql`
    UPDATE subscriptions SET due_at = clock_timestamp() + ${ownedMs} * interval '1 ms'
     WHERE (tenant_id, id) IN (
       SELECT tenant_id, id FROM subscriptions
        WHERE due_at <= clock_timestamp() AND tenant_id = ${queryable.tenant} AND wake_id IS NOT NULL
        ORDER BY due_at
        LIMIT ${limit}
          FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING wake_id, id, type, generation, attempts, webhook_url, wake_entity_url`)
  return rows.map(startedWake)
}

/** The wake as it stands, where it still waits for a delivery. */
export async function undeliveredWake(queryable: Queryable, wakeId: string): Promise<StartedWake | null> {
  const { rows } = await queryable.query(sql`
    SELECT wake_id, id, type, generation, attempts, webhook_url, wake_entity_url FROM subscriptions
     WHERE tenant_id = ${queryable.tenant} AND wake_id = ${wakeId} AND lease_until IS NULL`)
  return rows[0] === undefined ? null : startedWake(rows[0])
}

/** A wake whose deliveries have failed for good: it stays, with what was acked before it, until somebody delivers it again or forgets it. */
export async function setDead(
  tx: Transaction,
  dead: {
    readonly wakeId: string
    readonly reason: string
    readonly attempts: number
    readonly ackedBefore: Readonly<Record<string, string>>
  },
): Promise<void> {
  await tx.query(sql`
    UPDATE wake_notifications
       SET delivery_status = 'failed', last_error = ${dead.reason}, attempts = ${dead.attempts}, acked_before = ${JSON.stringify(dead.ackedBefore)}::jsonb,
           resolved_at = now()
     WHERE tenant_id = ${tx.tenant} AND wake_id = ${dead.wakeId}`)
}
