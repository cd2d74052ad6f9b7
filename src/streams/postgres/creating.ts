/**
 * Creates, set-based and inside the caller's transaction: row, first entry, ranges and closed flag appear together (spec/14 §2.1, §3).
 *
 * C1  The unique path decides a race: one inserts, the others read the winner's row and compare.
 * C2  Paths are inserted in their order, sources are locked by ascending id before any row is made: no two batches wait for each other.
 * C3  A path is given up by its old row (expired, unreferenced) before a new stream with a new id takes it: forks hold ids, never paths.
 * C4  A fork sees its source under a share lock, which waits for the appends in flight: its prefix is one instant of the source.
 *
 * Within one batch a fork finds only sources that stood before, or that the batch makes as plain streams.
 */
import { maxStreamPathBytes, offsetOf, type StreamPath } from '../../domain/ids.js'
import { keyed, type Transaction } from '../../registry/database.js'
import { type ForkPlan, type StreamConfiguration, sameConfiguration } from '../protocol/create-rules.js'
import { contentTypeOf, defaultContentType, isJsonType } from '../protocol/media-type.js'
import { firstPayload, isPayload, type Payload, stamp } from '../protocol/payload.js'
import * as refusals from '../protocol/refusals.js'
import type { CreateRequest, CreateVerdict, NewStream, StreamHead, StreamRefusal } from '../store.js'
import { concatenated } from './appending.js'
import { planForks } from './forking.js'
import { releasePaths } from './purging.js'

const maxRounds = 10
/** Streams of one statement: it looks for the row of each entry among all that it makes. */
const perStatement = 200

export interface WantedStream {
  readonly index: number
  readonly path: StreamPath
  readonly request: CreateRequest & { readonly contentType: string | undefined; readonly more?: readonly Buffer[] }
}

/** A stream that can be inserted if its path is free. */
interface ReadyStream extends WantedStream {
  readonly contentType: string
  readonly ttlS: number | null
  readonly expiresAt: string | null
  readonly entries: readonly { readonly end: number; readonly data: Buffer; readonly marks: number }[]
  readonly tail: number
  readonly plan: ForkPlan | null
  /** Of a fork: where what it inherits ends, an entry that was cut included. */
  readonly inherited: number | null
}

export async function createAll(tx: Transaction, streams: readonly NewStream[]): Promise<CreateVerdict[]> {
  const verdicts: (CreateVerdict | undefined)[] = streams.map(({ path }) =>
    Buffer.byteLength(path) > maxStreamPathBytes ? refusals.pathTooLong : undefined,
  )
  const settle = (wanted: WantedStream, verdict: CreateVerdict) => {
    verdicts[wanted.index] = verdict
  }
  const all: WantedStream[] = streams.map(({ path, ...request }, index) => ({
    index,
    path,
    request: { ...request, contentType: contentTypeOf(request.contentType) },
  }))
  for (let round = 1; round <= maxRounds; round += 1) {
    const open = all.filter((wanted) => verdicts[wanted.index] === undefined)
    if (open.length === 0) return verdicts as CreateVerdict[] // every place is filled
    await insertPlain(tx, open, settle)
    const others = open.filter((wanted) => verdicts[wanted.index] === undefined)
    const free = await compareWithStanding(tx, others, settle)
    const forks = firstOfEachPath(free.filter((wanted) => wanted.request.fork !== undefined))
    await insertForks(tx, forks, settle)
  }
  throw new Error('a path changed hands too often')
}

type Settle = (wanted: WantedStream, verdict: CreateVerdict) => void

function firstOfEachPath<Wanted extends { readonly path: string }>(wanted: readonly Wanted[]): Wanted[] {
  const seen = new Set<string>()
  return wanted.filter(({ path }) => !seen.has(path) && seen.add(path))
}

const isRefusal = (value: object): value is StreamRefusal => 'outcome' in value

async function insertPlain(tx: Transaction, open: readonly WantedStream[], settle: Settle): Promise<void> {
  const plain = firstOfEachPath(open.filter((wanted) => wanted.request.fork === undefined))
  const ready = plain.map(readyPlain).filter((stream): stream is ReadyStream => !isRefusal(stream))
  await insertReady(tx, ready, settle)
}

function readyPlain(wanted: WantedStream): ReadyStream | StreamRefusal {
  const { request } = wanted
  const contentType = request.contentType ?? defaultContentType
  const payloads = payloadsOf(contentType, request)
  if ('outcome' in payloads) return payloads
  const { ttlS = null, expiresAt = null } = request
  return { ...wanted, contentType, ttlS, expiresAt, plan: null, inherited: null, ...numbered(payloads, 0) }
}

