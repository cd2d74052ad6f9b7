/** Rows that a spawn makes: one statement per table for the whole batch. */
import type { Entity } from '../domain/entity.js'
import type { EntityUrl, OperationId } from '../domain/ids.js'
import { tagsIndex } from '../domain/tags.js'
import { keyed, type Queryable, sql, type Transaction } from './database.js'

export interface NewEntity extends Entity {
  /** Set while its stream is still to be made on a foreign stream server: nobody sees the row until `activate`. */
  readonly reserved_by: OperationId | null
}

/**
 * Inserts what is free, with its lineage: each entity is its own ancestor at depth 0, and inherits its parent's ancestors (spec/12 §7.1). A URL that exists
 * is left alone, and absent from the answer. `unlessDone`: nothing is inserted where this operation, whose turn it is, has an outcome already.
 */
export async function insertEntities(
  tx: Transaction,
  entities: readonly NewEntity[],
  { unlessDone = null }: { readonly unlessDone?: OperationId | null } = {},
): Promise<ReadonlySet<string>> {
  const { rows } = await tx.query(keyed`
    WITH spawned AS (
      INSERT INTO entities (tenant_id, url, type, status, dispatch_policy, tags, tags_index, spawn_args, sandbox, parent, created_by,
                            type_revision, inbox_schemas, state_schemas, created_at, updated_at, reserved_by)
      SELECT ${tx.tenant}, i.url, i.type, i.status, i.dispatch_policy, i.tags, i.tags_index, i.spawn_args, i.sandbox, i.parent, i.created_by,
             t.revision, t.inbox_schemas, t.state_schemas, i.created_at, i.updated_at, i.reserved_by
        FROM jsonb_to_recordset(${JSON.stringify(entities.map(withTagsIndex))}::jsonb)
          AS i (url text, type text, status text, dispatch_policy jsonb, tags jsonb, tags_index text[], spawn_args jsonb, sandbox jsonb, parent text,
                created_by text, created_at int8, updated_at int8, reserved_by text)
        LEFT JOIN LATERAL (SELECT revision, inbox_schemas, state_schemas FROM entity_types
                            WHERE tenant_id = ${tx.tenant} AND name = i.type COLLATE "C" OFFSET 0) t ON true
       WHERE NOT EXISTS (SELECT FROM operations WHERE tenant_id = ${tx.tenant} AND id = ${unlessDone})
       ORDER BY i.url COLLATE "C"
          ON CONFLICT (tenant_id, url) DO NOTHING
      RETURNING url, parent
    ), descended AS (
      INSERT INTO lineage (tenant_id, ancestor_url, descendant_url, depth)
      SELECT ${tx.tenant}::text, s.url, s.url, 0 FROM spawned s
       UNION ALL
      SELECT ${tx.tenant}::text, l.ancestor_url, s.url, l.depth + 1
        FROM spawned s
       CROSS JOIN LATERAL (SELECT tenant_id, ancestor_url, depth FROM lineage WHERE descendant_url = s.parent COLLATE "C" OFFSET 0) l
       WHERE l.tenant_id = ${tx.tenant}::text
    )
    SELECT url FROM spawned`)
  return new Set(rows.map((row) => String(row.url)))
}

/** Schemas and revision are copied from the type's row by the statement: they may be large, and belong to one revision. */
const copied: ReadonlySet<string> = new Set(['type_revision', 'inbox_schemas', 'state_schemas'])

/** JSON null would become the jsonb value `null`, not SQL's: absent members do. */
function withTagsIndex(entity: NewEntity): object {
  const present = Object.entries(entity).filter(([member, value]) => value !== null && !copied.has(member))
  return { ...Object.fromEntries(present), tags_index: tagsIndex(entity.tags) }
}

/** Removes rows that this transaction inserted and could not complete; lineage goes with them. */
export async function removeEntities(tx: Transaction, urls: readonly EntityUrl[]): Promise<void> {
  await tx.query(sql`DELETE FROM entities WHERE tenant_id = ${tx.tenant} AND url = ANY (${urls})`)
}

export async function insertUsers(tx: Transaction, ids: readonly string[]): Promise<void> {
  await tx.query(keyed`
    INSERT INTO users (tenant_id, id) SELECT ${tx.tenant}, i.id FROM unnest(${ids}::text[]) AS i (id) ORDER BY i.id ON CONFLICT DO NOTHING`)
}

/** Who holds these URLs without having finished. */
export async function findReservations(queryable: Queryable, urls: readonly EntityUrl[]): Promise<ReadonlyMap<string, OperationId>> {
  const { rows } = await queryable.query(sql`
    SELECT url, reserved_by FROM entities WHERE tenant_id = ${queryable.tenant} AND url = ANY (${urls}) AND reserved_by IS NOT NULL`)
  return new Map(rows.map((row) => [String(row.url), row.reserved_by as OperationId]))
}

/** The URLs that operation `id` reserved. */
export async function reservedBy(queryable: Queryable, id: OperationId): Promise<EntityUrl[]> {
  const { rows } = await queryable.query(sql`
    SELECT url FROM entities WHERE tenant_id = ${queryable.tenant} AND reserved_by = ${id} ORDER BY url`)
  return rows.map((row) => row.url as EntityUrl)
}

/** Whether any of these operations holds a reservation. */
export async function reservedByAny(queryable: Queryable, ids: readonly OperationId[]): Promise<boolean> {
  const { rows } = await queryable.query(sql`
    SELECT FROM entities WHERE tenant_id = ${queryable.tenant} AND reserved_by = ANY (${ids}) LIMIT 1`)
  return rows.length > 0
}

/** When operation `id` reserved its entity (ms), or null where nothing is reserved by it. */
export async function reservedSince(queryable: Queryable, id: OperationId): Promise<number | null> {
  const { rows } = await queryable.query(sql`
    SELECT min(created_at) AS since FROM entities WHERE tenant_id = ${queryable.tenant} AND reserved_by = ${id}`)
  return (rows[0]?.since as number | null | undefined) ?? null
}

/** Makes reserved entities exist for everybody, at once. Which of them were still reserved. */
export async function activateEntities(tx: Transaction, id: OperationId, urls: readonly EntityUrl[]): Promise<ReadonlySet<string>> {
  const { rows } = await tx.query(sql`
    UPDATE entities SET reserved_by = NULL
     WHERE tenant_id = ${tx.tenant} AND reserved_by = ${id} AND url = ANY (${urls})
    RETURNING url`)
  return new Set(rows.map((row) => String(row.url)))
}

/** Gives up what operation `id` reserved. */
export async function dropReservations(queryable: Queryable, id: OperationId): Promise<void> {
  await queryable.query(sql`DELETE FROM entities WHERE tenant_id = ${queryable.tenant} AND reserved_by = ${id}`)
}

/** Operations whose reservations are older than `olderThanMs`, oldest first: their workflow was ended by force. */
export async function abandonedReservations(queryable: Queryable, olderThanMs: number, limit: number): Promise<OperationId[]> {
  const { rows } = await queryable.query(sql`
    SELECT reserved_by FROM entities
     WHERE tenant_id = ${queryable.tenant} AND reserved_by IS NOT NULL
       AND created_at < (extract(epoch FROM now()) * 1000)::int8 - ${olderThanMs}
     GROUP BY reserved_by
     ORDER BY min(created_at), reserved_by
     LIMIT ${limit}`)
  return rows.map((row) => row.reserved_by as OperationId)
}
