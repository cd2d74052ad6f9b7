/** The requests that are not answered yet, so that a stopping server can wait for them (spec/13 §9). */
import type { Server } from 'node:http'

export class InFlight {
  #count = 0
  #whenNone: (() => void)[] = []

  constructor(server: Server) {
    server.on('request', (_request, response) => {
      this.#count += 1
      response.once('close', () => this.#ended())
    })
  }

  /** Resolves at the first moment without any. */
  async drained(): Promise<void> {
    if (this.#count === 0) return
    await new Promise<void>((resolve) => this.#whenNone.push(resolve))
  }

  #ended(): void {
    this.#count -= 1
    if (this.#count > 0) return
    for (const resolve of this.#whenNone.splice(0)) resolve()
  }
}
