/** Status changes. No statement here ever leaves a terminal status (spec/01 §5.4). */
import type { EntityStatus } from '../domain/entity.js'
import type { EntityUrl, PrincipalUrl } from '../domain/ids.js'
import { keyed, type Queryable, sql, type Transaction } from './database.js'
import { wakeWaiters } from './waiters.js'

export interface EntityState {
  readonly url: EntityUrl
  readonly type: string
  readonly status: EntityStatus
  readonly created_by: PrincipalUrl | null
}

/** Locks these entities, in the order of their URLs, until the transaction ends. */
export async function lockEntities(tx: Transaction, urls: readonly EntityUrl[]): Promise<ReadonlyMap<string, EntityState>> {
  const { rows } = await tx.query(keyed`
    SELECT e.*
      FROM (SELECT url FROM unnest(${urls}::text[]) AS w (url) ORDER BY url COLLATE "C") i
     CROSS JOIN LATERAL (SELECT url, type, status, created_by FROM entities
                          WHERE tenant_id = ${tx.tenant} AND url = i.url COLLATE "C" AND reserved_by IS NULL OFFSET 0
                            FOR NO KEY UPDATE) e`)
  return new Map(rows.map((row) => [String(row.url), row as unknown as EntityState])) // columns as declared in 0001-registry.sql
}

/** The current status of these entities. */
export async function statusesOf(queryable: Queryable, urls: readonly EntityUrl[]): Promise<ReadonlyMap<string, EntityStatus>> {
  const { rows } = await queryable.query(keyed`
    SELECT e.url, e.status
      FROM unnest(${urls}::text[]) AS i (url)
     CROSS JOIN LATERAL (SELECT url, status FROM entities
                          WHERE tenant_id = ${queryable.tenant} AND url = i.url COLLATE "C" AND reserved_by IS NULL OFFSET 0) e`)
  return new Map(rows.map((row) => [String(row.url), row.status as EntityStatus]))
}

/** Moves each of these locked entities to its status and touches `updated_at`; terminal rows stay as they are. Who waits for one of them is told. */
export async function setStatuses(
  tx: Transaction,
  changes: readonly { readonly url: EntityUrl; readonly status: EntityStatus; readonly atMs: number }[],
): Promise<void> {
  await Promise.all([
    tx.query(keyed`
      UPDATE entities e SET status = i.status, updated_at = i.at_ms
        FROM (SELECT k.ctid AS at, c.*
                FROM unnest(${changes.map((c) => c.url)}::text[], ${changes.map((c) => c.status)}::text[], ${changes.map((c) => c.atMs)}::int8[]) AS c (url, status, at_ms)
               CROSS JOIN LATERAL (SELECT ctid FROM entities WHERE tenant_id = ${tx.tenant} AND url = c.url COLLATE "C" OFFSET 0) k) i
       WHERE e.ctid = i.at AND e.status NOT IN ('stopped', 'killed')`),
    wakeWaiters(
      tx,
      changes.map((change) => change.url),
    ),
  ]) // in this order (database.ts D7)
}

/** A message other than a paused one ends a pause (spec/03 §2.4). */
export async function resumePaused(tx: Transaction, urls: readonly EntityUrl[], atMs: number): Promise<void> {
  await Promise.all([
    tx.query(sql`
      WITH paused AS (
        SELECT url FROM entities
         WHERE tenant_id = ${tx.tenant} AND url = ANY (${urls}) AND status = 'paused'
         ORDER BY url
           FOR NO KEY UPDATE)
      UPDATE entities e SET status = 'idle', updated_at = ${atMs}
        FROM paused WHERE e.tenant_id = ${tx.tenant} AND e.url = paused.url`),
    wakeWaiters(tx, urls),
  ]) // in this order (database.ts D7)
}
