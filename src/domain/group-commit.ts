/**
 * Group commit: many callers, one durable operation at a time.
 *
 * G1  An item is in exactly one batch; its promise settles exactly once, with that batch's verdict for it.
 * G2  A lone caller waits for nobody: an idle lane starts in the tick in which the item arrives. With `gathers` it starts when that tick ends, and
 *     takes along what else was asked in it.
 * G3  Memory is bounded: at most `maxWaiting` items wait, beyond that `add` refuses.
 * G4  A batch is bounded in items and in weight; one item heavier than the bound travels alone.
 * G5  Items leave in the order in which they came; with one lane, batches also commit in that order.
 * G6  A batch that takes longer than `overtaking.afterMs`, as where somebody holds what one of its items needs, is overtaken by what has come behind it,
 *     but for items about the same thing (`about`): those keep their order, and wait.
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
  /** G6; default: no batch is overtaken. */
  readonly overtaking?: Overtaking<Item>
  /** The refusal when the queue is full (G3). */
  readonly overloaded: () => Error
  /** Told of each batch as it leaves. */
  readonly observe?: BatchObserver
}

/** Items of a batch, and how long the first of them waited for it. */
export type BatchObserver = (batch: { readonly items: number; readonly waitedMs: number }) => void

export interface Overtaking<Item> {
  readonly afterMs: number
  /** Batches at once that are slow; what comes behind so many waits. */
  readonly most: number
  readonly about: (item: Item) => string
}

/** Of batches whose items may wait for row locks that somebody else holds. */
export const overtakingBy = <Item>(about: (item: Item) => string): Overtaking<Item> => ({ afterMs: 250, most: 4, about })

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
  #slowLanes = 0
  /** G6. What the batches in flight are about, and what waits for the end of one of them. */
  readonly #inFlight = new Set<string>()
  readonly #kept = new Map<string, Waiting<Item, Verdict>[]>()
  #keptItems = 0
  #idle: (() => void)[] = []

  /** `commit` answers one verdict per item, in the order of the items; if it rejects, every item of the batch is rejected with it. */
  constructor(commit: (items: readonly Item[]) => Promise<readonly Verdict[]>, options: GroupCommitOptions<Item>) {
    this.#commit = commit
    this.#options = options
  }

  get waiting(): number {
    return this.#waiting.length - this.#first + this.#keptItems
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
    if (this.#busyLanes >= (this.#options.lanes ?? 1) + this.#slowLanes || this.#waiting.length === this.#first) return
    this.#busyLanes += 1
    if (this.#options.gathers) process.nextTick(() => this.#nextTurn())
    else this.#nextTurn()
  }

  #nextTurn(): void {
    if (this.#options.turns === undefined) this.#carry(this.#nextBatch(), () => undefined)
    else this.#options.turns.take((over) => this.#carry(this.#nextBatch(), over))
  }

  #carry(batch: readonly Waiting<Item, Verdict>[], over: () => void): void {
    const leave = this.#enter(batch)
    const ended = () => {
      over()
      leave()
      this.#laneFree()
    }
    if (batch.length === 0) ended()
    else this.#settled(batch).then(ended, ended)
  }

  /** G6. What is returned is to be called when the batch has ended. */
  #enter(batch: readonly Waiting<Item, Verdict>[]): () => void {
    const { overtaking } = this.#options
    if (overtaking === undefined || batch.length === 0) return () => undefined
    const subjects = batch.map(({ item }) => overtaking.about(item))
    for (const subject of subjects) this.#inFlight.add(subject)
    let isSlow = false
    const patience = setInterval(() => {
      if (this.#slowLanes >= overtaking.most) return
      clearInterval(patience)
      isSlow = true
      this.#slowLanes += 1
      this.#startLane()
    }, overtaking.afterMs)
    return () => {
      clearInterval(patience)
      if (isSlow) this.#slowLanes -= 1
      for (const subject of subjects) this.#release(subject)
    }
  }

  /** G6. What was kept waiting comes before what has come since. */
  #release(subject: string): void {
    this.#inFlight.delete(subject)
    const kept = this.#kept.get(subject)
    if (kept === undefined) return
    this.#kept.delete(subject)
    this.#keptItems -= kept.length
    this.#waiting = [...kept, ...this.#waiting.slice(this.#first)]
    this.#first = 0
  }

  #laneFree(): void {
    const isSpare = this.#busyLanes > (this.#options.lanes ?? 1) + this.#slowLanes // of a slow batch that is over
    if (!isSpare && this.#waiting.length > this.#first) {
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
    const batch: Waiting<Item, Verdict>[] = []
    let weight = 0
    for (; this.#first < this.#waiting.length && batch.length < maxBatch; this.#first += 1) {
      const next = this.#waiting[this.#first] as Waiting<Item, Verdict> // within its bounds
      if (this.#keeps(next)) continue
      weight += next.weight
      if (weight > maxWeight && batch.length > 0) break
      batch.push(next)
    }
    if (this.#first === this.#waiting.length || this.#first > 1_024) {
      this.#waiting = this.#waiting.slice(this.#first)
      this.#first = 0
    }
    return batch
  }

  /** G6. */
  #keeps(waiting: Waiting<Item, Verdict>): boolean {
    const { overtaking } = this.#options
    if (overtaking === undefined || this.#inFlight.size === 0) return false
    const subject = overtaking.about(waiting.item)
    if (!this.#inFlight.has(subject)) return false
    const kept = this.#kept.get(subject)
    if (kept === undefined) this.#kept.set(subject, [waiting])
    else kept.push(waiting)
    this.#keptItems += 1
    return true
  }
}
