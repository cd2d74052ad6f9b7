/** What a fork finds and makes in the registry: one statement per table for a whole batch. */
import { z } from 'zod'
import type { DispatchPolicy, EntityStatus, JsonObject, Tags } from '../domain/entity.js'
import { entityStatuses } from '../domain/entity.js'
import type { SnapshotRow } from '../domain/fork/remapping.js'
import { snapshotRow } from '../domain/fork/snapshot.js'
import type { EntityUrl, OperationId, PrincipalUrl } from '../domain/ids.js'
import type { SnapshotType } from '../domain/projection.js'
import { tagsIndex } from '../domain/tags.js'
import { keyed, type Queryable, type Row, type Transaction } from './database.js'

export interface SubtreeGlance {
  readonly entities: number
  readonly active: number
  /** Of the snapshots of its entities. */
  readonly rows: number
}

/** What is read of one subtree at most. */
export interface SubtreeBounds {
  readonly maxForkEntities: number
  readonly maxForkRows: number
}

/** How large subtrees are, and how many in each are at work; counted up to one beyond each bound. */
export async function subtreeGlances(
  queryable: Queryable,
  roots: readonly string[],
  { maxForkEntities, maxForkRows }: SubtreeBounds,
): Promise<ReadonlyMap<string, SubtreeGlance>> {
  const { rows } = await queryable.query(keyed`
    SELECT r.url, e.entities, e.active, p.rows
      FROM (SELECT DISTINCT url FROM unnest(${roots}::text[]) w (url)) r
     CROSS JOIN LATERAL (
       SELECT count(*) AS entities, count(*) FILTER (WHERE e.status IN ('spawning', 'running', 'stopping')) AS active
         FROM (SELECT descendant_url FROM lineage
                WHERE tenant_id = ${queryable.tenant} AND ancestor_url = r.url COLLATE "C" LIMIT ${maxForkEntities + 1}) l
        CROSS JOIN LATERAL (SELECT status FROM entities
                             WHERE tenant_id = ${queryable.tenant} AND url = l.descendant_url AND reserved_by IS NULL OFFSET 0) e) e
     CROSS JOIN LATERAL (
       SELECT count(*) AS rows
         FROM (SELECT
                 FROM (SELECT descendant_url FROM lineage
                        WHERE tenant_id = ${queryable.tenant} AND ancestor_url = r.url COLLATE "C" LIMIT ${maxForkEntities + 1}) l
                CROSS JOIN LATERAL (SELECT FROM projections
                                     WHERE tenant_id = ${queryable.tenant} AND entity_url = l.descendant_url
                                       AND type IN ('manifest', 'child_status', 'replay_watermark') OFFSET 0) p
                LIMIT ${maxForkRows + 1}) p) p
     WHERE e.entities > 0`)
  return new Map(rows.map(({ url, ...counts }) => [String(url), glance(counts)]))
}

const glance = ({ entities, active, rows }: Readonly<Record<string, unknown>>): SubtreeGlance => ({
  entities: Number(entities),
  active: Number(active),
  rows: Number(rows),
})

/** URLs of a subtree, its root included, at most `limit` + 1. */
export async function subtreeOf(queryable: Queryable, root: EntityUrl, limit: number): Promise<readonly EntityUrl[]> {
  const { rows } = await queryable.query(keyed`
    SELECT e.url
      FROM (SELECT descendant_url FROM lineage WHERE tenant_id = ${queryable.tenant} AND ancestor_url = ${root} OFFSET 0) l
     CROSS JOIN LATERAL (SELECT url FROM entities
                          WHERE tenant_id = ${queryable.tenant} AND url = l.descendant_url AND reserved_by IS NULL OFFSET 0) e
     LIMIT ${limit + 1}`)
  return rows.map((row) => row.url as EntityUrl)
}

/** A row that a fork copies, as far as the plan needs it; the rest is copied by the statement that makes the copy. */
export interface MemberRow {
  readonly url: EntityUrl
  readonly type: string
  readonly status: EntityStatus
  readonly parent: EntityUrl | null
  readonly tags: Tags
  readonly spawn_args: JsonObject
  readonly dispatch_policy: DispatchPolicy | null
  readonly created_at: number
}

