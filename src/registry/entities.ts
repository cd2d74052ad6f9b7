/** Reading entities. A row that is still reserved for a stream to be made does not exist here (`reserved_by`). */
import { z } from 'zod'
import type {
  DispatchPolicy,
  Entity,
  EntityStatus,
  JsonObject,
  SandboxSelection,
  SchemaMap,
  Tags,
  WritableCollections,
} from '../domain/entity.js'
import { entityStatuses } from '../domain/entity.js'
import type { EffectiveSchemas } from '../domain/entity-types.js'
import { effectiveSchemas } from '../domain/entity-types.js'
import { type EntityUrl, mainStream, type PrincipalUrl } from '../domain/ids.js'
import type { Visibility } from '../domain/principals.js'
import { keyed, type Queryable, type Row, sql, type Transaction } from './database.js'
import { onlyPortion, type Portion, portionOf, portionsFrom } from './portions.js'

/** An entity without the schema copies, which only few callers need and which can be large. */
export type EntityHead = Omit<Entity, 'inbox_schemas' | 'state_schemas'>

/** What the type of the entity has now, beside it: one look-up answers a `GET`. */
export interface FoundEntity extends EntityHead {
  readonly writable_collections: WritableCollections | null
  readonly default_dispatch_policy: DispatchPolicy | null
}

/** JSON trees are what the house itself has stored: their shape was checked then, and is not walked again on each read. */
const tree = <Tree>() => z.unknown() as unknown as z.ZodType<Tree>
const head = {
  url: tree<EntityUrl>(),
  type: z.string(),
  status: z.enum(entityStatuses),
  dispatch_policy: tree<DispatchPolicy | null>(),
  tags: tree<Tags>(),
  spawn_args: tree<JsonObject>(),
  sandbox: tree<SandboxSelection | null>(),
  parent: tree<EntityUrl | null>(),
  created_by: tree<PrincipalUrl | null>(),
  type_revision: z.number().nullable(),
  created_at: z.number(),
  updated_at: z.number(),
}
const headRow: z.ZodType<EntityHead> = z.object(head)
const foundRow: z.ZodType<FoundEntity> = z.object({
  ...head,
  writable_collections: tree<WritableCollections | null>(),
  default_dispatch_policy: tree<DispatchPolicy | null>(),
})
const byUrl = <Found extends { readonly url: EntityUrl }>(rows: readonly Row[], row: z.ZodType<Found>): ReadonlyMap<string, Found> =>
  new Map(rows.map((raw) => row.parse(raw)).map((found) => [found.url, found]))

/** These entities as a reader sees them. */
export async function findEntityHeads(queryable: Queryable, urls: readonly string[]): Promise<ReadonlyMap<string, FoundEntity>> {
  const { rows } = await queryable.query(keyed`
    SELECT e.url, e.type, e.status, e.dispatch_policy, e.tags, e.spawn_args, e.sandbox, e.parent, e.created_by, e.type_revision,
           e.created_at, e.updated_at, t.externally_writable_collections AS writable_collections, t.default_dispatch_policy
      FROM unnest(${urls}::text[]) AS i (url)
     CROSS JOIN LATERAL (SELECT * FROM entities WHERE tenant_id = ${queryable.tenant} AND url = i.url COLLATE "C" AND reserved_by IS NULL OFFSET 0) e
      LEFT JOIN LATERAL (SELECT * FROM entity_types WHERE tenant_id = ${queryable.tenant} AND name = e.type OFFSET 0) t ON true`)
  return byUrl(rows, foundRow)
}

/**
 * Where the wakes of the entity at `url` should go although it has no subscription of its own; null where it has one, has no policy, or has ended.
 * Locks an entity that has lost its subscription, so that it cannot end meanwhile: to be called before streams and subscriptions are locked.
 */
