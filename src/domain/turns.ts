/**
 * Turns: the batches of one process take the database one after the other, whatever they are about.
 *
 * A batch that waits for its turn grows meanwhile, and what a transaction costs, for us and for Postgres, is shared by more. Where the database is not busy but
 * far away, or a batch waits for somebody's lock, taking turns would only add up what each of them waits:
 *
 * U1  Nobody waits while it is nobody's turn.
 * U2  Whoever waits is let in after `patienceMs`, though the turn before has not ended.
 * U3  In the order in which they came.
 */
export class Turns {
  readonly #patienceMs: number
  readonly #waiting: ((over: () => void) => void)[] = []
  #current: object | null = null
  #patience: NodeJS.Timeout | null = null

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs
  }

  /** Calls `begin` when it may begin, at once or later; it says when it is over. */
  take(begin: (over: () => void) => void): void {
    if (this.#current === null) this.#give(begin)
    else {
      this.#waiting.push(begin)
      this.#lookAfter()
    }
  }

  #give(begin: (over: () => void) => void): void {
    const turn = {}
    this.#current = turn
    begin(() => {
      if (this.#current === turn) this.#next()
    })
  }

  #next(): void {
    if (this.#patience !== null) clearTimeout(this.#patience)
    this.#patience = null
    this.#current = null
    const begin = this.#waiting.shift()
    if (begin === undefined) return
    this.#give(begin)
    if (this.#waiting.length > 0) this.#lookAfter()
  }

  /** U2. */
  #lookAfter(): void {
    this.#patience ??= setTimeout(() => this.#next(), this.#patienceMs).unref() // the turn before holds the process, by its connection
  }
}
