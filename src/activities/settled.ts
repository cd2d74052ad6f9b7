/** Steps of which none keeps the others from being done: what failed is thrown when all have been tried. */
export class Settled {
  readonly #failures: unknown[] = []

  /** What `work` answers; `otherwise` where it fails. */
  async one<Result>(otherwise: Result, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work()
    } catch (failure) {
      this.#failures.push(failure)
      return otherwise
    }
  }

  /** One after the other; how many went well. */
  async each<Item>(find: () => Promise<readonly Item[]>, work: (item: Item) => Promise<unknown>): Promise<number> {
    let done = 0
    for (const item of await this.one([], find))
      done += await this.one(0, async () => {
        await work(item)
        return 1
      })
    return done
  }

  /** Throws what has failed. Only the text and the first cause of several reach Temporal: the text names each. */
  throwFailures(): void {
    const [first] = this.#failures
    if (this.#failures.length === 0) return
    if (this.#failures.length === 1) throw first
    throw new Error(`${this.#failures.length} steps failed: ${this.#failures.slice(0, shown).map(String).join('; ')}`, { cause: first })
  }
}

const shown = 10
