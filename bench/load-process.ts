/** The generator: requests over kept-alive connections, one for each caller, in a process of its own. */
import { Client } from 'undici'
import { exchange } from './exchange.js'
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
  return async (operation, caller) => {
    const path = load.path.replace('{n}', String(operation)).replace('{k}', String(caller % (load.keys ?? 1)))
    const body = load.body?.replace('{n}', String(operation)) ?? null
    const { status } = await exchange(clients[caller] as Client, { path, method: load.method, headers, body }) // one for each caller
    return status < 300 ? null : `HTTP ${status}`
  }
}
