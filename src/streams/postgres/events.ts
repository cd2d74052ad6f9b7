/** Items of a stream for the server's own use, read through the pool or inside of a transaction. */
import { type Offset, offsetOf, positionOf, type StreamPath } from '../../domain/ids.js'
import { type Queryable, type Row, sql, type Transaction } from '../../registry/database.js'
import { storedItems } from '../protocol/payload.js'
import * as refusals from '../protocol/refusals.js'
import type { HistoryReads, StoredEvents, StreamRefusal } from '../store.js'
import type { Opening } from './opening.js'
import { beyondAll, readEntries } from './reading.js'

const entriesPerPage = 1_000

/** Whole entries behind `after`, the last of which may lie beyond `limit`: reading goes on at `next`. */
export async function readEvents(
  db: Queryable,
  opening: Opening,
  path: StreamPath,
  after: Offset,
  limit: number,
): Promise<StoredEvents | StreamRefusal> {
  const opened = await opening.open(path, beyondAll)
  if (opened === 'missing') return refusals.missing
  if (opened === 'gone') return refusals.gone
  const read = await readEntries(db, opened.view.id, Math.min(positionOf(after), opened.view.tail))
  if (read === null) return refusals.missing
  const events: { entry: Offset; item: unknown }[] = []
  let next = Math.min(positionOf(after), read.view.tail)
  for (const { end, data } of read.entries) {
    if (events.length >= limit) break
    for (const item of storedItems(data)) events.push({ entry: offsetOf(end), item })
    next = end
  }
  const upToDate = next === read.view.tail
  return { events, next: offsetOf(next), upToDate, closed: upToDate && read.view.closed }
}

/** Locks streams against appends and deletes until the transaction ends, by ascending id; the tails of those that live. */
export async function shareStreams(tx: Transaction, paths: readonly StreamPath[]): Promise<ReadonlyMap<StreamPath, Offset>> {
  if (paths.length === 0) return new Map()
  const { rows } = await tx.query(sql`
    SELECT path, tail, gone_at IS NULL AND coalesce(expires_at > clock_timestamp(), true) AS lives
      FROM streams
     WHERE tenant_id = ${tx.tenant} AND path = ANY(${paths}::text[])
     ORDER BY id
       FOR SHARE`)
  return new Map(rows.filter((row) => row.lives === true).map((row) => [row.path as StreamPath, offsetOf(row.tail as number)]))
}

export const historyReads: HistoryReads = {
  async itemsBehind(tx, path, after, entries) {
    const rows = await entriesBehind(tx, path, positionOf(after), entries)
    const [first] = rows
    if (first === undefined) return refusals.missing
    const tail = first.tail as number
    const read = rows.filter((row) => row.end_offset !== null).map(entryOf)
    const next = read.at(-1)?.end ?? Math.min(positionOf(after), tail)
    const events = read.flatMap(({ end, items }) => items.map((item) => ({ entry: offsetOf(end), item })))
    return { events, next: offsetOf(next), upToDate: next === tail, closed: next === tail && first.closed === true }
  },

  async projectedItems(tx, path, { after: whole, items: ofNext }) {
    const upTo = positionOf(whole) + (ofNext > 0 ? 1 : 0)
    const events: { entry: Offset; item: unknown }[] = []
    for (let after = 0; ; ) {
      const rows = await projectedEntries(tx, path, after, upTo)
      for (const { end, items } of rows.map(entryOf)) {
        for (const item of items) events.push({ entry: offsetOf(end), item })
        after = end
      }
      if (rows.length < entriesPerPage) return events
    }
  },

  async lastRunEntry(tx, path, upTo) {
    const { rows } = await tx.query(sql`
      SELECT e.end_offset, convert_from(e.data, 'UTF8') AS text
        FROM streams s
       CROSS JOIN LATERAL (SELECT storage_id, from_offset, to_offset FROM stream_ranges WHERE stream_id = s.id
                           UNION ALL SELECT s.id, 0, s.tail) r
       CROSS JOIN LATERAL (SELECT end_offset, data FROM stream_entries
                            WHERE stream_id = r.storage_id AND end_offset > r.from_offset
                              AND end_offset <= least(r.to_offset, ${upTo === null ? null : positionOf(upTo)}::int8) AND (marks & 2) <> 0
                            ORDER BY end_offset DESC LIMIT 1) e
       WHERE s.tenant_id = ${tx.tenant} AND s.path = ${path}
       ORDER BY e.end_offset DESC
       LIMIT 1`)
    const [row] = rows
    if (row === undefined) return null
    const { end, items } = entryOf(row)
    return { entry: offsetOf(end), before: offsetOf(end - 1), items }
  },
}

async function entriesBehind(tx: Transaction, path: StreamPath, after: number, limit: number): Promise<readonly Row[]> {
  const { rows } = await tx.query(sql`
    SELECT s.tail, s.closed, e.end_offset, convert_from(e.data, 'UTF8') AS text
      FROM streams s
      LEFT JOIN LATERAL (
        SELECT e.end_offset, e.data
          FROM (SELECT storage_id, from_offset, to_offset FROM stream_ranges WHERE stream_id = s.id
                UNION ALL SELECT s.id, 0, s.tail) r
         CROSS JOIN LATERAL (SELECT end_offset, data FROM stream_entries
                              WHERE stream_id = r.storage_id AND end_offset > greatest(r.from_offset, ${after}::int8)
                                AND end_offset <= least(r.to_offset, ${after}::int8 + ${limit}::int8)) e) e ON true
     WHERE s.tenant_id = ${tx.tenant} AND s.path = ${path} AND s.gone_at IS NULL
     ORDER BY e.end_offset`)
  return rows
}

/** A page of entries that are marked as projected (bit 1 of `domain/marks.ts`), through the ranges of a fork. Index: stream_entries_projected. */
async function projectedEntries(tx: Transaction, path: StreamPath, after: number, upTo: number): Promise<readonly Row[]> {
  const { rows } = await tx.query(sql`
    SELECT e.end_offset, convert_from(e.data, 'UTF8') AS text
      FROM streams s
     CROSS JOIN LATERAL (SELECT storage_id, from_offset, to_offset FROM stream_ranges WHERE stream_id = s.id
                         UNION ALL SELECT s.id, 0, s.tail) r
     CROSS JOIN LATERAL (SELECT end_offset, data FROM stream_entries
                          WHERE stream_id = r.storage_id AND end_offset > greatest(r.from_offset, ${after}::int8)
                            AND end_offset <= least(r.to_offset, ${upTo}::int8) AND (marks & 1) <> 0
                          ORDER BY end_offset LIMIT ${entriesPerPage}) e
     WHERE s.tenant_id = ${tx.tenant} AND s.path = ${path}
     ORDER BY e.end_offset
     LIMIT ${entriesPerPage}`)
  return rows
}

const entryOf = (row: Row) => ({ end: row.end_offset as number, items: storedItems(row.text as string) })
