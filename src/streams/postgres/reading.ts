/**
 * Reads of one stream. A statement is one snapshot: tail, closed flag and entries of an answer belong together (spec/14 §6.1).
 *
 * R1  Entries never change and have no gaps in their numbers: later chunks need no snapshot, and a chunk with a gap means that the stream
 *     was deleted meanwhile (`StreamVanished`), never a shorter history.
 * R2  A chunk is bounded in entries and bytes (one larger entry travels alone); the database concatenates it.
 */
import { keyed, type Queryable, type Row } from '../../registry/database.js'

export type Life = 'live' | 'gone' | 'missing'

/** A stream at one instant. */
export interface StreamView {
  readonly id: number
  readonly contentType: string
  readonly json: boolean
  readonly tail: number
  readonly closed: boolean
  readonly ttlS: number | null
  readonly expiresAt: string | null
  /** Its sliding expiry has moved far enough to be written again. */
  readonly renewalDue: boolean
}

/** Entries up to `last`, as stored: of JSON, items and commas. */
export interface Chunk {
  readonly data: Buffer
  readonly last: number
}

export interface Entry {
  readonly end: number
  readonly data: Buffer
}

export class StreamVanished extends Error {
  constructor() {
    super('the stream was deleted while it was read')
  }
}

export interface WantedStream {
  readonly path: string
  /** Behind which of its entries to read; `beyondAll` for its row alone. */
  readonly after: number
}

/** No entry lies behind it. */
export const beyondAll = Number.MAX_SAFE_INTEGER - 4_096

/** What one stream of a look-up may bring along. */
export interface ChunkBounds {
  readonly entries: number
  readonly bytes: number
}

export type OpenedStream = { readonly view: StreamView; readonly chunk: Chunk | null } | Exclude<Life, 'live'>

/**
 * These streams, in the order asked for, each with what of it lies behind `after` as far as the bounds go. None where its first entry goes beyond
 * them, nor for a fork, whose ranges come with `readChunk`.
 */
export async function openStreams(db: Queryable, wanted: readonly WantedStream[], bounds: ChunkBounds): Promise<readonly OpenedStream[]> {
  const opening = keyed`
    SELECT i.n::int4 AS n, s.id, s.content_type, s.json, s.tail, s.closed, s.ttl_s, s.expires_at_text,
           CASE WHEN s.gone_at IS NOT NULL THEN 'gone'
                WHEN s.expires_at <= clock_timestamp() THEN
                  CASE WHEN EXISTS (SELECT FROM streams f WHERE f.source_id = s.id AND f.path IS NOT NULL OFFSET 0) THEN 'gone' ELSE 'missing' END
                ELSE 'live' END AS life,
           coalesce(s.expires_at < clock_timestamp() + least(s.ttl_s - least(s.ttl_s / 20.0, 30), 10000000000 - 30) * interval '1 second', false) AS renewal_due,
           c.entries, c.last, c.data
      FROM unnest(${wanted.map(({ path }) => path)}::text[], ${wanted.map(({ after }) => after)}::int8[]) WITH ORDINALITY AS i (path, after, n)
     CROSS JOIN LATERAL (SELECT * FROM streams WHERE tenant_id = ${db.tenant} AND path = i.path COLLATE "C" OFFSET 0) s
      LEFT JOIN LATERAL (
        SELECT count(*)::int4 AS entries, max(w.end_offset) AS last,
               string_agg(w.data, CASE WHEN s.json THEN ','::bytea ELSE ''::bytea END ORDER BY w.end_offset) AS data
          FROM (SELECT e.end_offset, e.data, sum(octet_length(e.data)) OVER (ORDER BY e.end_offset ROWS UNBOUNDED PRECEDING) AS bytes
                  FROM stream_entries e
                 WHERE e.stream_id = s.id AND s.source_id IS NULL AND e.end_offset > i.after
                   AND e.end_offset <= least(s.tail, i.after + ${bounds.entries}::int8)) w
         WHERE w.bytes <= ${bounds.bytes}::int8) c ON true`
  const { rows } = await db.query(opening, { binary: true })
  const opened: OpenedStream[] = wanted.map(() => 'missing')
  for (const row of rows) {
    const index = (row.n as number) - 1
    opened[index] = openedOf(row, wanted[index]?.after ?? 0)
  }
  return opened
}

function openedOf(row: Row, after: number): OpenedStream {
  if (row.life !== 'live') return row.life as 'gone' | 'missing'
  return { view: viewOf(row), chunk: row.entries === 0 ? null : chunkOf(row, after) }
}