export async function lostDispatchPolicy(tx: Transaction, url: EntityUrl): Promise<DispatchPolicy | null> {
  const { rows } = await tx.query(sql`
    SELECT e.dispatch_policy FROM entities e
     WHERE e.tenant_id = ${tx.tenant} AND e.url = ${url} AND e.reserved_by IS NULL AND e.dispatch_policy IS NOT NULL
       AND e.status NOT IN ('stopped', 'killed')
       AND NOT EXISTS (SELECT FROM subscription_links l JOIN subscriptions s ON s.tenant_id = l.tenant_id AND s.id = l.subscription_id
                        WHERE l.tenant_id = e.tenant_id AND l.path = ${mainStream(url)} AND s.entity_url = e.url)
       FOR NO KEY UPDATE OF e`)
  return (rows[0]?.dispatch_policy as DispatchPolicy | undefined) ?? null // stored as it was checked
}

/** Gives an entity without a policy one; whoever has one keeps it. */
export async function setDispatchPolicy(queryable: Queryable, url: EntityUrl, policy: DispatchPolicy, atMs: number): Promise<void> {
  await queryable.query(sql`
    UPDATE entities SET dispatch_policy = ${JSON.stringify(policy)}::jsonb, updated_at = ${atMs}
     WHERE tenant_id = ${queryable.tenant} AND url = ${url} AND dispatch_policy IS NULL`)
}

const schemasRow = z.object({
  url: tree<EntityUrl>(),
  inbox_schemas: tree<SchemaMap | null>(),
  state_schemas: tree<SchemaMap | null>(),
  type_inbox_schemas: tree<SchemaMap | null>(),
  type_state_schemas: tree<SchemaMap | null>(),
})

/** The effective schemas of these entities (spec/01 §5.3). */
export async function findEffectiveSchemas(queryable: Queryable, urls: readonly string[]): Promise<ReadonlyMap<string, EffectiveSchemas>> {
  const { rows } = await queryable.query(keyed`
    SELECT e.url, e.inbox_schemas, e.state_schemas, t.inbox_schemas AS type_inbox_schemas, t.state_schemas AS type_state_schemas
      FROM unnest(${urls}::text[]) AS i (url)
     CROSS JOIN LATERAL (SELECT * FROM entities WHERE tenant_id = ${queryable.tenant} AND url = i.url COLLATE "C" AND reserved_by IS NULL OFFSET 0) e
      LEFT JOIN LATERAL (SELECT * FROM entity_types WHERE tenant_id = ${queryable.tenant} AND name = e.type OFFSET 0) t ON true`)
  return new Map(
    rows.map((raw) => {
      const row = schemasRow.parse(raw)
      const type = { inbox_schemas: row.type_inbox_schemas, state_schemas: row.type_state_schemas }
      return [row.url, effectiveSchemas(row, type)]
    }),
  )
}

export interface EntityFilter {
  readonly type?: string
  readonly status?: EntityStatus | (string & {})
  readonly parent?: string
  readonly created_by?: string
  readonly limit: number
  /** The last entity of the page before. */
  readonly after?: EntityPosition | undefined
  /** The last entity of this page. */
  readonly until?: EntityPosition | undefined
}

export interface EntityPosition {
  readonly created_at: number
  readonly url: string
}

export interface EntityList {
  readonly portions: AsyncGenerator<readonly EntityHead[]>
  /** Where the list ends before its end: it has as many entities as were asked for. */
  readonly last: EntityPosition | undefined
}

/**
 * Entities that match all members of `filter`, newest first, then by URL. Indexes of a list have the tenant as an expression (0016-keys-alone.sql).
 * A list of several portions knows its last entity from the beginning, and keeps to it: an entity that comes meanwhile pushes none behind the cursor.
 */
export async function listEntities(
  queryable: Queryable,
  filter: EntityFilter,
  visibility: Visibility,
  maxBytes: number,
): Promise<EntityList> {
  const first = await readPortion(queryable, filter, visibility, maxBytes)
  if (first.rows.length === filter.limit) return { portions: onlyPortion(first), last: first.rows.at(-1) }
  if (!first.isFull) return { portions: onlyPortion(first), last: undefined }
  const last = await findLast(queryable, filter, visibility)
  const atMost = last === undefined ? filter.limit : Number.POSITIVE_INFINITY
  const read = async (after: EntityPosition, limit: number) =>
    await readPortion(queryable, { ...filter, after, until: last, limit }, visibility, maxBytes)
  return { portions: portionsFrom(first, atMost, read), last }
}

