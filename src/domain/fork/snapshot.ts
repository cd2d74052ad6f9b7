/** The rows that a fork copies, out of a projection or out of the items that a cut keeps (spec/04 §9). Pure. */
import type { JsonObject } from '../entity.js'
import { projectionChanges, type SnapshotType, snapshotTypes, storableKey } from '../projection.js'
import type { ForkCut, PlacedItem } from './cut.js'
import type { SnapshotRow } from './remapping.js'

/** A stored row; `value` is JSON text. */
export function snapshotRow(type: SnapshotType, key: string, value: string): SnapshotRow {
  const parsed = JSON.parse(value) as JsonObject // written by the projection, which takes objects only
  const said = parsed.key
  return { type, key: typeof said === 'string' && storableKey(said) === key ? said : key, value: parsed }
}

/** The last value of each row within the kept items. */
export const reducedSnapshot = (items: readonly PlacedItem[]): readonly SnapshotRow[] =>
  projectionChanges(items).flatMap(({ type, key, value }) =>
    value === null || !isSnapshotType(type) ? [] : [snapshotRow(type, key, value)],
  )

const isSnapshotType = (type: string): type is SnapshotType => snapshotTypes.some((known) => known === type)

/** Of items up to the end of the entry behind `cut.after`, those that the cut keeps. */
export function keptItems(items: readonly PlacedItem[], { after, items: ofNext }: ForkCut): readonly PlacedItem[] {
  const whole = items.filter(({ entry }) => entry <= after)
  const next = items.find(({ entry }) => entry > after)?.entry
  return next === undefined ? whole : [...whole, ...items.filter(({ entry }) => entry === next).slice(0, ofNext)]
}
