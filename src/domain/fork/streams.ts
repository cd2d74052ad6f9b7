/** Where the streams of shared state are. Clients spell an id in a path as it is, or encoded: both are the same state (spec/03 §9.2). */
import type { StreamPath } from '../ids.js'

const prefix = '/_electric/shared-state/'

/** What one segment of a request path can be. */
const isSegment = (text: string): boolean => /^[\x21\x22\x24-\x2e\x30-\x3e\x40-\x7e]+$/.test(text)

const spellings = [encodeURIComponent, (id: string): string => id]

/** The paths at which the shared state `id` may stand. */
export const sharedStateStreams = (id: string): readonly StreamPath[] =>
  [...new Set(spellings.map((spell) => spell(id)).filter(isSegment))].map((segment) => `${prefix}${segment}` as StreamPath)

/** Source and copy in each spelling that both have. */
export function sharedStatePairs(from: string, to: string): readonly { readonly from: StreamPath; readonly path: StreamPath }[] {
  const pairs = spellings.map((spell) => [spell(from), spell(to)] as const).filter((pair) => pair.every(isSegment))
  return [...new Map(pairs)].map(([source, copy]) => ({ from: `${prefix}${source}` as StreamPath, path: `${prefix}${copy}` as StreamPath }))
}
