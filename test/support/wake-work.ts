/**
 * What one wake has to do and has taken of its entity's stream (spec/06 §12 steps 5, 6, 8).
 *
 * Events are taken in the order of the stream, whole reads at a time: `#next` only grows, and all that lies below it was handed out or is no work.
 */
import type { EntityTail } from './entity-tail.js'
import { firstFresh, isEmpty, queueIn, type Row, workIn } from './freshness.js'
import type { StreamEvent } from './wake.js'

export interface Pass {
  /** `inbox`, `wake`, or the trigger of a wake whose stream holds nothing fresh. */
  readonly wakeType: string
  readonly messages: readonly StreamEvent[]
  readonly wakes: readonly StreamEvent[]
  readonly fresh: readonly StreamEvent[]
}

export class WakeWork {
  readonly #tail: EntityTail
  readonly #promote: (row: Row) => void
  readonly #freshStart: number
  readonly #promoted = new Set<string>()
  #next: number
  #takesFromQueue = false

  constructor(tail: EntityTail, from: string, promote: (row: Row) => void) {
    this.#tail = tail
    this.#promote = promote
    this.#freshStart = firstFresh(tail.events, from)
    this.#next = this.#freshStart
  }

  /** All that is fresh, taken or not. */
  get fresh(): readonly StreamEvent[] {
    return this.#tail.events.slice(this.#freshStart)
  }

  /** From now on waiting messages get their turns. */
  openQueue(): void {
    this.#takesFromQueue = true
  }

  hasMore(): boolean {
    return (this.#takesFromQueue && this.#queue().length > 0) || !isEmpty(workIn(this.#untaken(), this.#tail.events))
  }

  /** What the handler is called with next; everything read so far is taken by it. */
  nextPass(): Pass | 'queue is paused' | undefined {
    const fresh = this.#untaken()
    const { messages, wakes, queues } = workIn(fresh, this.#tail.events)
    this.#next = this.#tail.events.length
    this.#takesFromQueue ||= queues || messages.length > 0 || wakes.length > 0
    if (messages.length > 0) return { wakeType: 'inbox', messages, wakes, fresh }
    if (wakes.length > 0) return { wakeType: 'wake', messages, wakes, fresh }
    const head = this.#takesFromQueue ? this.#queue()[0] : undefined
    if (head === undefined) return undefined
    if (head.value.mode === 'paused') return 'queue is paused'
    this.#promoted.add(head.key)
    this.#promote(head)
    return { wakeType: 'inbox', messages: [head.made], wakes: [], fresh: [head.made] }
  }

  /**
   * The highest offset that may be acknowledged: of what was taken and of the own writes, the last of which ended at `written`, but below
   * the first message or wake that was not taken. With `leavesQueue` also below waiting messages: somebody else may take them at once.
   */
  takenOffset(written: string | undefined, { leavesQueue }: { readonly leavesQueue: boolean }): string | undefined {
    const { messages, wakes } = workIn(this.#untaken(), this.#tail.events)
    const waiting = leavesQueue ? this.#queue().map(({ made }) => made) : []
    const limit = [...messages, ...wakes, ...waiting].map(({ headers }) => headers.offset).sort()[0]
    const taken = this.#tail.events.slice(this.#freshStart, this.#next).map(({ headers }) => headers.offset)
    return [...taken, ...(written === undefined ? [] : [written])]
      .filter((offset) => limit === undefined || offset < limit)
      .sort()
      .at(-1)
  }

  #untaken(): readonly StreamEvent[] {
    return this.#tail.events.slice(this.#next)
  }

  /** Own promotions come back from the stream only later. */
  #queue(): readonly Row[] {
    return queueIn(this.#tail.events).filter(({ key }) => !this.#promoted.has(key))
  }
}