/** The first entry and those behind it. */
function payloadsOf(contentType: string, { body, payload, more = [] }: WantedStream['request']): readonly Payload[] | StreamRefusal {
  const isJson = isJsonType(contentType)
  const first = isJson && payload !== undefined ? payload : firstPayload(isJson, body)
  const payloads = [first, ...more.map((one) => firstPayload(isJson, one))]
  return payloads.find(isRefusal) ?? payloads.filter(isPayload)
}

/** The entries of a new stream behind position `from`; an empty payload makes none. */
function numbered(payloads: readonly Payload[], from: number): { readonly entries: ReadyStream['entries']; readonly tail: number } {
  const entries = payloads
    .filter((payload) => payload.bytes.length > 0)
    .map((payload, index) => ({ end: from + index + 1, data: stamp(payload, offsetOf(from + index + 1)), marks: payload.marks }))
  return { entries, tail: from + entries.length }
}

async function insertForks(tx: Transaction, forks: readonly WantedStream[], settle: Settle): Promise<void> {
  if (forks.length === 0) return
  const plans = await planForks(tx, forks)
  const ready: ReadyStream[] = []
  for (const [index, wanted] of forks.entries()) {
    const planned = plans[index] ?? refusals.sourceMissing
    if (isRefusal(planned)) {
      settle(wanted, planned)
      continue
    }
    const { plan, cut } = planned
    const payloads = payloadsOf(plan.contentType, wanted.request)
    if ('outcome' in payloads) {
      settle(wanted, payloads)
      continue
    }
    const own = numbered(cut === null ? payloads : [cut, ...payloads], plan.offset)
    const inherited = plan.offset + (cut === null ? 0 : 1)
    ready.push({ ...wanted, contentType: plan.contentType, ttlS: plan.ttlS, expiresAt: plan.expiresAt, plan, inherited, ...own })
  }
  await insertReady(tx, ready, settle)
}

/** C1: what another made first is left for the next round, where it stands to be compared. */
async function insertReady(tx: Transaction, streams: readonly ReadyStream[], settle: Settle): Promise<void> {
  if (streams.length === 0) return
  const sorted = [...streams].sort((a, b) => (a.path < b.path ? -1 : 1)) // C2
  const made = new Set<string>()
  for (let at = 0; at < sorted.length; at += perStatement)
    for (const path of await insert(tx, sorted.slice(at, at + perStatement))) made.add(path)
  for (const stream of streams) {
    if (!made.has(stream.path)) continue
    const inherited = stream.inherited === null ? {} : { inherited: offsetOf(stream.inherited) }
    settle(stream, { outcome: 'created', head: headOf(stream, stream.request.closed ?? false), ...inherited })
  }
}

/** The paths that were free. */
async function insert(tx: Transaction, sorted: readonly ReadyStream[]): Promise<string[]> {
  const entries = sorted.flatMap((stream, at) => stream.entries.map((entry) => ({ ...entry, at: at + 1 })))
  const ranges = sorted.flatMap((stream, at) => (stream.plan?.ranges ?? []).map((range) => ({ ...range, at: at + 1 })))
  const { data, starts } = concatenated(entries)
  const { rows } = await tx.query(keyed`
    WITH wanted AS (
      SELECT *
        FROM unnest(${sorted.map((s) => s.path)}::text[], ${sorted.map((s) => s.contentType)}::text[], ${sorted.map((s) => isJsonType(s.contentType))}::boolean[],
                    ${sorted.map((s) => s.tail)}::int8[], ${sorted.map((s) => s.request.closed ?? false)}::boolean[], ${sorted.map((s) => s.ttlS)}::int8[],
                    ${sorted.map((s) => s.expiresAt)}::text[], ${sorted.map((s) => (s.expiresAt === null ? null : Date.parse(s.expiresAt)))}::float8[],
                    ${sorted.map((s) => s.plan?.sourceId ?? null)}::int8[], ${sorted.map((s) => s.request.fork?.from ?? null)}::text[],
                    ${sorted.map((s) => s.plan?.offset ?? null)}::int8[], ${sorted.map((s) => s.plan?.sub ?? null)}::int8[])
             WITH ORDINALITY
             AS w (path, content_type, json, tail, closed, ttl_s, expires_at_text, expires_at_ms, source_id, forked_from, fork_offset, fork_sub, at)
    ), made AS (
      INSERT INTO streams (tenant_id, path, content_type, json, tail, closed, ttl_s, expires_at_text, expires_at, source_id, forked_from, fork_offset, fork_sub)
      SELECT ${tx.tenant}, path, content_type, json, tail, closed, ttl_s, expires_at_text,
             coalesce(to_timestamp(expires_at_ms / 1000), clock_timestamp() + least(ttl_s, 10000000000) * interval '1 second'),
             source_id, forked_from, fork_offset, fork_sub
        FROM wanted
       ORDER BY at
      ON CONFLICT (tenant_id, path) DO NOTHING
      RETURNING id, path
    ), placed AS (
      SELECT made.id, wanted.at FROM made JOIN wanted USING (path)
    ), written AS (
      INSERT INTO stream_entries (stream_id, end_offset, data, marks)
      SELECT placed.id, e.end_offset, substring(${data}::bytea FROM e.start FOR e.length), e.marks
        FROM unnest(${entries.map((e) => e.at)}::int8[], ${entries.map((e) => e.end)}::int8[], ${starts}::int4[], ${entries.map((e) => e.data.length)}::int4[],
                    ${entries.map((e) => e.marks)}::int2[])
             AS e (at, end_offset, start, length, marks)
        JOIN placed USING (at)
    ), shown AS (
      INSERT INTO stream_ranges (stream_id, storage_id, from_offset, to_offset)
      SELECT placed.id, r.storage_id, r.from_offset, r.to_offset
        FROM unnest(${ranges.map((r) => r.at)}::int8[], ${ranges.map((r) => r.storageId)}::int8[], ${ranges.map((r) => r.from)}::int8[], ${ranges.map((r) => r.to)}::int8[])
             AS r (at, storage_id, from_offset, to_offset)
        JOIN placed USING (at)
    )
    SELECT path FROM made`)
  return rows.map((row) => row.path as string)
}

