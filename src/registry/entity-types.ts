/** Entity types and who manages them. */
import { z } from 'zod'
import type { DispatchPolicy, EntityType, JsonSchema, SchemaMap, SlashCommand, WritableCollections } from '../domain/entity.js'
import type { TypeDefinition } from '../domain/entity-types.js'
import type { PrincipalUrl } from '../domain/ids.js'
import { keyed, type Queryable, type Row, sql, type Transaction } from './database.js'
import { type Portion, portionOf, portionsFrom } from './portions.js'

export interface RegisteredType {
  readonly type: EntityType
  /** Who may manage the type, and so spawn it. */
  readonly managers: readonly PrincipalUrl[]
}

/** Checked when it was registered; not walked again on each read. */
const tree = <Tree>() => z.unknown() as unknown as z.ZodType<Tree>
const typeRow: z.ZodType<EntityType> = z.object({
  name: z.string(),
  description: z.string(),
  creation_schema: tree<JsonSchema | null>(),
  inbox_schemas: tree<SchemaMap | null>(),
  state_schemas: tree<SchemaMap | null>(),
  slash_commands: tree<readonly SlashCommand[] | null>(),
  externally_writable_collections: tree<WritableCollections | null>(),
  serve_endpoint: z.string().nullable(),
  default_dispatch_policy: tree<DispatchPolicy | null>(),
  revision: z.number(),
  created_at: z.string(),
  updated_at: z.string(),
})
const managersRow = z.object({ managers: tree<readonly PrincipalUrl[]>() })

const registered = (row: Row): RegisteredType => ({ type: typeRow.parse(row), ...managersRow.parse(row) })

export async function findEntityTypes(queryable: Queryable, names: readonly string[]): Promise<ReadonlyMap<string, RegisteredType>> {
  const { rows } = await queryable.query(keyed`
    SELECT t.*, ARRAY(SELECT m.principal FROM entity_type_managers m WHERE m.tenant_id = ${queryable.tenant} AND m.entity_type = t.name) AS managers
      FROM unnest(${names}::text[]) AS i (name)
     CROSS JOIN LATERAL (SELECT * FROM entity_types WHERE tenant_id = ${queryable.tenant} AND name = i.name COLLATE "C" OFFSET 0) t`)
  return new Map(rows.map(registered).map((found) => [found.type.name, found]))
}

/** More than there are. */
const allTypes = 2 ** 31

/** All types, by name. */
export async function* listEntityTypes(queryable: Queryable, maxBytes: number): AsyncGenerator<readonly RegisteredType[]> {
  const first = await readPortion(queryable, maxBytes, null, allTypes)
  yield* portionsFrom(first, allTypes, async ({ type }, limit) => await readPortion(queryable, maxBytes, type.name, limit))
}

async function readPortion(queryable: Queryable, maxBytes: number, after: string | null, limit: number): Promise<Portion<RegisteredType>> {
  const { rows } = await queryable.query(sql`
    SELECT t.*, ARRAY(SELECT m.principal FROM entity_type_managers m WHERE m.tenant_id = t.tenant_id AND m.entity_type = t.name) AS managers
      FROM (SELECT f.*, sum(weight) OVER (ORDER BY name ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM (SELECT *,
                           (octet_length(description) + coalesce(pg_column_size(creation_schema), 0) + coalesce(pg_column_size(inbox_schemas), 0)
                            + coalesce(pg_column_size(state_schemas), 0) + coalesce(pg_column_size(slash_commands), 0)
                            + coalesce(pg_column_size(externally_writable_collections), 0) + coalesce(pg_column_size(default_dispatch_policy), 0))
                           * CASE WHEN coalesce(pg_column_compression(creation_schema), pg_column_compression(inbox_schemas),
                                                pg_column_compression(state_schemas), pg_column_compression(slash_commands),
                                                pg_column_compression(externally_writable_collections), pg_column_compression(default_dispatch_policy))
                                       IS NULL THEN 1 ELSE 100 END::float8 AS weight
                      FROM entity_types
                     WHERE tenant_id = ${queryable.tenant} AND (${after}::text IS NULL OR name > ${after}::text COLLATE "C")
                     ORDER BY name
                     LIMIT ${limit}::int8) f) t
     WHERE before IS NULL OR before < ${maxBytes}::float8
     ORDER BY t.name`)
  return portionOf(rows, maxBytes, registered)
}

