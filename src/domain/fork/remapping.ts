/** What changes in a copy because its neighbours are copies too: arguments, manifest rows, child statuses, watermarks (spec/04 §12, §16). Pure. */

import type { Json, JsonObject } from '../entity.js'
import { type EntityUrl, mainStream, typeOf } from '../ids.js'
import { isObject } from '../json-shape.js'
import type { SnapshotType } from '../projection.js'
import { isSharedStateId } from '../shared-state.js'
import { instanceIdOf } from './names.js'

/** Old → new: entities, and shared states by id. */
export interface Renames {
  readonly entities: ReadonlyMap<string, EntityUrl>
  readonly sharedStates: ReadonlyMap<string, string>
}

/** Every string that is replaced where a value is exactly equal to it (spec/04 §12). */
export function renamedStrings({ entities, sharedStates }: Renames): ReadonlyMap<string, string> {
  const strings = new Map<string, string>()
  for (const [from, to] of sharedStates) {
    strings.set(from, to)
    strings.set(sharedStatePrefix + from, sharedStatePrefix + to)
  }
  for (const [from, to] of entities) {
    strings.set(from, to)
    strings.set(`${from}/main`, mainStream(to))
  }
  return strings
}

const sharedStatePrefix = '/_electric/shared-state/'

/** A deep copy with every equal string value replaced; keys and parts of strings stay. */
export function remapped<Value extends Json>(value: Value, strings: ReadonlyMap<string, string>): Value {
  return remap(value, strings) as Value // strings stay strings, trees keep their shape
}

function remap(value: Json, strings: ReadonlyMap<string, string>): Json {
  if (typeof value === 'string') return strings.get(value) ?? value
  if (Array.isArray(value)) return value.map((item: Json) => remap(item, strings))
  if (!isObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, remap(member, strings)]))
}

/** A row of a snapshot. */
export interface SnapshotRow {
  readonly type: SnapshotType
  readonly key: string
  readonly value: JsonObject
}

/** What a row becomes in the copy: its new self, or null where nothing changes. */
export function renamedRow(row: SnapshotRow, renames: Renames, strings: ReadonlyMap<string, string>): SnapshotRow | null {
  switch (row.type) {
    case 'manifest':
      return renamedManifest(row, renames)
    case 'child_status':
      return renamedChildStatus(row, renames)
    case 'replay_watermark':
      return renamedWatermark(row, strings)
    default:
      return row.type satisfies never
  }
}

function renamedManifest(row: SnapshotRow, renames: Renames): SnapshotRow | null {
  switch (row.value.kind) {
    case 'child':
      return renamedChild(row, renames)
    case 'shared-state':
      return renamedSharedState(row, renames)
    case 'source':
      return renamedSource(row, renames)
    case 'attachment':
      return renamedAttachment(row, renames)
    case 'schedule':
      return renamedSchedule(row, renames)
    default:
      return null
  }
}

const text = (value: Json | undefined): string | null => (typeof value === 'string' ? value : null)

/** The row under a new key, which its value repeats. */
const moved = (row: SnapshotRow, key: string, changes: JsonObject): SnapshotRow => ({
  ...row,
  key,
  value: { ...row.value, ...changes, key },
})
const changed = (row: SnapshotRow, changes: JsonObject): SnapshotRow => ({ ...row, value: { ...row.value, ...changes } })

const renamedEntity = (url: Json | undefined, { entities }: Renames): EntityUrl | null => {
  const from = text(url)
  return from === null ? null : (entities.get(from) ?? null)
}

function renamedChild(row: SnapshotRow, renames: Renames): SnapshotRow | null {
  const to = renamedEntity(row.value.entity_url, renames)
  if (to === null) return null
  const id = instanceIdOf(to)
  return moved(row, `child:${text(row.value.entity_type) ?? typeOf(to)}:${id}`, { id, entity_url: to })
}

