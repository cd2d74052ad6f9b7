/**
 * Appends: one statement per table for a whole batch, inside the caller's transaction.
 *
 * A1  All streams of the batch are locked first, by ascending id; every verdict is decided under those locks (spec/14 §6.1).
 * A2  Appends to one stream are applied in the order given: each sees what the ones before it left.
 * A3  Entry, tail, producer, sequence and closed flag are written by one statement: all of them or none.
 */
import { maxStreamPathBytes, offsetOf, type StreamPath } from '../../domain/ids.js'
import { keyed, type Transaction } from '../../registry/database.js'
import { decideAppend, type LogState, type PreparedAppend, type ProducerState } from '../protocol/append-rules.js'
import { stamp } from '../protocol/payload.js'
import * as refusals from '../protocol/refusals.js'
import { type AppendVerdict, type DecidedAppends, isRefused } from '../store.js'

export interface PathAppend {
  readonly path: StreamPath
  readonly prepared: PreparedAppend
}

type Life = 'live' | 'gone' | 'missing'

interface LockedStream {
  readonly id: number
  readonly life: Life
  readonly renews: boolean
  state: LogState
  changed: boolean
  readonly producers: Map<string, ProducerState>
  readonly changedProducers: Set<string>
}

/** Streams of a batch by path, as they are while their rows are locked. */
export type Locked = ReadonlyMap<string, LockedStream>

interface NewEntry {
  readonly streamId: number
  readonly end: number
  readonly data: Buffer
  readonly marks: number
}

/** `streams`: the answer of `lockStreams` to these appends, or more, in the transaction that writes them. To be asked once. */
export function decideAll(streams: Locked, appends: readonly PathAppend[]): DecidedAppends {
  const entries: NewEntry[] = []
  const verdicts = appends.map(({ path, prepared }) => apply(streams.get(path), path, prepared, entries))
  return { verdicts, write: async (tx) => await write(tx, [...streams.values()], entries) }
}

/** Locks, decides and writes: all that its transaction does. */
export async function appendAll(tx: Transaction, appends: readonly PathAppend[]): Promise<readonly AppendVerdict[]> {
  const { verdicts, write } = decideAll(await lockStreams(tx, appends.map(wantedBy)), appends)
  tx.last(() => write(tx))
  return verdicts
}

/** What an append needs of its stream. */
export interface Wanted {
  readonly path: StreamPath
  readonly producer?: { readonly id: string } | undefined
}

const wantedBy = ({ path, prepared }: PathAppend): Wanted => ({ path, producer: prepared.request.producer })

/** A2. */
function apply(stream: LockedStream | undefined, path: StreamPath, prepared: PreparedAppend, entries: NewEntry[]): AppendVerdict {
  if (prepared.payload === refusals.emptyBody) return refusals.emptyBody // before existence (spec/14 §2.2 row 4)
  if (stream === undefined || stream.life === 'missing')
    return Buffer.byteLength(path) > maxStreamPathBytes ? refusals.pathTooLong : refusals.missing
  if (stream.life === 'gone') return refusals.gone
  const { producer } = prepared.request
  const effect = decideAppend(stream.state, producer === undefined ? undefined : stream.producers.get(producer.id), prepared)
  if (isRefused(effect.verdict)) return effect.verdict
  if (effect.state !== undefined) stream.state = effect.state
  stream.changed ||= effect.state !== undefined || stream.renews // a repetition is a use too (spec/14 §1.5)
  if (producer !== undefined && effect.producer !== undefined) {
    stream.producers.set(producer.id, effect.producer)
    stream.changedProducers.add(producer.id)
  }
  if (effect.entry !== undefined) {
    const end = stream.state.tail
    entries.push({ streamId: stream.id, end, data: stamp(effect.entry, offsetOf(end)), marks: effect.entry.marks })
  }
  return effect.verdict
}

/** A1. Producers are read by a statement of its own, behind the locks: only then are their rows final. */
export async function lockStreams(tx: Transaction, wanted: readonly Wanted[]): Promise<Locked> {
  const [streams, producers] = await Promise.all([lockRows(tx, [...new Set(wanted.map(({ path }) => path))]), readProducers(tx, wanted)])
  const byId = new Map([...streams.values()].map((stream) => [stream.id, stream]))
  for (const { stream_id, producer_id, epoch, last_seq } of producers)
    byId.get(stream_id)?.producers.set(producer_id, { epoch, lastSeq: last_seq })
  return streams
}

/** An expired stream without forks is as if it had never been; one with forks is gone. */
async function lockRows(tx: Transaction, paths: readonly StreamPath[]): Promise<Locked> {
  const { rows } = await tx.query(keyed`
    SELECT s.*
      FROM (SELECT s.id, i.path
              FROM unnest(${paths}::text[]) AS i (path)
             CROSS JOIN LATERAL (SELECT id FROM streams WHERE tenant_id = ${tx.tenant} AND path = i.path COLLATE "C" OFFSET 0) s
             ORDER BY s.id) i
     CROSS JOIN LATERAL (
       SELECT s.id, s.path, s.content_type, s.tail, s.closed, s.closer_id, s.closer_epoch, s.closer_seq, s.last_seq, s.ttl_s,
              CASE WHEN s.gone_at IS NOT NULL THEN 'gone'
                   WHEN s.expires_at <= clock_timestamp() THEN
                     CASE WHEN EXISTS (SELECT FROM streams f WHERE f.source_id = s.id AND f.path IS NOT NULL OFFSET 0) THEN 'gone' ELSE 'missing' END
                   ELSE 'live' END AS life
         FROM streams s
        WHERE s.id = i.id OFFSET 0
          FOR UPDATE) s
     WHERE s.path = i.path`)
  return new Map(rows.map((row) => [row.path as string, lockedStream(row as unknown as LockedRow)])) // columns as selected above
}

