/**
 * Work in lanes, one for each origin: at most `perOrigin` at once in a lane and `most` in all, first come first served within a lane.
 *
 * Waiting work is bounded too; what is refused is the caller's to find again. A crash forgets everything: nothing is here that is not in a row.
 */
export interface LaneBounds {
  readonly perOrigin: number
  readonly most: number
  readonly maxWaiting: number
}

interface Lane {
  running: number
  readonly waiting: (() => Promise<void>)[]
}

export class OriginLanes {
  readonly #bounds: LaneBounds
  readonly #lanes = new Map<string, Lane>()
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

  /** Runs `work`, which never rejects, when its turn comes; false: too much waits already. */
  add(origin: string, work: () => Promise<void>): boolean {
    const lane = this.#lanes.get(origin) ?? { running: 0, waiting: [] }
    if (this.#running < this.#bounds.most && lane.running < this.#bounds.perOrigin && lane.waiting.length === 0) {
      this.#run(origin, lane, work)
      return true
    }
    if (this.#waiting >= this.#bounds.maxWaiting) return false
    this.#waiting += 1
    lane.waiting.push(work)
    this.#lanes.set(origin, lane)
    return true
  }

  async drained(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
  }

  /** Forgets what waits. */
  clear(): void {
    for (const lane of this.#lanes.values()) lane.waiting.length = 0
    this.#waiting = 0
  }

  #run(origin: string, lane: Lane, work: () => Promise<void>): void {
    lane.running += 1
    this.#lanes.set(origin, lane)
    this.#running += 1
    const ended = () => this.#ended(origin, lane)
    work().then(ended, ended)
  }

  #ended(origin: string, lane: Lane): void {
    lane.running -= 1
    this.#running -= 1
    this.#next(origin, lane)
    if (this.#running < this.#bounds.most) for (const [other, waiting] of this.#lanes) if (this.#next(other, waiting)) break
    if (lane.running === 0 && lane.waiting.length === 0) this.#lanes.delete(origin)
    if (this.#running === 0) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  #next(origin: string, lane: Lane): boolean {
    if (this.#running >= this.#bounds.most || lane.running >= this.#bounds.perOrigin) return false
    const work = lane.waiting.shift()
    if (work === undefined) return false
    this.#waiting -= 1
    this.#run(origin, lane, work)
    return true
  }
}