async function readPortion(
  queryable: Queryable,
  filter: EntityFilter,
  visibility: Visibility,
  maxBytes: number,
): Promise<Portion<EntityHead>> {
  const owner = visibility.sees === 'own' ? visibility.owner : null
  const { rows } = await queryable.query(sql`
    SELECT url, type, status, dispatch_policy, tags, spawn_args, sandbox, parent, created_by, type_revision, created_at, updated_at, weight
      FROM (SELECT f.*, sum(weight) OVER (ORDER BY created_at DESC, url ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM (SELECT url, type, status, dispatch_policy, tags, spawn_args, sandbox, parent, created_by, type_revision, created_at, updated_at,
                           (pg_column_size(spawn_args) + pg_column_size(tags) + coalesce(pg_column_size(dispatch_policy), 0)
                            + coalesce(pg_column_size(sandbox), 0))
                           * CASE WHEN coalesce(pg_column_compression(spawn_args), pg_column_compression(tags),
                                                pg_column_compression(dispatch_policy), pg_column_compression(sandbox)) IS NULL THEN 1 ELSE 100 END::float8 AS weight
                      FROM entities
                     WHERE tenant_id || '' = ${queryable.tenant} AND reserved_by IS NULL
                       AND (${filter.type ?? null}::text IS NULL OR type = ${filter.type ?? null})
                       AND (${filter.status ?? null}::text IS NULL OR status = ${filter.status ?? null})
                       AND (${filter.parent ?? null}::text IS NULL OR parent = ${filter.parent ?? null})
                       AND (${filter.created_by ?? null}::text IS NULL OR created_by = ${filter.created_by ?? null})
                       AND (${visibility.sees === 'all'} OR created_by = ${owner})
                       AND (${filter.after?.created_at ?? null}::int8 IS NULL OR created_at <= ${filter.after?.created_at ?? null}) -- where the index scan begins
                       AND (${filter.after?.created_at ?? null}::int8 IS NULL OR created_at < ${filter.after?.created_at ?? null}
                            OR (created_at = ${filter.after?.created_at ?? null} AND url > ${filter.after?.url ?? null}))
                       AND (${filter.until?.created_at ?? null}::int8 IS NULL OR created_at > ${filter.until?.created_at ?? null}
                            OR (created_at = ${filter.until?.created_at ?? null} AND url <= ${filter.until?.url ?? null}))
                     ORDER BY created_at DESC, url
                     LIMIT ${filter.limit}) f) w
     WHERE before IS NULL OR before < ${maxBytes}::float8
     ORDER BY created_at DESC, url`)
  return portionOf(rows, maxBytes, (row) => headRow.parse(row))
}

const positionRow: z.ZodType<EntityPosition> = z.object({ created_at: z.number(), url: z.string() })

/** The last one of as many as `filter` asks for. */
async function findLast(queryable: Queryable, filter: EntityFilter, visibility: Visibility): Promise<EntityPosition | undefined> {
  const owner = visibility.sees === 'own' ? visibility.owner : null
  const { rows } = await queryable.query(sql`
    SELECT created_at, url
      FROM entities
     WHERE tenant_id || '' = ${queryable.tenant} AND reserved_by IS NULL
       AND (${filter.type ?? null}::text IS NULL OR type = ${filter.type ?? null})
       AND (${filter.status ?? null}::text IS NULL OR status = ${filter.status ?? null})
       AND (${filter.parent ?? null}::text IS NULL OR parent = ${filter.parent ?? null})
       AND (${filter.created_by ?? null}::text IS NULL OR created_by = ${filter.created_by ?? null})
       AND (${visibility.sees === 'all'} OR created_by = ${owner})
       AND (${filter.after?.created_at ?? null}::int8 IS NULL OR created_at < ${filter.after?.created_at ?? null}
            OR (created_at = ${filter.after?.created_at ?? null} AND url > ${filter.after?.url ?? null}))
     ORDER BY created_at DESC, url
    OFFSET ${filter.limit - 1} LIMIT 1`)
  return rows[0] === undefined ? undefined : positionRow.parse(rows[0])
}
