/** Whether a run may still work: alive, failed, or dead. The first end counts. */
export class RunLife {
  readonly #death = new AbortController()
  /** Rejects when the run ends before its work does. */
  readonly over: Promise<never>
  #giveUp: (failure: Error) => void = () => undefined
  #failure: Error | undefined

  constructor() {
    this.over = new Promise((_, reject) => {
      this.#giveUp = reject
    })
    this.over.catch(() => undefined) // also when nobody waits
  }

  /** Ends every request of the run. */
  get death(): AbortSignal {
    return this.#death.signal
  }

  get isOver(): boolean {
    return this.#failure !== undefined
  }

  die(): void {
    this.#death.abort()
    this.fail(new Error('died'))
  }

  fail(failure: Error): void {
    this.#failure ??= failure
    this.#giveUp(this.#failure)
  }

  check(): void {
    if (this.#failure !== undefined) throw this.#failure
  }
}
