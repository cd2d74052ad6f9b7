/** What makes an entry findable without reading a history: what a fork at an earlier event looks for (docs/decisions/0012). Pure. */
import { completesRun } from './fork/cut.js'
import { snapshotTypes } from './projection.js'

/** Bits of `stream_entries.marks`; never given another meaning. */
export const marks = { projected: 1, completedRun: 2 } as const

const projected: ReadonlySet<unknown> = new Set(snapshotTypes)

/** The marks of an entry with these items. */
export const marksOf = (items: readonly unknown[]): number => items.reduce<number>((sum, item) => sum | markOf(item), 0)

function markOf(item: unknown): number {
  if (typeof item !== 'object' || item === null || !('type' in item)) return 0
  if (projected.has(item.type)) return marks.projected
  return completesRun(item) ? marks.completedRun : 0
}
