/** Append intents: "about to append to S" on a foreign stream server (design §4). */
import type { OperationId, StreamPath } from '../domain/ids.js'
import { type Queryable, sql, type Transaction } from './database.js'

export interface AppendIntent {
  /** Also the producer id of the append, which makes its repetition harmless. */
  readonly id: string
  readonly path: StreamPath
  readonly body: Buffer
  /** Whether the append closes the stream. */
  readonly closes: boolean
}

/** Owned by the writing process for `ownedMs`; afterwards `sweep` may carry them out. */
export async function insertIntents(tx: Transaction, intents: readonly AppendIntent[], ownedMs: number): Promise<void> {
  await tx.query(sql`
    INSERT INTO append_intents (tenant_id, id, path, body, closes, owned_until)
    SELECT ${tx.tenant}, i.id, i.path, i.body, i.closes, now() + make_interval(secs => ${ownedMs / 1_000})
      FROM unnest(${intents.map((i) => i.id)}::text[], ${intents.map((i) => i.path)}::text[], ${intents.map((i) => i.body)}::bytea[],
                  ${intents.map((i) => i.closes)}::boolean[]) AS i (id, path, body, closes)
     ORDER BY i.id COLLATE "C"`)
}

/**
 * The intents of an operation (their ids begin with its own), and those of other operations that come before them on the same streams:
 * who lands its own lands these first, so that events stand in the order of the row changes that they tell of.
 */
export async function intentsUpTo(queryable: Queryable, id: OperationId): Promise<AppendIntent[]> {
  const { rows } = await queryable.query(sql`
    SELECT i.id, i.path, i.body, i.closes FROM append_intents i
     WHERE i.tenant_id = ${queryable.tenant} AND strpos(i.id, '/') > 0
       AND EXISTS (SELECT FROM append_intents own
                    WHERE own.tenant_id = i.tenant_id AND own.id ^@ ${`${id}/`} AND own.path = i.path AND own.ord >= i.ord)
     ORDER BY i.ord`)
  return rows as unknown as AppendIntent[] // columns as declared in 0001-registry.sql
}

/** Takes over intents whose owner let them lapse, for `ownedMs`, oldest first. Replicas take different ones. */
export async function takeLapsedIntents(tx: Transaction, ownedMs: number, limit: number): Promise<AppendIntent[]> {
  const { rows } = await tx.query(sql`
    WITH lapsed AS (
      SELECT tenant_id, id FROM append_intents
       WHERE tenant_id = ${tx.tenant} AND owned_until < now()
       ORDER BY ord
       LIMIT ${limit}
         FOR UPDATE SKIP LOCKED), taken AS (
    UPDATE append_intents i SET owned_until = now() + make_interval(secs => ${ownedMs / 1_000})
      FROM lapsed WHERE i.tenant_id = lapsed.tenant_id AND i.id = lapsed.id
    RETURNING i.ord, i.id, i.path, i.body, i.closes)
    SELECT id, path, body, closes FROM taken ORDER BY ord`)
  return rows as unknown as AppendIntent[] // columns as declared in 0001-registry.sql
}

export async function deleteIntents(queryable: Queryable, ids: readonly string[]): Promise<void> {
  await queryable.query(sql`DELETE FROM append_intents WHERE tenant_id = ${queryable.tenant} AND id = ANY (${ids})`)
}
