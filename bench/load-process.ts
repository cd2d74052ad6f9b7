/** The generator: requests over kept-alive connections, one for each caller, in a process of its own. */
import { Client, type Dispatcher } from 'undici'
import { measureFanout } from './live-readers.js'
import { type Command, type HttpLoad, measure, type Operate } from './measure.js'
import { answerCommands } from './processes.js'
import { measureWakes } from './wakes.js'

answerCommands(async (command: Command) => {
  const { load } = command
  if (load.is === 'fanout') return await measureFanout(command, load)
  if (load.is === 'wakes') return await measureWakes(command, load)
  if (load.is !== 'http') throw new Error(`the generator knows no "${load.is}"`)
  const clients = Array.from({ length: command.callers }, () => new Client(load.origin, { headersTimeout: 30_000, bodyTimeout: 30_000 }))
  try {
    return await measure(command, requester(load, clients))
  } finally {
    await Promise.all(clients.map((client) => client.destroy()))
  }
})

function requester(load: HttpLoad, clients: readonly Client[]): Operate {
  const headers = load.body === undefined ? {} : { 'content-type': load.contentType ?? 'application/json' }
  return (operation, caller) => {
    const path = load.path.replace('{n}', String(operation)).replace('{k}', String(caller % (load.keys ?? 1)))
    return new Promise((resolve) => {
      const options: Dispatcher.DispatchOptions = {
        path,
        method: load.method,
        headers,
        body: load.body?.replace('{n}', String(operation)) ?? null,
      }
      clients[caller]?.dispatch(options, new Outcome(resolve))
    })
  }
}

/** Reads the answer to its end, and keeps nothing of it. */
class Outcome implements Dispatcher.DispatchHandler {
  readonly #resolve: (wrong: string | null) => void
  #status = 0

  constructor(resolve: (wrong: string | null) => void) {
    this.#resolve = resolve
  }

  onRequestStart(): void {}

  onResponseStart(_controller: Dispatcher.DispatchController, status: number): void {
    this.#status = status
  }

  onResponseData(): void {}

  onResponseEnd(): void {
    this.#resolve(this.#status < 300 ? null : `HTTP ${this.#status}`)
  }

  onResponseError(_controller: Dispatcher.DispatchController, failure: Error): void {
    this.#resolve(failure.message)
  }
}
