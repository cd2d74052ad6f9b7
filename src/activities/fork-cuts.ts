/** Where a fork leaves its root, found in the root's history without reading all of it (spec/04 §5–§7). What a history says never changes. */
import { AgentsError, errors } from '../domain/errors.js'
import {
  completesRun,
  cutBehind,
  type ForkCut,
  type ForkPointer,
  isItemCount,
  outOfRange,
  PointerWalk,
  pointerOffset,
  unknownOffset,
} from '../domain/fork/cut.js'
import { keptItems, reducedSnapshot } from '../domain/fork/snapshot.js'
import { type EntityUrl, mainStream, type Offset, zeroOffset } from '../domain/ids.js'
import type { Transaction } from '../registry/database.js'
import type { HistoryReads } from '../streams/store.js'
import type { RootAtCut } from './fork-findings.js'
import type { CheckedFork } from './parts.js'

/** Entries that are read at once: nearly always the pointer lies in the first one. */
const firstPage = 2
const longestPage = 1_024

/** The root as it was at the pointer or anchor; null for a fork at HEAD. */
export async function rootAtCut(tx: Transaction, history: HistoryReads, fork: CheckedFork): Promise<RootAtCut | AgentsError | null> {
  const { pointer, anchor } = fork.item
  if (pointer === undefined && anchor === undefined) return null
  const cut = pointer === undefined ? await anchorCut(tx, history, fork.source) : await pointerCut(tx, history, fork.source, pointer)
  if (cut instanceof AgentsError) return cut
  const items = await history.projectedItems(tx, mainStream(fork.source), cut)
  return { cut, rows: reducedSnapshot(keptItems(items, cut)) }
}

async function pointerCut(tx: Transaction, history: HistoryReads, source: EntityUrl, pointer: ForkPointer): Promise<ForkCut | AgentsError> {
  const start = pointerOffset(pointer)
  if (start === null || pointer.offset === zeroOffset) return unknownOffset(source, pointer)
  const walk = new PointerWalk(start, isItemCount(pointer.subOffset) ? pointer.subOffset : Number.POSITIVE_INFINITY)
  let page = firstPage
  for (let after: Offset = start; ; page = Math.min(page * 4, longestPage)) {
    const read = await history.itemsBehind(tx, mainStream(source), after, page)
    if ('outcome' in read) return errors.ENTITY_GONE()
    if (read.next < after) return unknownOffset(source, pointer) // beyond the tail
    const cut = walk.take(read.events, read.upToDate)
    if (cut !== null) return cut
    if (read.upToDate) return outOfRange(source, pointer, walk.seen)
    after = read.next
  }
}

async function anchorCut(tx: Transaction, history: HistoryReads, source: EntityUrl): Promise<ForkCut | AgentsError> {
  for (let upTo: Offset | null = null; ; ) {
    const found = await history.lastRunEntry(tx, mainStream(source), upTo)
    if (found === null) return errors.FORK_NO_COMPLETED_RUN(mainStream(source))
    const index = found.items.findLastIndex(completesRun)
    if (index >= 0) return cutBehind(index, found.items.length, found.entry, found.before)
    upTo = found.before // marked for nothing, which old marks may be
  }
}
