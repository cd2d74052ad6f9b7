/** Wakes that were given up: rows of `wake_notifications` that say `failed`, until somebody delivers them again or forgets them. */
import { z } from 'zod'
import type { EntityUrl } from '../domain/ids.js'
import type { Visibility } from '../domain/principals.js'
import { nothingAcked } from '../domain/subscriptions.js'
import { type Queryable, sql, type Transaction } from './database.js'
import { type Portion, portionOf } from './portions.js'

const letterRow = z.object({
  wake_id: z.string(),
  subscription_id: z.string(),
  generation: z.number(),
  entity_url: z.string().nullable() as unknown as z.ZodType<EntityUrl | null>, // stored as it was parsed
  target_type: z.string(),
  target_runner_id: z.string().nullable(),
  target_webhook_url: z.string().nullable(),
  runner_wake_stream: z.string().nullable(),
  last_error: z.string().nullable(),
  attempts: z.number().nullable(),
  /** Path → what had been acked. */
  acked_before: z.record(z.string(), z.string()).nullable(),
  created_at: z.date(),
  resolved_at: z.date(),
  /** The same, exactly. */
  failed_us: z.number(),
})
export type DeadLetter = z.output<typeof letterRow>

/** A letter's place in the list: the last one of a page. */
export interface LetterPosition {
  readonly failed_us: number
  readonly wake_id: string
}

export interface LetterPage {
  /** Whose entities, and whose subscriptions. */
  readonly visibility: Visibility
  readonly limit: number
  /** Where a page ends before its `limit`. */
  readonly maxBytes: number
  readonly after?: LetterPosition | undefined
}

/** The latest first. Index: wake_notifications_dead. */
export async function listDeadLetters(queryable: Queryable, page: LetterPage): Promise<Portion<DeadLetter>> {
  const { visibility, limit, maxBytes, after } = page
  const owner = visibility.sees === 'own' ? visibility.owner : null
  const { rows } = await queryable.query(sql`
    SELECT *
      FROM (SELECT f.*, sum(weight) OVER (ORDER BY resolved_at DESC, wake_id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM (SELECT n.wake_id, n.subscription_id, n.generation, n.entity_url, n.target_type, n.target_runner_id, n.target_webhook_url,
                           n.runner_wake_stream, n.last_error, n.attempts, n.acked_before, n.created_at, n.resolved_at,
                           (extract(epoch FROM n.resolved_at) * 1000000)::int8 AS failed_us,
                           coalesce(pg_column_size(n.acked_before), 0)
                           * CASE WHEN pg_column_compression(n.acked_before) IS NULL THEN 1 ELSE 100 END::float8 AS weight
                      FROM wake_notifications n
                     WHERE n.tenant_id = ${queryable.tenant} AND n.delivery_status = 'failed'
                       AND (${after?.failed_us ?? null}::int8 IS NULL
                            OR (n.resolved_at, n.wake_id) < ('epoch'::timestamptz + ${after?.failed_us ?? null}::int8 * interval '1 microsecond', ${after?.wake_id ?? null}::text COLLATE "C"))
                       AND (${visibility.sees === 'all'}
                            OR EXISTS (SELECT FROM entities e WHERE e.tenant_id = n.tenant_id AND e.url = n.entity_url AND e.created_by = ${owner})
                            OR EXISTS (SELECT FROM subscriptions s WHERE s.tenant_id = n.tenant_id AND s.id = n.subscription_id AND s.created_by = ${owner}))
                     ORDER BY n.resolved_at DESC, n.wake_id DESC
                     LIMIT ${limit}) f) w
     WHERE before IS NULL OR before < ${maxBytes}::float8
     ORDER BY resolved_at DESC, wake_id DESC`)
  return portionOf(rows, maxBytes, (row) => letterRow.parse(row))
}

export async function findDeadLetter(
  queryable: Queryable,
  wakeId: string,
): Promise<Pick<DeadLetter, 'subscription_id' | 'entity_url'> | null> {
  const { rows } = await queryable.query(sql`
    SELECT subscription_id, entity_url FROM wake_notifications
     WHERE tenant_id = ${queryable.tenant} AND wake_id = ${wakeId} AND delivery_status = 'failed'`)
  const [row] = rows
  return row === undefined ? null : letterRow.pick({ subscription_id: true, entity_url: true }).parse(row)
}

/** Ends a dead letter's being one. What had been acked before it; null: it is none (any more). */
export async function resolveDeadLetter(queryable: Queryable, wakeId: string): Promise<Readonly<Record<string, string>> | null> {
  const { rows } = await queryable.query(sql`
    UPDATE wake_notifications SET delivery_status = 'superseded', resolved_at = now()
     WHERE tenant_id = ${queryable.tenant} AND wake_id = ${wakeId} AND delivery_status = 'failed'
    RETURNING acked_before`)
  const [row] = rows
  return row === undefined ? null : (letterRow.pick({ acked_before: true }).parse(row).acked_before ?? {})
}

/** Sets links of a locked subscription back to where they were, where they have moved on since. */
export async function setBack(tx: Transaction, subscriptionId: string, ackedBefore: Readonly<Record<string, string>>): Promise<void> {
  const paths = Object.keys(ackedBefore)
  if (paths.length === 0) return
  await tx.query(sql`
    UPDATE subscription_links l SET acked = i.acked
      FROM unnest(${paths}::text[], ${Object.values(ackedBefore)}::text[]) AS i (path, acked)
     WHERE l.tenant_id = ${tx.tenant} AND l.subscription_id = ${subscriptionId} AND l.path = i.path COLLATE "C"
       AND l.acked <> ${nothingAcked} AND (i.acked = ${nothingAcked} OR l.acked > i.acked COLLATE "C")`)
}
