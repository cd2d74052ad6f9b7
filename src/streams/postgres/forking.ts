/** What forks need to know of their sources, read under a share lock (spec/14 §3.1; creating.ts C4). */
import { sql, type Transaction } from '../../registry/database.js'
import { type ForkPlan, type ForkSource, planFork, type StorageRange } from '../protocol/create-rules.js'
import { isJsonType } from '../protocol/media-type.js'
import { bytesPayload, isPayload, jsonPayload, type Payload, storedItems } from '../protocol/payload.js'
import * as refusals from '../protocol/refusals.js'
import type { StreamRefusal } from '../store.js'
import type { WantedStream } from './creating.js'

export interface PlannedFork {
  readonly plan: ForkPlan
  /** The part of a cut entry, which becomes the fork's own first entry. */
  readonly cut: Payload | null
}

type Source = ForkSource & { readonly gone: boolean; readonly expired: boolean }

export async function planForks(tx: Transaction, wanted: readonly WantedStream[]): Promise<(PlannedFork | StreamRefusal)[]> {
  const sources = await lockSources(tx, [...new Set(wanted.map(({ request }) => request.fork?.from ?? ''))])
  const plans = wanted.map(({ request }) => planned(sources, request))
  const cuts = await readCuts(tx, plans)
  return plans.map((plan) => ('outcome' in plan ? plan : withCut(plan, cuts)))
}

function planned(sources: ReadonlyMap<string, Source>, request: WantedStream['request']): ForkPlan | StreamRefusal {
  const fork = request.fork
  const source = fork === undefined ? undefined : sources.get(fork.from)
  if (fork === undefined || source === undefined) return refusals.sourceMissing
  if (source.gone) return refusals.sourceGone
  if (source.expired) return refusals.sourceMissing
  return planFork(source, request, fork)
}

async function lockSources(tx: Transaction, paths: readonly string[]): Promise<Map<string, Source>> {
  const { rows } = await tx.query(sql`
    SELECT id, path, content_type, tail, ttl_s, expires_at_text, gone_at IS NOT NULL AS gone, coalesce(expires_at <= clock_timestamp(), false) AS expired
      FROM streams
     WHERE tenant_id = ${tx.tenant} AND path = ANY(${paths}::text[])
     ORDER BY id
       FOR SHARE`)
  const ranges = await rangesOf(
    tx,
    rows.map((row) => row.id as number),
  )
  return new Map(rows.map((row) => [row.path as string, sourceOf(row as unknown as SourceRow, ranges)])) // columns as selected above
}

interface SourceRow {
  readonly id: number
  readonly content_type: string
  readonly tail: number
  readonly ttl_s: number | null
  readonly expires_at_text: string | null
  readonly gone: boolean
  readonly expired: boolean
}

const sourceOf = (row: SourceRow, ranges: ReadonlyMap<number, readonly StorageRange[]>): Source => ({
  id: row.id,
  contentType: row.content_type,
  tail: row.tail,
  ttlS: row.ttl_s,
  expiresAt: row.expires_at_text,
  ranges: ranges.get(row.id) ?? [],
  gone: row.gone,
  expired: row.expired,
})

async function rangesOf(tx: Transaction, ids: readonly number[]): Promise<Map<number, StorageRange[]>> {
  const { rows } = await tx.query(sql`
    SELECT stream_id, storage_id, from_offset, to_offset FROM stream_ranges WHERE stream_id = ANY(${ids}::int8[]) ORDER BY stream_id, to_offset`)
  const ranges = new Map<number, StorageRange[]>()
  for (const row of rows) {
    const range = { storageId: row.storage_id as number, from: row.from_offset as number, to: row.to_offset as number }
    const known = ranges.get(row.stream_id as number)
    if (known === undefined) ranges.set(row.stream_id as number, [range])
    else known.push(range)
  }
  return ranges
}

const keyOf = (cut: { readonly storageId: number; readonly end: number }): string => `${cut.storageId}:${cut.end}`

async function readCuts(tx: Transaction, plans: readonly (ForkPlan | StreamRefusal)[]): Promise<Map<string, Buffer>> {
  const cuts = plans.flatMap((plan) => ('outcome' in plan || plan.cut === null ? [] : [plan.cut]))
  if (cuts.length === 0) return new Map()
  const asked = sql`
    SELECT e.stream_id, e.end_offset, e.data
      FROM (SELECT DISTINCT * FROM unnest(${cuts.map((cut) => cut.storageId)}::int8[], ${cuts.map((cut) => cut.end)}::int8[]) AS c (stream_id, end_offset)) cut
      JOIN stream_entries e ON e.stream_id = cut.stream_id AND e.end_offset = cut.end_offset`
  const { rows } = await tx.query(asked, { binary: true })
  return new Map(rows.map((row) => [keyOf({ storageId: row.stream_id as number, end: row.end_offset as number }), row.data as Buffer]))
}

/** The first `sub` items or bytes; entries are never crossed (spec/14 §3.3). */
function withCut(plan: ForkPlan, cuts: ReadonlyMap<string, Buffer>): PlannedFork | StreamRefusal {
  if (plan.cut === null) return { plan, cut: null }
  const data = cuts.get(keyOf(plan.cut))
  if (data === undefined) return refusals.invalidSubOffset
  const cut = isJsonType(plan.contentType) ? firstItems(data, plan.sub) : firstBytes(data, plan.sub)
  return isPayload(cut) ? { plan, cut } : cut
}

function firstItems(data: Buffer, count: number): Payload | StreamRefusal {
  const items = storedItems(data)
  return count > items.length ? refusals.invalidSubOffset : jsonPayload(items.slice(0, count))
}

const firstBytes = (data: Buffer, count: number): Payload | StreamRefusal =>
  count > data.length ? refusals.invalidSubOffset : bytesPayload(data.subarray(0, count))
