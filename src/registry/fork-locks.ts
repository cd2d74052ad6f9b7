/** With a foreign stream server: entities that are being copied, whose attachments must stay until the copies stand (spec/04 §13). */
import type { EntityUrl, OperationId } from '../domain/ids.js'
import { type Queryable, sql, type Transaction } from './database.js'

/** Locks are counted by their owners: forks may overlap. They end with their deadline, whatever became of the fork. */
export async function lockForFork(tx: Transaction, urls: readonly EntityUrl[], owner: OperationId, forMs: number): Promise<void> {
  await tx.query(sql`
    INSERT INTO fork_locks (tenant_id, url, operation_id, reason, deadline)
    SELECT ${tx.tenant}, i.url, ${owner}, 'its streams are being forked', now() + make_interval(secs => ${forMs / 1_000})
      FROM unnest(${urls}::text[]) AS i (url)
     ORDER BY i.url COLLATE "C"
        ON CONFLICT (tenant_id, url, operation_id) DO UPDATE SET deadline = excluded.deadline`)
}

export async function unlockFork(queryable: Queryable, owners: readonly OperationId[]): Promise<void> {
  await queryable.query(sql`DELETE FROM fork_locks WHERE tenant_id = ${queryable.tenant} AND operation_id = ANY (${owners})`)
}

/** Whether a fork holds `url`; to be asked under the lock of the entity's row, which who locks for a fork shares. */
export async function isLockedForFork(tx: Transaction, url: EntityUrl): Promise<boolean> {
  const { rows } = await tx.query(sql`
    SELECT FROM fork_locks WHERE tenant_id = ${tx.tenant} AND url = ${url} AND deadline > now() LIMIT 1`)
  return rows.length > 0
}

export async function forgetLapsedForkLocks(queryable: Queryable): Promise<void> {
  await queryable.query(sql`DELETE FROM fork_locks WHERE tenant_id = ${queryable.tenant} AND deadline < now()`)
}
