/** Outcomes of operations, and payloads that wait for theirs. */
import type { OperationId } from '../domain/ids.js'
import { type Database, keyed, type Queryable, sql, type Transaction } from './database.js'

/** What operation `id` answered, or null while it has not been carried out. */
export async function findOutcome<Answer>(queryable: Queryable, id: OperationId): Promise<readonly Answer[] | null> {
  const { rows } = await queryable.query(keyed`
    SELECT verdicts FROM operations WHERE tenant_id = ${queryable.tenant} AND id = ${id}`)
  return (rows[0]?.verdicts as readonly Answer[] | undefined) ?? null // written by `recordOutcome` alone
}

/** Runs `body` in a transaction; attempts at one operation take turns. */
export const operationTransaction = async <Result>(
  database: Database,
  id: OperationId,
  body: (tx: Transaction) => Promise<Result>,
): Promise<Result> => await database.transaction(body, { lock: `operation ${id}` })

export async function recordOutcome<Answer>(tx: Transaction, id: OperationId, verdicts: readonly Answer[]): Promise<void> {
  await tx.query(keyed`
    INSERT INTO operations (tenant_id, id, verdicts) VALUES (${tx.tenant}, ${id}, ${storableJson(verdicts)}::jsonb)`)
}

/** A refusal may quote what jsonb cannot hold (U+0000, lone surrogates): its record shows U+FFFD there. */
const storableJson = (value: unknown): string =>
  JSON.stringify(value, (_, member: unknown) => (typeof member === 'string' ? member.toWellFormed().replaceAll('\0', '\ufffd') : member))

/** Attempts at these operations take turns until the transaction ends. */
export async function lockOperations(tx: Transaction, ids: readonly OperationId[]): Promise<void> {
  await tx.query(keyed`
    SELECT pg_advisory_xact_lock(i.key)
      FROM (SELECT DISTINCT hashtextextended(${`${tx.tenant} operation `} || id, 13) AS key FROM unnest(${ids}::text[]) AS w (id) ORDER BY 1) i`)
}

/** What these operations answered, as far as they have been carried out. */
export async function findOutcomes<Answer>(
  queryable: Queryable,
  ids: readonly OperationId[],
): Promise<ReadonlyMap<string, readonly Answer[]>> {
  const { rows } = await queryable.query(keyed`
    SELECT o.id, o.verdicts
      FROM unnest(${ids}::text[]) AS i (id)
     CROSS JOIN LATERAL (SELECT id, verdicts FROM operations WHERE tenant_id = ${queryable.tenant} AND id = i.id COLLATE "C" OFFSET 0) o`)
  return new Map(rows.map((row) => [String(row.id), row.verdicts as readonly Answer[]])) // written by `recordOutcomes` alone
}

export async function recordOutcomes<Answer>(
  tx: Transaction,
  outcomes: readonly { readonly id: OperationId; readonly verdicts: readonly Answer[] }[],
): Promise<void> {
  await tx.query(keyed`
    INSERT INTO operations (tenant_id, id, verdicts)
    SELECT ${tx.tenant}, i.id, i.verdicts::jsonb
      FROM unnest(${outcomes.map(({ id }) => id)}::text[], ${outcomes.map(({ verdicts }) => storableJson(verdicts))}::text[]) AS i (id, verdicts)
        ON CONFLICT DO NOTHING`)
}

export async function insertPayloads(tx: Queryable, payloads: readonly { readonly id: string; readonly payload: string }[]): Promise<void> {
  await tx.query(keyed`
    INSERT INTO operation_payloads (tenant_id, id, payload)
    SELECT ${tx.tenant}, i.id, i.payload
      FROM unnest(${payloads.map((p) => p.id)}::text[], ${payloads.map((p) => p.payload)}::text[]) AS i (id, payload)
        ON CONFLICT DO NOTHING`)
}

/** Payloads that replace what an earlier attempt, which was undone, has left under their ids. */
export async function putPayloads(tx: Queryable, payloads: readonly { readonly id: string; readonly payload: string }[]): Promise<void> {
  await tx.query(keyed`
    INSERT INTO operation_payloads (tenant_id, id, payload)
    SELECT ${tx.tenant}, i.id, i.payload
      FROM unnest(${payloads.map((p) => p.id)}::text[], ${payloads.map((p) => p.payload)}::text[]) AS i (id, payload)
     ORDER BY i.id COLLATE "C"
        ON CONFLICT (tenant_id, id) DO UPDATE SET payload = excluded.payload, created_at = now()`)
}

/** The payloads of these ids, as the JSON text they were stored as. */
export async function findPayloads(queryable: Queryable, ids: readonly string[]): Promise<ReadonlyMap<string, string>> {
  if (ids.length === 0) return new Map()
  const { rows } = await queryable.query(keyed`
    SELECT p.id, p.payload
      FROM unnest(${ids}::text[]) AS i (id)
     CROSS JOIN LATERAL (SELECT id, payload FROM operation_payloads WHERE tenant_id = ${queryable.tenant} AND id = i.id COLLATE "C" OFFSET 0) p`)
  return new Map(rows.map((row) => [String(row.id), String(row.payload)]))
}

/** Forgets outcomes and payloads older than `keepS` seconds, at most `limit` of each. How many went. */
export async function forgetOperations(queryable: Queryable, keepS: number, limit: number): Promise<number> {
  const outcomes = await queryable.query(sql`
    DELETE FROM operations WHERE (tenant_id, id) IN
      (SELECT tenant_id, id FROM operations
        WHERE tenant_id = ${queryable.tenant} AND completed_at < now() - make_interval(secs => ${keepS})
        ORDER BY completed_at LIMIT ${limit})`)
  const payloads = await queryable.query(sql`
    DELETE FROM operation_payloads WHERE (tenant_id, id) IN
      (SELECT tenant_id, id FROM operation_payloads
        WHERE tenant_id = ${queryable.tenant} AND created_at < now() - make_interval(secs => ${keepS})
        ORDER BY created_at LIMIT ${limit})`)
  return outcomes.count + payloads.count
}