interface LockedRow {
  readonly id: number
  readonly content_type: string
  readonly tail: number
  readonly closed: boolean
  readonly closer_id: string | null
  readonly closer_epoch: number
  readonly closer_seq: number
  readonly last_seq: string | null
  readonly ttl_s: number | null
  readonly life: Life
}

function lockedStream(row: LockedRow): LockedStream {
  return {
    id: row.id,
    life: row.life,
    renews: row.ttl_s !== null,
    state: {
      contentType: row.content_type,
      tail: row.tail,
      closed: row.closed,
      closer: row.closer_id === null ? null : { id: row.closer_id, epoch: row.closer_epoch, seq: row.closer_seq },
      lastSeq: row.last_seq,
    },
    changed: false,
    producers: new Map(),
    changedProducers: new Set(),
  }
}

interface ProducerRow {
  readonly stream_id: number
  readonly producer_id: string
  readonly epoch: number
  readonly last_seq: number
}

async function readProducers(tx: Transaction, wanted: readonly Wanted[]): Promise<readonly ProducerRow[]> {
  const producing = wanted.flatMap(({ path, producer }) => (producer === undefined ? [] : [{ path, id: producer.id }]))
  if (producing.length === 0) return []
  const { rows } = await tx.query(keyed`
    SELECT p.stream_id, p.producer_id, p.epoch, p.last_seq
      FROM (SELECT DISTINCT * FROM unnest(${producing.map(({ path }) => path)}::text[], ${producing.map(({ id }) => id)}::text[]) AS w (path, producer_id)) w
     CROSS JOIN LATERAL (SELECT id FROM streams WHERE tenant_id = ${tx.tenant} AND path = w.path COLLATE "C" OFFSET 0) s
     CROSS JOIN LATERAL (SELECT * FROM stream_producers WHERE stream_id = s.id AND producer_id = w.producer_id COLLATE "C" OFFSET 0) p`)
  return rows as unknown as ProducerRow[] // columns as selected above
}

/** A3. Bodies travel as one value, cut apart by the database: an array of `bytea` would travel as text. */
async function write(tx: Transaction, streams: readonly LockedStream[], entries: readonly NewEntry[]): Promise<void> {
  const changed = streams.filter((stream) => stream.changed)
  if (changed.length === 0) return
  const producers = changed.flatMap((stream) => [...stream.changedProducers].map((id) => ({ stream, id, state: stream.producers.get(id) })))
  const { data, starts } = concatenated(entries)
  await tx.query(keyed`
    WITH written AS (
      INSERT INTO stream_entries (stream_id, end_offset, data, marks)
      SELECT e.stream_id, e.end_offset, substring(${data}::bytea FROM e.start FOR e.length), e.marks
        FROM unnest(${entries.map((e) => e.streamId)}::int8[], ${entries.map((e) => e.end)}::int8[], ${starts}::int4[],
                    ${entries.map((e) => e.data.length)}::int4[], ${entries.map((e) => e.marks)}::int2[]) AS e (stream_id, end_offset, start, length, marks)
    ), fenced AS (
      INSERT INTO stream_producers AS p (stream_id, producer_id, epoch, last_seq)
      SELECT * FROM unnest(${producers.map((p) => p.stream.id)}::int8[], ${producers.map((p) => p.id)}::text[],
                           ${producers.map((p) => p.state?.epoch)}::int8[], ${producers.map((p) => p.state?.lastSeq)}::int8[])
      ON CONFLICT (stream_id, producer_id) DO UPDATE SET epoch = excluded.epoch, last_seq = excluded.last_seq
    )
    UPDATE streams s
       SET tail = c.tail, closed = c.closed, closer_id = c.closer_id, closer_epoch = c.closer_epoch, closer_seq = c.closer_seq,
           last_seq = c.last_seq,
           expires_at = CASE WHEN s.ttl_s IS NULL THEN s.expires_at
                             ELSE clock_timestamp() + least(s.ttl_s, 10000000000) * interval '1 second' END
      FROM (SELECT k.ctid AS at, c.*
              FROM unnest(${changed.map((s) => s.id)}::int8[], ${changed.map((s) => s.state.tail)}::int8[], ${changed.map((s) => s.state.closed)}::boolean[],
                          ${changed.map((s) => s.state.closer?.id ?? null)}::text[], ${changed.map((s) => s.state.closer?.epoch ?? null)}::int8[],
                          ${changed.map((s) => s.state.closer?.seq ?? null)}::int8[], ${changed.map((s) => s.state.lastSeq)}::text[])
                   AS c (id, tail, closed, closer_id, closer_epoch, closer_seq, last_seq)
             CROSS JOIN LATERAL (SELECT ctid FROM streams WHERE id = c.id OFFSET 0) k) c
     WHERE s.ctid = c.at`)
}

/** The bodies one after the other, and where each begins (counted from 1, as SQL does). */
export function concatenated(entries: readonly { readonly data: Buffer }[]): { readonly data: Buffer; readonly starts: readonly number[] } {
  let start = 1
  const starts = entries.map((entry) => {
    const at = start
    start += entry.data.length
    return at
  })
  return {
    data: entries.length === 1 && entries[0] !== undefined ? entries[0].data : Buffer.concat(entries.map((entry) => entry.data)),
    starts,
  }
}
