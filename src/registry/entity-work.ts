/**
 * Which entities are in the hands of a handler, and what their status says of it (spec/06 §11, spec/05 §6).
 *
 * A handler has a wake while its lease runs, and before that while its webhook is called: until the call fails, or its limit is over. What is announced to
 * a runner is in nobody's hands until it is claimed.
 */
import type { EntityUrl } from '../domain/ids.js'
import { keyed, type Queryable, sql, type Transaction } from './database.js'
import { wakeWaiters } from './waiters.js'

/** Whether a wake of this entity is in its handler's hands. */
export const isWorkedOn = async (tx: Transaction, url: EntityUrl): Promise<boolean> => (await workedOn(tx, [url])).has(url)

/** Which of these entities are in the hands of a handler. */
export async function workedOn(queryable: Queryable, urls: readonly EntityUrl[]): Promise<ReadonlySet<string>> {
  const { rows } = await queryable.query(sql`
    SELECT DISTINCT wake_entity_url AS url FROM subscriptions
     WHERE tenant_id = ${queryable.tenant} AND wake_entity_url = ANY (${urls})
       AND (lease_until IS NOT NULL OR called_until > clock_timestamp())`)
  return new Set(rows.map((row) => String(row.url)))
}

/** Moves entities that wait to `running`; whoever is paused, stopping or ended stays so. The caller has locked them. */
export async function setRunning(tx: Transaction, urls: readonly EntityUrl[], atMs: number): Promise<void> {
  if (urls.length === 0) return
  await tx.query(keyed`
    UPDATE entities e SET status = 'running', updated_at = ${atMs}
      FROM (SELECT k.ctid AS at
              FROM unnest(${urls}::text[]) AS i (url)
             CROSS JOIN LATERAL (SELECT ctid, status FROM entities WHERE tenant_id = ${tx.tenant} AND url = i.url COLLATE "C" OFFSET 0) k
             WHERE k.status IN ('idle', 'spawning')) i
     WHERE e.ctid = i.at`)
}

/**
 * Moves entities that nobody works on any more back to `idle`: no lease of theirs runs, and no handler is called. The other statuses stay. Who waits for
 * them is told. The caller has locked them.
 */
export async function setIdle(tx: Transaction, urls: readonly EntityUrl[], atMs: number): Promise<void> {
  if (urls.length === 0) return
  const changed = tx.query(keyed`
    UPDATE entities e SET status = 'idle', updated_at = ${atMs}
      FROM (SELECT k.ctid AS at
              FROM unnest(${urls}::text[]) AS i (url)
             CROSS JOIN LATERAL (SELECT ctid, status FROM entities WHERE tenant_id = ${tx.tenant} AND url = i.url COLLATE "C" OFFSET 0) k
             WHERE k.status IN ('running', 'spawning')
               AND NOT EXISTS (SELECT FROM (SELECT lease_until, called_until FROM subscriptions
                                             WHERE tenant_id = ${tx.tenant} AND wake_entity_url = i.url COLLATE "C" OFFSET 0) s
                                WHERE s.lease_until IS NOT NULL OR s.called_until > clock_timestamp() OFFSET 0)) i
     WHERE e.ctid = i.at`)
  await Promise.all([changed, wakeWaiters(tx, urls)]) // in this order (database.ts D7, waiters.ts W2)
}

/** Entities that are to stop, and that nobody works on, or for longer than `overdueMs`; oldest first. */
export async function unfinishedStops(
  queryable: Queryable,
  overdueMs: number,
  limit: number,
): Promise<{ readonly url: EntityUrl; readonly isOverdue: boolean }[]> {
  const { rows } = await queryable.query(sql`
    SELECT e.url, e.updated_at < extract(epoch FROM now()) * 1000 - ${overdueMs}::int8 AS is_overdue
      FROM entities e
     WHERE e.tenant_id || '' = ${queryable.tenant} AND e.status = 'stopping'
       AND (e.updated_at < extract(epoch FROM now()) * 1000 - ${overdueMs}::int8
            OR NOT EXISTS (SELECT FROM subscriptions s
                            WHERE s.tenant_id = e.tenant_id AND s.wake_entity_url = e.url
                              AND (s.lease_until IS NOT NULL OR s.called_until > clock_timestamp())))
     ORDER BY e.updated_at, e.url
     LIMIT ${limit}`)
  return rows.map((row) => ({ url: row.url as EntityUrl, isOverdue: row.is_overdue === true }))
}
