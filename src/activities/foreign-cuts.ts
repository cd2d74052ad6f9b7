/** Where a fork leaves its root, with a foreign stream server: it has no marks, so the root's history is read up to there, page by page. */
import { AgentsError, errors } from '../domain/errors.js'
import {
  completesRun,
  cutBehind,
  type ForkCut,
  type ForkPointer,
  isItemCount,
  outOfRange,
  type PlacedItem,
  PointerWalk,
  pointerOffset,
  unknownOffset,
} from '../domain/fork/cut.js'
import { reducedSnapshot } from '../domain/fork/snapshot.js'
import { type EntityUrl, mainStream, type Offset, zeroOffset } from '../domain/ids.js'
import { marks, marksOf } from '../domain/marks.js'
import type { StreamStore } from '../streams/store.js'
import type { RootAtCut } from './fork-findings.js'
import type { CheckedFork } from './parts.js'

const itemsPerPage = 1_000

/** The root as it was at the pointer or anchor; null for a fork at HEAD. */
export async function foreignRootAtCut(store: StreamStore, { source, item }: CheckedFork): Promise<RootAtCut | AgentsError | null> {
  const { pointer, anchor } = item
  if (pointer === undefined && anchor === undefined) return null
  const cut = pointer === undefined ? await anchorCut(store, source) : await pointerCut(store, source, pointer)
  return cut instanceof AgentsError ? cut : { cut, rows: reducedSnapshot(await projectedBefore(store, source, cut)) }
}

/** The history of `source`, page by page. */
async function* pagesOf(
  store: StreamStore,
  source: EntityUrl,
): AsyncGenerator<{ readonly items: readonly PlacedItem[]; readonly isLast: boolean }> {
  for (let after: Offset = zeroOffset; ; ) {
    const read = await store.readEvents(mainStream(source), after, itemsPerPage)
    if ('outcome' in read) throw errors.ENTITY_GONE()
    yield { items: read.events, isLast: read.upToDate }
    if (read.upToDate) return
    after = read.next
  }
}

async function pointerCut(store: StreamStore, source: EntityUrl, pointer: ForkPointer): Promise<ForkCut | AgentsError> {
  const start = pointerOffset(pointer)
  if (start === null || pointer.offset === zeroOffset) return unknownOffset(source, pointer)
  const walk = new PointerWalk(start, isItemCount(pointer.subOffset) ? pointer.subOffset : Number.POSITIVE_INFINITY)
  let isKnown = start === zeroOffset
  for await (const { items, isLast } of pagesOf(store, source)) {
    isKnown ||= items.some(({ entry }) => entry === start)
    const behind = items.filter(({ entry }) => entry > start)
    const cut = walk.take(behind, isLast)
    if (cut !== null && isKnown) return cut
    if (behind.length > 0 && !isKnown) break
  }
  return isKnown ? outOfRange(source, pointer, walk.seen) : unknownOffset(source, pointer)
}

async function anchorCut(store: StreamStore, source: EntityUrl): Promise<ForkCut | AgentsError> {
  let before: Offset = zeroOffset
  let entry: Offset = zeroOffset
  let inEntry = 0
  let found: { readonly entry: Offset; readonly before: Offset; readonly index: number; items: number } | null = null
  for await (const { items } of pagesOf(store, source)) {
    for (const placed of items) {
      if (placed.entry !== entry) {
        before = entry
        entry = placed.entry
        inEntry = 0
      }
      inEntry += 1
      if (completesRun(placed.item)) found = { entry, before, index: inEntry - 1, items: inEntry }
      else if (found?.entry === entry) found.items = inEntry
    }
  }
  if (found === null) return errors.FORK_NO_COMPLETED_RUN(mainStream(source))
  return cutBehind(found.index, found.items, found.entry, found.before)
}

/** What the cut keeps of manifest rows, child statuses and watermarks. */
async function projectedBefore(store: StreamStore, source: EntityUrl, cut: ForkCut): Promise<readonly PlacedItem[]> {
  const kept: PlacedItem[] = []
  let ofNext = 0
  for await (const { items } of pagesOf(store, source)) {
    for (const placed of items) {
      if (placed.entry > cut.after) ofNext += 1
      if (ofNext > cut.items) return kept
      if ((marksOf([placed.item]) & marks.projected) !== 0) kept.push(placed)
    }
  }
  return kept
}