/**
 * Settles those whose path is taken; answers the others, whose path is free now. Where an expired stream was not released, forks read it or
 * somebody else ended it at this moment: the next round sees which.
 */
async function compareWithStanding(tx: Transaction, others: readonly WantedStream[], settle: Settle): Promise<WantedStream[]> {
  if (others.length === 0) return []
  const standing = await standingAt(
    tx,
    others.map((wanted) => wanted.path),
  )
  const expired = [...standing.values()].filter((stream) => stream.expired).map((stream) => stream.id)
  const released = new Set(await releasePaths(tx, expired)) // C3
  const free: WantedStream[] = []
  for (const wanted of others) {
    const found = standing.get(wanted.path)
    if (found === undefined || released.has(found.id)) settleFree(wanted, settle, free)
    else if (!found.expired) settle(wanted, compared(found, wanted))
  }
  return free
}

/** A free path: a body that is no JSON is refused now, and leaves nothing behind (D4). */
function settleFree(wanted: WantedStream, settle: Settle, free: WantedStream[]): void {
  const ready = wanted.request.fork === undefined ? readyPlain(wanted) : wanted
  if (isRefusal(ready)) settle(wanted, ready)
  else free.push(wanted)
}

interface Standing extends StreamConfiguration {
  readonly id: number
  readonly tail: number
  readonly gone: boolean
  readonly expired: boolean
}

function compared(found: Standing, { request }: WantedStream): CreateVerdict {
  if (found.gone) return refusals.pathHeld
  if (!sameConfiguration(found, request)) return refusals.otherConfiguration
  return { outcome: 'exists', head: headOf(found, found.closed) }
}

function headOf(
  stream: { readonly contentType: string; readonly tail: number; readonly ttlS: number | null; readonly expiresAt: string | null },
  closed: boolean,
): StreamHead {
  const { contentType, tail, ttlS, expiresAt } = stream
  return { contentType, tail: offsetOf(tail), closed, ...(ttlS === null ? {} : { ttlS }), ...(expiresAt === null ? {} : { expiresAt }) }
}

async function standingAt(tx: Transaction, paths: readonly StreamPath[]): Promise<Map<string, Standing>> {
  const { rows } = await tx.query(keyed`
    SELECT s.id, s.path, content_type, tail, closed, ttl_s, expires_at_text, forked_from, fork_offset, fork_sub, gone_at IS NOT NULL AS gone,
           coalesce(expires_at <= clock_timestamp(), false) AS expired
      FROM unnest(${paths}::text[]) AS i (path)
     CROSS JOIN LATERAL (SELECT * FROM streams WHERE tenant_id = ${tx.tenant} AND path = i.path COLLATE "C" OFFSET 0) s`)
  return new Map(rows.map((row) => [row.path as string, standing(row as unknown as StandingRow)])) // columns as selected above
}

interface StandingRow {
  readonly id: number
  readonly content_type: string
  readonly tail: number
  readonly closed: boolean
  readonly ttl_s: number | null
  readonly expires_at_text: string | null
  readonly forked_from: string | null
  readonly fork_offset: number
  readonly fork_sub: number
  readonly gone: boolean
  readonly expired: boolean
}

const standing = (row: StandingRow): Standing => ({
  id: row.id,
  contentType: row.content_type,
  tail: row.tail,
  closed: row.closed,
  ttlS: row.ttl_s,
  expiresAt: row.expires_at_text,
  fork: row.forked_from === null ? null : { from: row.forked_from, offset: row.fork_offset, sub: row.fork_sub },
  gone: row.gone,
  expired: row.expired,
})
