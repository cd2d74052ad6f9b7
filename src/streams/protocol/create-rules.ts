/** Rules of PUT (spec/14 §2.1, §3.1–§3.3): configuration, expiry, and what a fork shows of its source. Pure. */
import { parseOffset, positionOf } from '../../domain/ids.js'
import type { CreateRequest, ForkRequest, StreamRefusal } from '../store.js'
import { sameMediaType } from './media-type.js'
import * as refusals from './refusals.js'

/** An existing stream as far as a repeated PUT compares it. */
export interface StreamConfiguration {
  readonly contentType: string
  readonly closed: boolean
  readonly ttlS: number | null
  readonly expiresAt: string | null
  readonly fork: { readonly from: string; readonly offset: number; readonly sub: number } | null
}

const instant = (text: string): number => Date.parse(text)

const rfc3339 = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/

export const isInstant = (text: string): boolean => rfc3339.test(text) && !Number.isNaN(instant(text))

/** Whether a PUT asks for what stands there already: 200, else 409. The body is not looked at. */
export function sameConfiguration(
  existing: StreamConfiguration,
  request: CreateRequest & { readonly contentType: string | undefined },
): boolean {
  if (existing.closed !== (request.closed ?? false)) return false
  if (request.fork !== undefined) return sameFork(existing, request, request.fork)
  if (existing.fork !== null) return false
  return sameMediaType(existing.contentType, request.contentType ?? 'application/octet-stream') && sameExpiry(existing, request)
}

/** What a fork request leaves out was inherited, and matches (spec/14 §3.2). */
function sameFork(existing: StreamConfiguration, request: CreateRequest, wanted: ForkRequest): boolean {
  const { fork } = existing
  if (fork === null || fork.from !== wanted.from || fork.sub !== (wanted.subOffset ?? 0)) return false
  if (wanted.offset !== undefined && positionOfText(wanted.offset) !== fork.offset) return false
  if (request.contentType !== undefined && !sameMediaType(existing.contentType, request.contentType)) return false
  const inheritsExpiry = request.ttlS === undefined && request.expiresAt === undefined
  return inheritsExpiry || sameExpiry(existing, request)
}

function sameExpiry(existing: StreamConfiguration, request: CreateRequest): boolean {
  if ((request.ttlS ?? null) !== existing.ttlS) return false
  if (request.expiresAt === undefined || existing.expiresAt === null) return (request.expiresAt ?? null) === existing.expiresAt
  return instant(request.expiresAt) === instant(existing.expiresAt)
}

function positionOfText(text: string): number {
  const offset = parseOffset(text)
  return offset === null ? Number.MAX_SAFE_INTEGER : positionOf(offset)
}

/** Entries of `storageId` with from < end ≤ to. */
export interface StorageRange {
  readonly storageId: number
  readonly from: number
  readonly to: number
}

/** A stream that is to be forked: its own entries follow `ranges`. */
export interface ForkSource {
  readonly id: number
  readonly contentType: string
  readonly tail: number
  readonly ttlS: number | null
  readonly expiresAt: string | null
  readonly ranges: readonly StorageRange[]
}

export interface ForkPlan {
  readonly sourceId: number
  readonly contentType: string
  readonly ttlS: number | null
  readonly expiresAt: string | null
  readonly offset: number
  readonly sub: number
  readonly ranges: readonly StorageRange[]
  /** The entry of which only a part is taken, wherever it is stored. */
  readonly cut: { readonly storageId: number; readonly end: number } | null
}

const allRanges = (source: ForkSource): readonly StorageRange[] => {
  const inherited = source.ranges.at(-1)?.to ?? 0
  return [...source.ranges, { storageId: source.id, from: inherited, to: source.tail }]
}

export function planFork(source: ForkSource, request: CreateRequest, fork: ForkRequest): ForkPlan | StreamRefusal {
  if (request.contentType !== undefined && !sameMediaType(source.contentType, request.contentType)) return refusals.sourceTypeMismatch
  const offset = fork.offset === undefined ? source.tail : positionOfText(fork.offset)
  if (offset > source.tail) return refusals.forkBeyondSource
  const sub = fork.subOffset ?? 0
  const visible = allRanges(source)
  const cutFrom = sub === 0 ? undefined : visible.find((range) => range.from <= offset && offset < range.to)
  if (sub > 0 && cutFrom === undefined) return refusals.invalidSubOffset
  const inheritsExpiry = request.ttlS === undefined && request.expiresAt === undefined
  return {
    sourceId: source.id,
    contentType: request.contentType ?? source.contentType,
    ttlS: inheritsExpiry ? source.ttlS : (request.ttlS ?? null),
    expiresAt: inheritsExpiry ? source.expiresAt : (request.expiresAt ?? null),
    offset,
    sub,
    ranges: visible
      .filter((range) => range.from < Math.min(range.to, offset))
      .map((range) => ({ ...range, to: Math.min(range.to, offset) })),
    cut: cutFrom === undefined ? null : { storageId: cutFrom.storageId, end: offset + 1 },
  }
}
