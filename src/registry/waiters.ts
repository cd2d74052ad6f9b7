/**
 * Operations that wait for entities to come to rest, and the outbox by which they hear of it (design §3; temporal-notes §6).
 *
 * W1  Who waits looks at the rows under a lock that a status change needs too, and records in the same transaction what it saw in the way.
 * W2  Who changes a status does so first, and looks for waiters in a later statement of its transaction: one of the two sees the other.
 * W3  A signal is owed by a row that commits with the change, and told until Temporal has taken it: at least once, in no order. It says nothing;
 *     who hears it looks again.
 *
 * A crash anywhere leaves rows: the relay of any process, or `sweep`, goes on with them.
 */
import type { EntityUrl } from '../domain/ids.js'
import { keyed, type Queryable, sql, type Transaction } from './database.js'

/** Processes that relay signals listen here; the payload is the tenant. */
export const waitersChannel = 'agents_waiters'

/** W1. Replaces what this workflow waited for before. Afterwards, `forMs` from now, nobody waits. */
export async function recordWaiter(tx: Transaction, workflowId: string, urls: readonly EntityUrl[], forMs: number): Promise<void> {
  await forgetWaiter(tx, workflowId)
  await tx.query(sql`
    INSERT INTO waiters (tenant_id, url, workflow_id, deadline)
    SELECT ${tx.tenant}, i.url, ${workflowId}, now() + make_interval(secs => ${forMs / 1_000})
      FROM unnest(${urls}::text[]) AS i (url)
     ORDER BY i.url COLLATE "C"`)
}

export async function forgetWaiter(queryable: Queryable, workflowId: string): Promise<void> {
  await queryable.query(sql`DELETE FROM waiters WHERE tenant_id = ${queryable.tenant} AND workflow_id = ${workflowId}`)
}

/**
 * W2, W3. To be called by whoever has changed the status of these entities, in the same transaction, after the statement that did so. Whoever
 * waits for one of them will be told. Index: the primary key of `waiters`.
 */
export async function wakeWaiters(tx: Transaction, urls: readonly EntityUrl[]): Promise<void> {
  if (urls.length === 0) return
  await tx.query(keyed`
    WITH owed AS (
      INSERT INTO waiter_signals (tenant_id, workflow_id)
      SELECT DISTINCT w.tenant_id, w.workflow_id
        FROM unnest(${urls}::text[]) AS i (url)
       CROSS JOIN LATERAL (SELECT tenant_id, workflow_id FROM waiters WHERE tenant_id = ${tx.tenant} AND url = i.url COLLATE "C" OFFSET 0) w
      RETURNING tenant_id)
    SELECT pg_notify(${waitersChannel}, tenant_id) FROM owed LIMIT 1`)
}

export interface OwedSignals {
  readonly workflowId: string
  readonly ids: readonly number[]
}

/** Signals that are owed, by workflow; locked until the transaction ends. Replicas take different ones. */
export async function takeSignals(tx: Transaction, limit: number): Promise<OwedSignals[]> {
  const { rows } = await tx.query(sql`
    SELECT id, workflow_id FROM waiter_signals
     WHERE tenant_id = ${tx.tenant}
     ORDER BY id
     LIMIT ${limit}
       FOR UPDATE SKIP LOCKED`)
  const byWorkflow = new Map<string, number[]>()
  for (const row of rows) byWorkflow.set(String(row.workflow_id), [...(byWorkflow.get(String(row.workflow_id)) ?? []), row.id as number])
  return [...byWorkflow].map(([workflowId, ids]) => ({ workflowId, ids }))
}

export async function deleteSignals(tx: Transaction, ids: readonly number[]): Promise<void> {
  await tx.query(sql`DELETE FROM waiter_signals WHERE id = ANY (${ids}::int8[])`)
}

/** The safety net: waiters past their deadline go; waiters for entities that are at rest, or gone, are told once more. */
export async function sweepWaiters(tx: Transaction, limit: number): Promise<void> {
  await tx.query(sql`
    DELETE FROM waiters WHERE (tenant_id, url, workflow_id) IN
      (SELECT tenant_id, url, workflow_id FROM waiters WHERE tenant_id = ${tx.tenant} AND deadline < now() ORDER BY deadline LIMIT ${limit})`)
  await tx.query(sql`
    INSERT INTO waiter_signals (tenant_id, workflow_id)
    SELECT DISTINCT w.tenant_id, w.workflow_id
      FROM waiters w
      LEFT JOIN entities e ON e.tenant_id = w.tenant_id AND e.url = w.url
     WHERE w.tenant_id = ${tx.tenant} AND (e.status IS NULL OR e.status NOT IN ('spawning', 'running', 'stopping'))
     LIMIT ${limit}`)
  await tx.query(sql`
    SELECT pg_notify(${waitersChannel}, ${tx.tenant}) WHERE EXISTS (SELECT FROM waiter_signals WHERE tenant_id = ${tx.tenant})`)
}
