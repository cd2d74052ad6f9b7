/**
 * Work in lanes, one for each origin: at most `perOrigin` at once in a lane and `most` in all, first come first served within a lane.
 *
 * R0  A place that becomes free goes to the lanes in turns, of those that wait and may have it: however many a few lanes have under way, none waits longer
 *     than one work takes.
 * R1  Few works of a lane are fresh at once: begun without a credit. Each that ends in time leaves a credit to one that begins within `creditMs`.
 *     So a lane has more under way with each round of answers, and one whose works are slow stays with few. A credit stands for a connection that has
 *     served and is kept alive: a Node server accepts one new connection in a turn of its loop, and those of a burst seem to be taken while they stand
 *     in its queue, until their calls run out of time (docs/decisions/0022).
 * R2  How many may be fresh: `fresh` at first, half as many after each of them that ran out of time, one more, up to `fresh`, after each that did not.
 * R3  What is under way for longer than `freshMs` is slow, not fresh: it holds up no more than its own place.
 *
 * Waiting work is bounded too; what is refused is the caller's to find again. A crash forgets everything: nothing is here that is not in a row.
 */
export interface LaneBounds {
  readonly perOrigin: number
  readonly most: number
  readonly maxWaiting: number
  /** R2; default: no bound. */
  readonly fresh?: number
}

/** Never rejects; false: its time ran out. */
export type LaneWork = () => Promise<boolean>

interface Lane {
  running: number
  fresh: number
  /** R2. */
  mayBeFresh: number
  /** Until when each may be taken, of the process's monotonic clock, ms. */
  readonly credits: number[]
  readonly waiting: LaneWork[]
}

const creditMs = 1_000
const freshMs = 5_000

export class OriginLanes {
  readonly #bounds: LaneBounds
  readonly #lanes = new Map<string, Lane>()
  /** Those in which something waits, in their turns (R0). */
  readonly #inTurn = new Map<string, Lane>()
  #running = 0
  #waiting = 0
  #whenIdle: (() => void)[] = []

  constructor(bounds: LaneBounds) {
    this.#bounds = bounds
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting
  }

  /** Runs `work` when its turn comes; false: too much waits already. */
  add(origin: string, work: LaneWork): boolean {
    const lane = this.#lanes.get(origin) ?? { running: 0, fresh: 0, mayBeFresh: this.#fresh, credits: [], waiting: [] }
    if (lane.waiting.length === 0 && this.#hasPlace(lane)) {
      this.#run(origin, lane, work)
      return true
    }
    if (this.#waiting >= this.#bounds.maxWaiting) return false
    this.#waiting += 1
    lane.waiting.push(work)
    this.#lanes.set(origin, lane)
    this.#inTurn.set(origin, lane)
    return true
  }

  async drained(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
  }

  /** Forgets what waits. */
  clear(): void {
    for (const lane of this.#inTurn.values()) lane.waiting.length = 0
    this.#inTurn.clear()
    this.#waiting = 0
  }

  get #fresh(): number {
    return this.#bounds.fresh ?? Number.POSITIVE_INFINITY
  }

  #hasPlace(lane: Lane): boolean {
    const { most, perOrigin } = this.#bounds
    return this.#running < most && lane.running < perOrigin && (lane.fresh < lane.mayBeFresh || hasCredit(lane))
  }

  #run(origin: string, lane: Lane, work: LaneWork): void {
    lane.running += 1
    this.#lanes.set(origin, lane)
    this.#running += 1
    const leave = takeCredit(lane) ? () => undefined : this.#enterFresh(lane)
    const ended = (isInTime: boolean) => {
      leave(isInTime)
      if (isInTime && lane.credits.length < this.#bounds.perOrigin) lane.credits.push(performance.now() + creditMs)
      this.#ended(origin, lane)
    }
    work().then(ended, () => ended(false))
  }

  /** What is returned is to be called when the work has ended. */
  #enterFresh(lane: Lane): (isInTime: boolean) => void {
    let isFresh = true
    const age = () => {
      if (isFresh) lane.fresh -= 1
      isFresh = false
    }
    const aging = setTimeout(() => {
      age() // R3
      this.#startWaiting()
    }, freshMs)
    aging.unref()
    lane.fresh += 1
    return (isInTime) => {
      clearTimeout(aging)
      age()
      lane.mayBeFresh = isInTime ? Math.min(lane.mayBeFresh + 1, this.#fresh) : Math.max(Math.floor(lane.mayBeFresh / 2), 1) // R2
    }
  }

  #ended(origin: string, lane: Lane): void {
    lane.running -= 1
    this.#running -= 1
    this.#startWaiting()
    if (lane.running === 0 && lane.waiting.length === 0) this.#lanes.delete(origin)
    if (this.#running === 0) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  /** R0. */
  #startWaiting(): void {
    while (this.#startNext());
  }

  #startNext(): boolean {
    if (this.#running >= this.#bounds.most) return false
    for (const [origin, lane] of this.#inTurn) {
      if (!this.#hasPlace(lane)) continue
      this.#inTurn.delete(origin)
      const work = lane.waiting.shift() as LaneWork // whatever is in turn waits
      if (lane.waiting.length > 0) this.#inTurn.set(origin, lane)
      this.#waiting -= 1
      this.#run(origin, lane, work)
      return true
    }
    return false
  }
}

function hasCredit({ credits }: Lane): boolean {
  const now = performance.now()
  while (credits[0] !== undefined && credits[0] < now) credits.shift()
  return credits.length > 0
}

const takeCredit = (lane: Lane): boolean => hasCredit(lane) && lane.credits.pop() !== undefined
