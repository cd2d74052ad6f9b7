/** Which rows an append leaves in the projection of a main stream: pure, idempotent by (stream, entry) (design §4). */
import { createHash } from 'node:crypto'
import type { Offset } from './ids.js'

export const projectedTypes = ['manifest', 'child_status', 'replay_watermark', 'run'] as const
/** Of these a fork copies the rows: runs belong to the past that it inherits (spec/04 §9). */
export const snapshotTypes = ['manifest', 'child_status', 'replay_watermark'] as const satisfies readonly (typeof projectedTypes)[number][]
export type SnapshotType = (typeof snapshotTypes)[number]

export type ProjectedType = (typeof projectedTypes)[number]

export interface ProjectionChange {
  readonly type: ProjectedType
  readonly key: string
  /** The value as JSON text; null removes the row. */
  readonly value: string | null
  readonly entry: Offset
}

interface EventLike {
  readonly type?: unknown
  readonly key?: unknown
  readonly value?: unknown
  readonly headers?: { readonly operation?: unknown }
}

const isEvent = (item: unknown): item is EventLike => typeof item === 'object' && item !== null && !Array.isArray(item)

/** Whether a row may be drawn from the event: of the others nothing is asked after they have been judged. */
export const isProjected = (item: unknown): boolean => isEvent(item) && projectedTypes.some((known) => known === item.type)

/** Bytes of UTF-8: a key stands in an index, beside the URL of its entity. */
const maxKeyBytes = 1_100

/** Postgres text holds neither U+0000 nor lone surrogates; such a key is kept as JSON text. What its index does not hold ends in a hash. */
export function storableKey(key: string): string {
  const text = key.isWellFormed() && !key.includes('\0') ? key : JSON.stringify(key)
  if (Buffer.byteLength(text) <= maxKeyBytes) return text
  return `${text.slice(0, 100).toWellFormed()}:${createHash('sha256').update(text).digest('hex')}`
}

/** Of runs only those that are under way are kept. */
const isOver = (type: ProjectedType, value: unknown): boolean =>
  type === 'run' && !(typeof value === 'object' && value !== null && 'status' in value && value.status === 'started')

/** The last change of each row. The server's own reductions replace whole values, `delete` removes (spec/01 §6.2). */
export function projectionChanges(events: readonly { readonly entry: Offset; readonly item: unknown }[]): ProjectionChange[] {
  const last = new Map<string, ProjectionChange>()
  for (const { entry, item } of events) {
    if (!isEvent(item) || typeof item.key !== 'string') continue
    const type = projectedTypes.find((known) => known === item.type)
    if (type === undefined) continue
    const removes = item.headers?.operation === 'delete' || isOver(type, item.value)
    if (!removes && !isEvent(item.value)) continue // no row: readers and forks pass over it (spec/04 §9)
    const key = storableKey(item.key)
    last.set(`${type} ${key}`, { type, key, value: removes ? null : JSON.stringify(item.value), entry })
  }
  return [...last.values()]
}
