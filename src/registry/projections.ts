/** The last value of every manifest, child-status and watermark row: what a fork needs without reading a history (design §4). */
import type { JsonObject } from '../domain/entity.js'
import type { EntityUrl, Offset, StreamPath } from '../domain/ids.js'
import type { ProjectionChange } from '../domain/projection.js'
import { keyed, type Queryable, sql, type Transaction } from './database.js'

export interface ProjectionRow extends ProjectionChange {
  readonly entity_url: EntityUrl
}

/** Applies the last row of each key; the caller hands over at most one row per (entity, type, key), and holds the streams that they come from. */
export async function project(tx: Transaction, rows: readonly ProjectionRow[]): Promise<void> {
  const kept = rows.filter((row) => row.value !== null)
  const removed = rows.filter((row) => row.value === null)
  const inserted =
    kept.length > 0 &&
    tx.query(keyed`
      INSERT INTO projections (tenant_id, entity_url, type, key, value, entry)
      SELECT ${tx.tenant}, i.* FROM unnest(${kept.map((r) => r.entity_url)}::text[], ${kept.map((r) => r.type)}::text[], ${kept.map((r) => r.key)}::text[],
                                           ${kept.map((r) => r.value)}::text[], ${kept.map((r) => r.entry)}::text[]) AS i
          ON CONFLICT (tenant_id, entity_url, type, key) DO UPDATE SET value = excluded.value, entry = excluded.entry`)
  const deleted =
    removed.length > 0 &&
    tx.query(keyed`
      DELETE FROM projections p
       USING (SELECT k.ctid AS at
                FROM unnest(${removed.map((r) => r.entity_url)}::text[], ${removed.map((r) => r.type)}::text[], ${removed.map((r) => r.key)}::text[])
                     AS i (url, type, key)
               CROSS JOIN LATERAL (SELECT ctid FROM projections
                                    WHERE tenant_id = ${tx.tenant} AND entity_url = i.url COLLATE "C" AND type = i.type AND key = i.key COLLATE "C"
                                   OFFSET 0) k) i
       WHERE p.ctid = i.at`)
  await Promise.all([inserted, deleted])
}

/** The projected rows of an entity, by type and key. */
export async function projectionOf(queryable: Queryable, url: EntityUrl): Promise<ProjectionRow[]> {
  const { rows } = await queryable.query(sql`
    SELECT entity_url, type, key, value, entry FROM projections WHERE tenant_id = ${queryable.tenant} AND entity_url = ${url} ORDER BY type, key`)
  return rows as unknown as ProjectionRow[] // columns as declared in 0001-registry.sql
}

/** The projected manifest row of one key, as JSON text; null where there is none. */
export async function manifestRow(queryable: Queryable, url: EntityUrl, key: string): Promise<string | null> {
  const { rows } = await queryable.query(sql`
    SELECT value FROM projections
     WHERE tenant_id = ${queryable.tenant} AND entity_url = ${url} AND type = 'manifest' AND key = ${key}`)
  return (rows[0]?.value as string | undefined) ?? null
}

/** Runs of an entity that have begun and not ended. */
export async function openRuns(queryable: Queryable, url: EntityUrl): Promise<{ readonly key: string; readonly value: JsonObject }[]> {
  const { rows } = await queryable.query(sql`
    SELECT key, value FROM projections WHERE tenant_id = ${queryable.tenant} AND entity_url = ${url} AND type = 'run' ORDER BY key`)
  return rows.flatMap((row) => {
    const value: unknown = JSON.parse(String(row.value))
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? [{ key: String(row.key), value: value as JsonObject }]
      : []
  })
}

/** How far the consequences of these foreign streams have been drawn; absent means not at all. */
export async function progressOf(queryable: Queryable, paths: readonly StreamPath[]): Promise<ReadonlyMap<string, Offset>> {
  const { rows } = await queryable.query(sql`
    SELECT path, processed FROM stream_progress WHERE tenant_id = ${queryable.tenant} AND path = ANY (${paths})`)
  return new Map(rows.map((row) => [String(row.path), row.processed as Offset]))
}

/** How far these foreign streams have been drawn, kept so until the transaction ends: what is projected afterwards is what stands up to there. */
export async function shareProgress(tx: Transaction, paths: readonly StreamPath[]): Promise<ReadonlyMap<StreamPath, Offset>> {
  const { rows } = await tx.query(sql`
    SELECT path, processed FROM stream_progress WHERE tenant_id = ${tx.tenant} AND path = ANY (${paths}) ORDER BY path FOR SHARE`)
  return new Map(rows.map((row) => [row.path as StreamPath, row.processed as Offset]))
}

/** Moves a stream's progress from `from` to `to`; false when somebody else moved it meanwhile: then nothing was changed. */
export async function advanceProgress(tx: Transaction, path: StreamPath, from: Offset | null, to: Offset): Promise<boolean> {
  const { count } =
    from === null
      ? await tx.query(
          sql`INSERT INTO stream_progress (tenant_id, path, processed) VALUES (${tx.tenant}, ${path}, ${to}) ON CONFLICT DO NOTHING`,
        )
      : await tx.query(
          sql`UPDATE stream_progress SET processed = ${to} WHERE tenant_id = ${tx.tenant} AND path = ${path} AND processed = ${from}`,
        )
  return count === 1
}