/** JSON trees are what the house itself has stored: their shape was checked then. */
const tree = <Tree>() => z.unknown() as unknown as z.ZodType<Tree>
const memberRow: z.ZodType<MemberRow> = z.object({
  url: tree<EntityUrl>(),
  type: z.string(),
  status: z.enum(entityStatuses),
  parent: tree<EntityUrl | null>(),
  tags: tree<Tags>(),
  spawn_args: tree<JsonObject>(),
  dispatch_policy: tree<DispatchPolicy | null>(),
  created_at: z.number(),
})

/**
 * Everything below these roots, the roots included, and these single entities; locked until the transaction ends against changes of status,
 * in the order of their URLs. Forks share the lock.
 */
export async function shareSubtrees(tx: Transaction, roots: readonly EntityUrl[], single: readonly EntityUrl[]): Promise<MemberRow[]> {
  const { rows } = await tx.query(keyed`
    SELECT e.*
      FROM (SELECT w.url
              FROM (SELECT l.descendant_url AS url
                      FROM unnest(${roots}::text[]) AS i (root)
                     CROSS JOIN LATERAL (SELECT descendant_url FROM lineage
                                          WHERE tenant_id = ${tx.tenant} AND ancestor_url = i.root COLLATE "C" OFFSET 0) l
                     UNION
                    SELECT unnest(${single}::text[]) COLLATE "C") w
             ORDER BY w.url) w
     CROSS JOIN LATERAL (SELECT url, type, status, parent, tags, spawn_args, dispatch_policy, created_at FROM entities
                          WHERE tenant_id = ${tx.tenant} AND url = w.url AND reserved_by IS NULL OFFSET 0
                            FOR SHARE) e`)
  return rows.map((row) => memberRow.parse(row))
}

/** URLs below these roots, the roots included. */
export async function subtreeUrls(tx: Transaction, roots: readonly EntityUrl[]): Promise<ReadonlySet<string>> {
  const { rows } = await tx.query(keyed`
    SELECT e.url
      FROM unnest(${roots}::text[]) AS i (root)
     CROSS JOIN LATERAL (SELECT descendant_url FROM lineage WHERE tenant_id = ${tx.tenant} AND ancestor_url = i.root COLLATE "C" OFFSET 0) l
     CROSS JOIN LATERAL (SELECT url FROM entities WHERE tenant_id = ${tx.tenant} AND url = l.descendant_url AND reserved_by IS NULL OFFSET 0) e`)
  return new Set(rows.map((row) => String(row.url)))
}

/**
 * The snapshot of everything below these roots, as far as it has been drawn; rows in the order of their keys. Of each root at most one more than
 * `maxRows`, any of them.
 */
export async function snapshotsBelow(
  tx: Transaction,
  roots: readonly EntityUrl[],
  maxRows: number,
): Promise<ReadonlyMap<string, readonly SnapshotRow[]>> {
  const { rows } = await tx.query(keyed`
    SELECT p.entity_url, p.type, p.key, p.value
      FROM unnest(${roots}::text[]) AS i (root)
     CROSS JOIN LATERAL (
       SELECT p.*
         FROM (SELECT descendant_url FROM lineage WHERE tenant_id = ${tx.tenant} AND ancestor_url = i.root COLLATE "C" OFFSET 0) l
        CROSS JOIN LATERAL (SELECT entity_url, type, key, value FROM projections
                             WHERE tenant_id = ${tx.tenant} AND entity_url = l.descendant_url AND type IN ('manifest', 'child_status', 'replay_watermark')
                            OFFSET 0) p
        LIMIT ${maxRows + 1}) p
     ORDER BY p.entity_url, p.type, p.key`)
  const snapshots = new Map<string, SnapshotRow[]>()
  for (const [index, row] of rows.entries()) {
    if (index > 0 && isSameRow(row, rows[index - 1] as Row)) continue // below two of the roots
    const url = String(row.entity_url)
    const known = snapshots.get(url) ?? []
    known.push(snapshotRow(row.type as SnapshotType, String(row.key), String(row.value))) // columns as declared in 0001-registry.sql
    snapshots.set(url, known)
  }
  return snapshots
}

