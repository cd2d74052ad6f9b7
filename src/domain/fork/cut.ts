/** Where a fork leaves its source's history: pointers, anchors, and the cut that they mean (spec/04 §5, §6). Pure. */

import { type AgentsError, errors } from '../errors.js'
import { type EntityUrl, mainStream, type Offset, parseOffset, zeroOffset } from '../ids.js'
import { isObject } from '../json-shape.js'

/** As a client says it: everything up to and including the `subOffset`-th item behind the entry that ends at `offset`; null is the start. */
export interface ForkPointer {
  readonly offset: string | null
  readonly subOffset: number
}

export const forkAnchors = ['latest_completed_run'] as const
export type ForkAnchor = (typeof forkAnchors)[number]

/** As the stream layer can do it: whole entries up to `after`, and of the next one the first `items` (0: nothing). */
export interface ForkCut {
  readonly after: Offset
  readonly items: number
}

/** Items of a history in their order; `entry` is the end of the log entry that holds the item. */
export interface PlacedItem {
  readonly entry: Offset
  readonly item: unknown
}

/** Whether a pointer's count can be one at all; how far it may go, only the history tells. */
export const isItemCount = (subOffset: number): boolean => Number.isSafeInteger(subOffset) && subOffset >= 1

/** The offset that a pointer names, or null where no entry can end there. */
export const pointerOffset = ({ offset }: ForkPointer): Offset | null => (offset === null ? zeroOffset : parseOffset(offset))

export const unknownOffset = (url: EntityUrl, { offset }: ForkPointer): AgentsError =>
  errors.FORK_POINTER_UNKNOWN(String(offset).slice(0, 100), mainStream(url))

export const outOfRange = (url: EntityUrl, { subOffset }: ForkPointer, available: number): AgentsError =>
  errors.FORK_POINTER_OUT_OF_RANGE(String(subOffset), mainStream(url), available)

/**
 * Counts items behind a pointer's offset, page by page, until the wanted one is reached. A count that runs beyond its entry is translated: the
 * stream layer cuts inside of one entry only. A cut behind the last item of an entry takes that entry whole, offset and all.
 */
export class PointerWalk {
  readonly #wanted: number
  /** Ends of the entry before the one that is being counted, and of that one. */
  #before: Offset
  #entry: Offset | null = null
  #inEntry = 0
  #seen = 0
  /** The wanted item was the last one seen: whether its entry has more decides the cut. */
  #reached = false

  constructor(after: Offset, wanted: number) {
    this.#before = after
    this.#wanted = wanted
  }

  /** Items passed so far. */
  get seen(): number {
    return this.#seen
  }

  /** The cut, once it is known; `isLast`: nothing follows these items. */
  take(items: readonly PlacedItem[], isLast: boolean): ForkCut | null {
    for (const { entry } of items) {
      if (this.#reached) return entry === this.#entry ? this.#inside() : this.#whole()
      this.#step(entry)
    }
    return this.#reached && isLast ? this.#whole() : null
  }

  #step(entry: Offset): void {
    if (entry !== this.#entry) {
      if (this.#entry !== null) this.#before = this.#entry
      this.#entry = entry
      this.#inEntry = 0
    }
    this.#inEntry += 1
    this.#seen += 1
    this.#reached = this.#seen === this.#wanted
  }

  #inside(): ForkCut {
    return { after: this.#before, items: this.#inEntry }
  }

  #whole(): ForkCut {
    return { after: this.#entry ?? this.#before, items: 0 }
  }
}

/** The cut behind item `index` of the entry that ends at `entry` and holds `items` items; `before` ends the entry before it. */
export const cutBehind = (index: number, items: number, entry: Offset, before: Offset): ForkCut =>
  index + 1 === items ? { after: entry, items: 0 } : { after: before, items: index + 1 }

/** Whether an item is one that the anchor `latest_completed_run` looks for. */
export function completesRun(item: unknown): boolean {
  if (!isObject(item) || item.type !== 'run') return false
  const { headers, value } = item
  if (isObject(headers) && headers.operation === 'delete') return false
  return isObject(value) && value.status === 'completed'
}