/** The next chunk of a stream (or fork) behind `after`, not beyond `upTo`. */
export async function readChunk(db: Queryable, view: StreamView, after: number, upTo: number): Promise<Chunk> {
  const next = keyed`
    SELECT c.entries, c.last, c.data
      FROM (
        SELECT count(*)::int4 AS entries, max(w.end_offset) AS last,
               string_agg(w.data, CASE WHEN ${view.json}::boolean THEN ','::bytea ELSE ''::bytea END ORDER BY w.end_offset) AS data
          FROM (SELECT e.end_offset, e.data,
                       sum(octet_length(e.data)) OVER (ORDER BY e.end_offset ROWS UNBOUNDED PRECEDING) - octet_length(e.data) AS before
                  FROM (SELECT storage_id, from_offset, to_offset FROM stream_ranges WHERE stream_id = ${view.id}
                        UNION ALL
                        SELECT ${view.id}::int8, 0, ${upTo}::int8) r
                 CROSS JOIN LATERAL (
                   SELECT end_offset, data FROM stream_entries
                    WHERE stream_id = r.storage_id AND end_offset > greatest(r.from_offset, ${after}::int8)
                      AND end_offset <= least(r.to_offset, ${upTo}::int8, ${after}::int8 + 4096) OFFSET 0) e) w
         WHERE w.before < 1048576) c`
  const { rows } = await db.query(next, { binary: true })
  const [row] = rows
  if (row === undefined || row.entries === 0) throw new StreamVanished() // R1
  return chunkOf(row, after)
}

/** R1. */
function chunkOf(row: Row, after: number): Chunk {
  const last = row.last as number
  if (last - after !== row.entries) throw new StreamVanished()
  return { data: row.data as Buffer, last }
}

/** Entries that follow each other, as one chunk of them is stored. */
export function joined({ json }: StreamView, parts: readonly Buffer[]): Buffer {
  return Buffer.concat(json ? parts.flatMap((part, index) => (index === 0 ? [part] : [comma, part])) : parts)
}

const comma = Buffer.from(',')

export interface StreamEntries {
  readonly view: StreamView
  readonly entries: readonly Entry[]
}

/** The stream `id` and its entries behind `after`, each by itself, as far as one chunk goes; null when it has ended. */
export async function readEntries(db: Queryable, id: number, after: number): Promise<StreamEntries | null> {
  const behind = keyed`
    SELECT s.id, s.content_type, s.json, s.tail, s.closed, s.ttl_s, s.expires_at_text,
           coalesce(s.expires_at < clock_timestamp() + least(s.ttl_s - least(s.ttl_s / 20.0, 30), 10000000000 - 30) * interval '1 second', false) AS renewal_due,
           w.end_offset, w.data
      FROM streams s
      LEFT JOIN LATERAL (
        SELECT e.end_offset, e.data,
               sum(octet_length(e.data)) OVER (ORDER BY e.end_offset ROWS UNBOUNDED PRECEDING) - octet_length(e.data) AS before
          FROM (SELECT storage_id, from_offset, to_offset FROM stream_ranges WHERE stream_id = s.id AND s.source_id IS NOT NULL
                UNION ALL
                SELECT s.id, 0, s.tail) r
         CROSS JOIN LATERAL (
           SELECT end_offset, data FROM stream_entries
            WHERE stream_id = r.storage_id AND end_offset > greatest(r.from_offset, ${after}::int8)
              AND end_offset <= least(r.to_offset, ${after}::int8 + 1024) OFFSET 0) e) w ON w.before < 1048576
     WHERE s.id = ${id} AND s.path IS NOT NULL AND s.gone_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
     ORDER BY w.end_offset`
  const { rows } = await db.query(behind, { binary: true })
  const [first] = rows
  if (first === undefined) return null
  const view = viewOf(first)
  if (first.end_offset === null) return { view, entries: [] }
  const entries = rows.map((row) => ({ end: row.end_offset as number, data: row.data as Buffer }))
  if ((entries.at(-1)?.end ?? 0) - after !== entries.length) throw new StreamVanished() // R1
  return { view, entries }
}

function viewOf(row: Row): StreamView {
  return {
    id: row.id as number,
    contentType: row.content_type as string,
    json: row.json as boolean,
    tail: row.tail as number,
    closed: row.closed as boolean,
    ttlS: row.ttl_s as number | null,
    expiresAt: row.expires_at_text as string | null,
    renewalDue: row.renewal_due as boolean,
  }
}

/** Where watched streams stand, in one query; what has ended or never was is left out. */
export async function streamStates(db: Queryable, paths: readonly string[]): Promise<Map<string, StreamView>> {
  const { rows } = await db.query(keyed`
    SELECT path, id, content_type, json, tail, closed, ttl_s, expires_at_text,
           coalesce(expires_at < clock_timestamp() + least(ttl_s - least(ttl_s / 20.0, 30), 10000000000 - 30) * interval '1 second', false) AS renewal_due
      FROM unnest(${paths}::text[]) AS i (wanted)
     CROSS JOIN LATERAL (SELECT * FROM streams
                          WHERE tenant_id = ${db.tenant} AND path = i.wanted COLLATE "C" AND gone_at IS NULL
                            AND (expires_at IS NULL OR expires_at > clock_timestamp()) OFFSET 0) s`)
  return new Map(rows.map((row) => [row.path as string, viewOf(row)]))
}

/** Moves sliding expiries on. What has expired stays expired. */
export async function renew(db: Queryable, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return
  await db.query(keyed`
    UPDATE streams SET expires_at = clock_timestamp() + least(ttl_s, 10000000000) * interval '1 second'
     WHERE id = ANY(${ids}::int8[]) AND ttl_s IS NOT NULL AND coalesce(expires_at > clock_timestamp(), false) -- by no index of what expires`)
}
