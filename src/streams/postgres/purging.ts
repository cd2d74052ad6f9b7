/**
 * Ends of streams: delete, expiry, and the removal of what nobody reads any more (spec/14 §2.8, §3.4).
 *
 * E1  A stream that forks read is only marked (`gone_at`): its path stays taken, its entries stay.
 * E2  A stream that nobody reads dies by giving its path up (path null); its entries go later, in steps, off the request.
 * E3  References are looked for in a statement of their own, after the row lock: a fork takes a share lock on its source first.
 * E4  A dead row is removed together with the test of its source, so a crash leaves the row, and the next sweep goes on there.
 */
import { type Database, sql, type Transaction } from '../../registry/database.js'
import * as refusals from '../protocol/refusals.js'
import type { DeleteVerdict } from '../store.js'

const rowsPerStep = 100
const entriesPerStep = 10_000

export async function deleteStream(tx: Transaction, path: string): Promise<DeleteVerdict> {
  const { rows } = await tx.query(sql`
    SELECT id, gone_at IS NOT NULL AS gone, coalesce(expires_at <= clock_timestamp(), false) AS expired
      FROM streams WHERE tenant_id = ${tx.tenant} AND path = ${path} FOR UPDATE`)
  const [stream] = rows
  if (stream === undefined) return refusals.missing
  if (stream.gone === true) return refusals.gone
  const freed = await end(tx, [stream.id as number])
  if (stream.expired === true) return freed.length > 0 ? refusals.missing : refusals.gone
  return { outcome: 'deleted' }
}

/** Makes the paths of expired streams free, as far as no fork reads them; answers their ids. */
export async function releasePaths(tx: Transaction, expired: readonly number[]): Promise<number[]> {
  if (expired.length === 0) return []
  const { rows } = await tx.query(sql`
    SELECT id FROM streams
     WHERE id = ANY(${expired}::int8[]) AND path IS NOT NULL AND gone_at IS NULL AND expires_at <= clock_timestamp()
     ORDER BY id FOR UPDATE`)
  return await end(
    tx,
    rows.map((row) => row.id as number),
  )
}

/** E1, E2, E3: ends locked streams; answers the ids of those that died. */
async function end(tx: Transaction, ids: readonly number[]): Promise<number[]> {
  if (ids.length === 0) return []
  const { rows } = await tx.query(sql`
    WITH ended AS (
      SELECT s.id, EXISTS (SELECT FROM streams f WHERE f.source_id = s.id AND f.path IS NOT NULL) AS is_read FROM streams s WHERE s.id = ANY(${ids}::int8[])
    )
    UPDATE streams s
       SET path = CASE WHEN ended.is_read THEN s.path END, gone_at = clock_timestamp(), expires_at = NULL
      FROM ended
     WHERE s.id = ended.id
    RETURNING s.id, s.path IS NULL AS dead`)
  return rows.filter((row) => row.dead === true).map((row) => row.id as number)
}

/** Ends expired streams and removes dead ones until nothing is left to do. Any number of processes may do so at once. */
export async function sweepStreams(database: Database): Promise<void> {
  while (await database.transaction(expireSome)) {}
  while (await database.transaction(removeSome)) {}
}

async function expireSome(tx: Transaction): Promise<boolean> {
  const { rows } = await tx.query(sql`
    SELECT id FROM streams
     WHERE expires_at <= clock_timestamp() AND path IS NOT NULL AND gone_at IS NULL
     ORDER BY expires_at LIMIT ${rowsPerStep} FOR UPDATE SKIP LOCKED`) // the order of their index: statistics lag behind renewals
  await end(
    tx,
    rows.map((row) => row.id as number),
  )
  return rows.length === rowsPerStep
}

/** E4. */
async function removeSome(tx: Transaction): Promise<boolean> {
  const { rows } = await tx.query(sql`
    SELECT id, source_id FROM streams WHERE path IS NULL ORDER BY id LIMIT ${rowsPerStep} FOR UPDATE SKIP LOCKED`)
  if (rows.length === 0) return false
  const ids = rows.map((row) => row.id as number)
  const { count } = await tx.query(sql`
    DELETE FROM stream_entries
     WHERE ctid = ANY(ARRAY(SELECT ctid FROM stream_entries WHERE stream_id = ANY(${ids}::int8[]) LIMIT ${entriesPerStep}))`)
  if (count === entriesPerStep) return true
  await tx.query(sql`DELETE FROM stream_producers WHERE stream_id = ANY(${ids}::int8[])`)
  await tx.query(sql`DELETE FROM stream_ranges WHERE stream_id = ANY(${ids}::int8[])`)
  await tx.query(sql`DELETE FROM streams WHERE id = ANY(${ids}::int8[])`)
  await releaseSources(tx, [...new Set(rows.flatMap((row) => (row.source_id === null ? [] : [row.source_id as number])))])
  return true
}

/** The last fork of a stream that was deleted or expired is gone: so is the stream. A live one stays (spec/14 §3.4). */
async function releaseSources(tx: Transaction, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return
  const { rows } = await tx.query(sql`
    SELECT id FROM streams
     WHERE id = ANY(${ids}::int8[]) AND path IS NOT NULL AND (gone_at IS NOT NULL OR expires_at <= clock_timestamp())
     ORDER BY id FOR UPDATE`)
  await end(
    tx,
    rows.map((row) => row.id as number),
  )
}