/** Registrations and amendments of one name take turns until the transaction ends, also while the name is still free. */
export async function lockTypeName(tx: Transaction, name: string): Promise<void> {
  await tx.query(sql`SELECT pg_advisory_xact_lock(hashtextextended(${`${tx.tenant} ${name}`}, 11))`)
}

const json = (value: unknown): string | null => (value === null ? null : JSON.stringify(value))

/** Registers or fully replaces a type: `created_at` stays, `revision` counts up by one (spec/02 §2.4). */
export async function upsertEntityType(tx: Transaction, type: TypeDefinition, at: Date): Promise<EntityType> {
  const now = at.toISOString()
  const { rows } = await tx.query(sql`
    INSERT INTO entity_types AS t (tenant_id, name, description, creation_schema, inbox_schemas, state_schemas, slash_commands,
                                   externally_writable_collections, serve_endpoint, default_dispatch_policy, revision, created_at, updated_at)
    VALUES (${tx.tenant}, ${type.name}, ${type.description}, ${json(type.creation_schema)}::jsonb, ${json(type.inbox_schemas)}::jsonb,
            ${json(type.state_schemas)}::jsonb, ${json(type.slash_commands)}::jsonb, ${json(type.externally_writable_collections)}::jsonb,
            ${type.serve_endpoint}, ${json(type.default_dispatch_policy)}::jsonb, 1, ${now}, ${now})
        ON CONFLICT (tenant_id, name) DO UPDATE
       SET description = excluded.description, creation_schema = excluded.creation_schema, inbox_schemas = excluded.inbox_schemas,
           state_schemas = excluded.state_schemas, slash_commands = excluded.slash_commands,
           externally_writable_collections = excluded.externally_writable_collections, serve_endpoint = excluded.serve_endpoint,
           default_dispatch_policy = excluded.default_dispatch_policy, revision = t.revision + 1, updated_at = excluded.updated_at
    RETURNING *`)
  return typeRow.parse(rows[0])
}

/** Inserts the type unless it exists. */
export async function insertEntityType(queryable: Queryable, type: TypeDefinition, at: Date): Promise<void> {
  const now = at.toISOString()
  await queryable.query(sql`
    INSERT INTO entity_types (tenant_id, name, description, inbox_schemas, state_schemas, revision, created_at, updated_at)
    VALUES (${queryable.tenant}, ${type.name}, ${type.description}, ${json(type.inbox_schemas)}::jsonb, ${json(type.state_schemas)}::jsonb,
            1, ${now}, ${now})
        ON CONFLICT DO NOTHING`)
}

/** Replaces the schemas of a type and counts its revision up; everything else of it stays. */
export async function updateTypeSchemas(
  tx: Transaction,
  name: string,
  schemas: { readonly inbox_schemas: SchemaMap | null; readonly state_schemas: SchemaMap | null },
  at: Date,
): Promise<EntityType> {
  const { rows } = await tx.query(sql`
    UPDATE entity_types
       SET inbox_schemas = ${json(schemas.inbox_schemas)}::jsonb, state_schemas = ${json(schemas.state_schemas)}::jsonb,
           revision = revision + 1, updated_at = ${at.toISOString()}
     WHERE tenant_id = ${tx.tenant} AND name = ${name}
    RETURNING *`)
  return typeRow.parse(rows[0])
}

/** Whether the type existed. Its managers go with it. */
export async function deleteEntityType(tx: Queryable, name: string): Promise<boolean> {
  const { count } = await tx.query(sql`DELETE FROM entity_types WHERE tenant_id = ${tx.tenant} AND name = ${name}`)
  return count > 0
}

export async function addManager(tx: Transaction, type: string, principal: PrincipalUrl): Promise<void> {
  await tx.query(sql`
    INSERT INTO entity_type_managers (tenant_id, entity_type, principal) VALUES (${tx.tenant}, ${type}, ${principal}) ON CONFLICT DO NOTHING`)
}