const isSameRow = (a: Row, b: Row): boolean => a.key === b.key && a.type === b.type && a.entity_url === b.entity_url

export interface NewCopy {
  readonly source: EntityUrl
  readonly url: EntityUrl
  readonly parent: EntityUrl | null
  readonly tags: Tags
  readonly spawn_args: JsonObject
  readonly created_by: PrincipalUrl
  readonly created_at: number
  /** Set while its stream is still to be made on a foreign stream server. */
  readonly reserved_by: OperationId | null
}

/** Inserts copies of rows that this transaction has locked, where their URLs are free. Which were. */
export async function insertCopies(tx: Transaction, copies: readonly NewCopy[]): Promise<ReadonlySet<string>> {
  const rows = copies.map((copy) => ({ ...copy, tags_index: tagsIndex(copy.tags) }))
  const { rows: inserted } = await tx.query(keyed`
    INSERT INTO entities (tenant_id, url, type, status, dispatch_policy, tags, tags_index, spawn_args, sandbox, parent, created_by,
                          type_revision, inbox_schemas, state_schemas, created_at, updated_at, reserved_by)
    SELECT e.tenant_id, i.url, e.type, 'idle', e.dispatch_policy, i.tags, i.tags_index, i.spawn_args, e.sandbox, i.parent, i.created_by,
           e.type_revision, e.inbox_schemas, e.state_schemas, i.created_at, i.created_at, i.reserved_by
      FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
        AS i (source text, url text, parent text, tags jsonb, tags_index text[], spawn_args jsonb, created_by text, created_at int8, reserved_by text)
     CROSS JOIN LATERAL (SELECT * FROM entities WHERE tenant_id = ${tx.tenant} AND url = i.source COLLATE "C" OFFSET 0) e
     ORDER BY i.url COLLATE "C"
        ON CONFLICT (tenant_id, url) DO NOTHING
    RETURNING url`)
  return new Set(inserted.map((row) => String(row.url)))
}

/** Who is below whom among copies, and below a parent outside of them (spec/12 §7.1). Parents come before their children. */
export async function insertCopiedLineage(
  tx: Transaction,
  copies: readonly { readonly url: EntityUrl; readonly parent: EntityUrl | null }[],
): Promise<void> {
  const { pairs, outside } = lineageOf(copies)
  await tx.query(keyed`
    INSERT INTO lineage (tenant_id, ancestor_url, descendant_url, depth)
    SELECT ${tx.tenant}, i.* FROM unnest(${pairs.map((p) => p.ancestor)}::text[], ${pairs.map((p) => p.descendant)}::text[], ${pairs.map((p) => p.depth)}::int4[]) AS i
     UNION ALL
    SELECT ${tx.tenant}, l.ancestor_url, o.descendant, l.depth + o.depth
      FROM unnest(${outside.map((p) => p.ancestor)}::text[], ${outside.map((p) => p.descendant)}::text[], ${outside.map((p) => p.depth)}::int4[])
           AS o (ancestor, descendant, depth)
     CROSS JOIN LATERAL (SELECT tenant_id, ancestor_url, depth FROM lineage WHERE descendant_url = o.ancestor COLLATE "C" OFFSET 0) l
     WHERE l.tenant_id = ${tx.tenant}`)
}

interface Pair {
  readonly ancestor: string
  readonly descendant: string
  readonly depth: number
}

/** Pairs among the copies; and, for a parent outside, how far below it each copy is. */
function lineageOf(copies: readonly { readonly url: EntityUrl; readonly parent: EntityUrl | null }[]) {
  const parents = new Map<string, EntityUrl | null>(copies.map(({ url, parent }) => [url, parent]))
  const pairs: Pair[] = []
  const outside: Pair[] = []
  for (const { url } of copies) {
    let depth = 0
    for (let ancestor: EntityUrl | null | undefined = url; ancestor; ancestor = parents.get(ancestor), depth += 1) {
      const pair = { ancestor, descendant: url, depth }
      if (parents.has(ancestor)) pairs.push(pair)
      else outside.push(pair)
    }
  }
  return { pairs, outside }
}
