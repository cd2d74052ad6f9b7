/** One request over a kept-alive connection, with as little around it as undici allows: the same for ours and for the floors. */
import type { Client, Dispatcher } from 'undici'

export interface Exchanged {
  readonly status: number
  /** By lower-case name; read only where `keep` was asked for. */
  readonly header: (name: string) => string
  readonly text: string
}

/** Answers the status, and with `keep` headers and body; rejects where there is no answer. */
export async function exchange(client: Client, options: Dispatcher.DispatchOptions, { keep = false } = {}): Promise<Exchanged> {
  return await new Promise((resolve, reject) => {
    client.dispatch(options, new Outcome(keep, resolve, reject))
  })
}

type Headers = Readonly<Record<string, string | string[] | undefined>>

class Outcome implements Dispatcher.DispatchHandler {
  readonly #keep: boolean
  readonly #resolve: (answer: Exchanged) => void
  readonly #reject: (failure: Error) => void
  readonly #chunks: Buffer[] = []
  #status = 0
  #headers: Headers = {}

  constructor(keep: boolean, resolve: (answer: Exchanged) => void, reject: (failure: Error) => void) {
    this.#keep = keep
    this.#resolve = resolve
    this.#reject = reject
  }

  onRequestStart(): void {}

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Headers): void {
    this.#status = status
    if (this.#keep) this.#headers = headers
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#keep) this.#chunks.push(chunk)
  }

  onResponseEnd(): void {
    const headers = this.#headers
    const text = this.#keep ? Buffer.concat(this.#chunks).toString('utf8') : ''
    this.#resolve({ status: this.#status, header: (name) => String(headers[name] ?? ''), text })
  }

  onResponseError(_controller: Dispatcher.DispatchController, failure: Error): void {
    this.#reject(failure)
  }
}
