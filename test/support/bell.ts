/** Something happened, look again: waiting for facts inside one process, without polling. */
export class Bell {
  readonly #waiting = new Set<() => void>()

  ring(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Waits until `fact` holds, looking at it now and at each ring; false when it does not within the time. */
  async until(fact: () => boolean, withinMs: number): Promise<boolean> {
    if (fact()) return true
    return await new Promise<boolean>((resolve) => {
      const settle = (holds: boolean): void => {
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve(holds)
      }
      const look = (): void => {
        if (fact()) settle(true)
      }
      const timer = setTimeout(() => settle(fact()), withinMs)
      this.#waiting.add(look)
    })
  }
}