function renamedSharedState(row: SnapshotRow, { sharedStates }: Renames): SnapshotRow | null {
  const to = sharedStates.get(text(row.value.id) ?? '')
  return to === undefined ? null : moved(row, `shared-state:${to}`, { id: to })
}

function renamedSource(row: SnapshotRow, renames: Renames): SnapshotRow | null {
  const { sourceType, sourceRef, config } = row.value
  const options = isObject(config) ? config : {}
  if (sourceType === 'entity') {
    const to = renamedEntity(text(options.entityUrl) ?? sourceRef, renames)
    if (to === null) return null
    const newConfig = { ...options, entityUrl: to, streamPath: mainStream(to), entityType: typeOf(to) }
    return moved(row, `source:entity:${to}`, { sourceRef: to, config: newConfig })
  }
  if (sourceType !== 'db') return null
  const to = renames.sharedStates.get(text(sourceRef) ?? text(options.id) ?? '')
  return to === undefined ? null : moved(row, `source:db:${to}`, { sourceRef: to, config: { ...options, id: to } })
}

function renamedAttachment(row: SnapshotRow, renames: Renames): SnapshotRow | null {
  const [owner, rest] = ownerOfAttachment(text(row.value.streamPath) ?? '')
  const to = renamedEntity(owner, renames)
  return to === null ? null : changed(row, { streamPath: `${to}/attachments/${rest}` })
}

/** `/<type>/<id>` of `/<type>/<id>/attachments/…`, and what follows. */
function ownerOfAttachment(path: string): readonly [string, string] {
  const [, owner = '', rest = ''] = /^(\/[^/]+\/[^/]+)\/attachments\/(.*)$/s.exec(path) ?? []
  return [owner, rest]
}

function renamedSchedule(row: SnapshotRow, renames: Renames): SnapshotRow | null {
  if (row.value.scheduleType !== 'future_send') return null
  const targetUrl = renamedEntity(row.value.targetUrl, renames)
  const senderUrl = renamedEntity(row.value.senderUrl, renames)
  if (targetUrl === null && senderUrl === null) return null
  return changed(row, { ...(targetUrl === null ? {} : { targetUrl }), ...(senderUrl === null ? {} : { senderUrl }) })
}

function renamedChildStatus(row: SnapshotRow, renames: Renames): SnapshotRow | null {
  const to = renamedEntity(row.value.entity_url, renames)
  return to === null ? null : changed(row, { entity_url: to, entity_type: typeOf(to) })
}

/** Offsets go on where the source's were cut, so the watermark's stays valid. */
function renamedWatermark(row: SnapshotRow, strings: ReadonlyMap<string, string>): SnapshotRow | null {
  const from = text(row.value.source_id)
  const to = from === null ? undefined : strings.get(from)
  if (to === undefined) return null
  const value = { ...row.value, source_id: to }
  if (row.key !== from) return { ...row, value }
  return { ...row, key: to, value: 'key' in value ? { ...value, key: to } : value }
}

/** Shared states that a row names (spec/04 §9). */
export function sharedStatesOf({ type, value }: SnapshotRow): readonly string[] {
  if (type !== 'manifest') return []
  if (value.kind === 'shared-state') return strings([value.id])
  if (value.kind !== 'source' || value.sourceType !== 'db') return []
  return strings([value.sourceRef, isObject(value.config) ? value.config.id : undefined])
}

const strings = (values: readonly (Json | undefined)[]): readonly string[] =>
  values.filter((value): value is string => typeof value === 'string' && isSharedStateId(value))

/** The child that a row says is there, or null. */
export const childOf = ({ type, value }: SnapshotRow): string | null =>
  type === 'manifest' && value.kind === 'child' ? text(value.entity_url) : null

/** The attachment whose stream a row names: id and path. */
export function attachmentOf({ type, value }: SnapshotRow): { readonly id: string; readonly path: string } | null {
  const id = text(value.id)
  const path = text(value.streamPath)
  return type === 'manifest' && value.kind === 'attachment' && id !== null && path !== null ? { id, path } : null
}
