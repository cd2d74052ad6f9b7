/**
 * Group commit: many callers, one durable operation at a time.
 *
 * G1  An item is in exactly one batch; its promise settles exactly once, with that batch's verdict for it.
 * G2  A lone caller waits for nobody: an idle lane starts in the tick in which the item arrives. With `gathers` it starts when that tick ends, and
 *     takes along what else was asked in it.
 * G3  Memory is bounded: at most `maxWaiting` items wait, beyond that `add` refuses.
 * G4  A batch is bounded in items and in weight; one item heavier than the bound travels alone.
 * G5  Items leave in the order in which they came; with one lane, batches also commit in that order.
 *
 * A crash loses the promises and nothing else: what a batch did is durable, or undone by whoever carries it out.
 */
import type { Turns } from './turns.js'

export interface GroupCommitOptions<Item> {
  /** Most items in a batch. */
  readonly maxBatch: number
  /** Most items that wait for a batch. */
  readonly maxWaiting: number
  /** Batches in flight at once. */
  readonly lanes?: number
  /** Whether what one caller asks for at once leaves together (G2). */
  readonly gathers?: boolean
  /** Shared with others whose batches are the same database's work: a lane begins when its turn comes. */
  readonly turns?: Turns
  /** Most weight in a batch, in the unit of `weigh`. */
  readonly maxWeight?: number
  readonly weigh?: (item: Item) => number
  /** The refusal when the queue is full (G3). */
  readonly overloaded: () => Error
  /** Told of each batch as it leaves. */
  readonly observe?: BatchObserver
}

/** Items of a batch, and how long the first of them waited for it. */
export type BatchObserver = (batch: { readonly items: number; readonly waitedMs: number }) => void

interface Waiting<Item, Verdict> {
  readonly item: Item
  readonly weight: number
  /** Of `performance.now()`; 0 where nobody observes. */
  readonly since: number
  readonly resolve: (verdict: Verdict) => void
  readonly reject: (failure: unknown) => void
}

export class GroupCommit<Item, Verdict> {
  readonly #commit: (items: readonly Item[]) => Promise<readonly Verdict[]>
  readonly #options: GroupCommitOptions<Item>
  #waiting: Waiting<Item, Verdict>[] = []
  #first = 0
  #busyLanes = 0
  #idle: (() => void)[] = []

  /** `commit` answers one verdict per item, in the order of the items; if it rejects, every item of the batch is rejected with it. */
  constructor(commit: (items: readonly Item[]) => Promise<readonly Verdict[]>, options: GroupCommitOptions<Item>) {
    this.#commit = commit
    this.#options = options
  }

  get waiting(): number {
    return this.#waiting.length - this.#first
  }

  add(item: Item): Promise<Verdict> {
    if (this.waiting >= this.#options.maxWaiting) return Promise.reject(this.#options.overloaded()) // G3
    return new Promise<Verdict>((resolve, reject) => {
      this.#waiting.push({
        item,
        weight: this.#options.weigh?.(item) ?? 0,
        since: this.#options.observe === undefined ? 0 : performance.now(),
        resolve,
        reject,
      })
      this.#startLane() // G2
    })
  }

  /** Resolves when nothing waits and nothing is in flight. */
  async drained(): Promise<void> {
    if (this.#busyLanes === 0) return
    await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  #startLane(): void {
    if (this.#busyLanes >= (this.#options.lanes ?? 1) || this.waiting === 0) return
    this.#busyLanes += 1
    if (this.#options.gathers) process.nextTick(() => this.#nextTurn())
    else this.#nextTurn()
  }

  #nextTurn(): void {
    if (this.#options.turns === undefined) this.#carry(this.#nextBatch(), () => undefined)
    else this.#options.turns.take((over) => this.#carry(this.#nextBatch(), over))
  }

  #carry(batch: readonly Waiting<Item, Verdict>[], over: () => void): void {
    const ended = () => {
      over()
      this.#laneFree()
    }
    this.#settled(batch).then(ended, ended)
  }

  #laneFree(): void {
    if (this.waiting > 0) {
      this.#nextTurn()
      return
    }
    this.#busyLanes -= 1
    if (this.#busyLanes > 0) return
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  async #settled(batch: readonly Waiting<Item, Verdict>[]): Promise<void> {
    this.#options.observe?.({ items: batch.length, waitedMs: performance.now() - (batch[0]?.since ?? 0) })
    try {
      const verdicts = await this.#commit(batch.map((waiting) => waiting.item))
      if (verdicts.length !== batch.length) throw new Error(`a batch of ${batch.length} answered ${verdicts.length} verdicts`)
      for (const [index, waiting] of batch.entries()) waiting.resolve(verdicts[index] as Verdict)
    } catch (failure) {
      for (const waiting of batch) waiting.reject(failure)
    }
  }

  /** G4, G5. */
  #nextBatch(): readonly Waiting<Item, Verdict>[] {
    const { maxBatch, maxWeight = Number.POSITIVE_INFINITY } = this.#options
    let end = this.#first
    let weight = 0
    while (end < this.#waiting.length && end - this.#first < maxBatch) {
      weight += this.#waiting[end]?.weight ?? 0
      if (weight > maxWeight && end > this.#first) break
      end += 1
    }
    const batch = this.#waiting.slice(this.#first, end)
    this.#first = end
    if (this.#first === this.#waiting.length || this.#first > 1_024) {
      this.#waiting = this.#waiting.slice(this.#first)
      this.#first = 0
    }
    return batch
  }
}
