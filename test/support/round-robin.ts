/** A round robin in front of several servers: each request goes to the next one that is there; bodies and events stream through in both directions. */
import { once } from 'node:events'
import { type ClientRequest, createServer, type IncomingMessage, request as outgoing, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

export interface RoundRobin {
  readonly url: string
  stop(): Promise<void>
}

/** As long as our servers do: a client that believes in its idle connection, and sends late on a busy machine, would meet one just closed. */
const keepAliveMs = 72_000

/** A server that takes no connection is passed over; one that dies with a request under way is 502 to the client, or cuts the answer short. */
export async function startRoundRobin(targets: () => readonly string[]): Promise<RoundRobin> {
  let turn = 0
  const server = createServer((incoming, answer) => {
    turn += 1
    serve(incoming, answer, inTurn(targets(), turn)).catch(() => answer.destroy())
  })
  server.keepAliveTimeout = keepAliveMs
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    stop: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

const inTurn = (urls: readonly string[], turn: number): readonly string[] =>
  urls.map((_, index) => urls[(turn + index) % urls.length] ?? '')

async function serve(incoming: IncomingMessage, answer: ServerResponse, urls: readonly string[]): Promise<void> {
  for (const url of urls) {
    const passed = await reached(incoming, new URL(url))
    if (passed !== null) return passOn(incoming, answer, passed)
  }
  answer.writeHead(502).end()
}

/** A request on a connection that stands, nothing of it sent yet. */
async function reached({ method, url, headers }: IncomingMessage, { hostname, port }: URL): Promise<ClientRequest | null> {
  const passed = outgoing({ host: hostname, port, method, path: url, headers })
  passed.on('error', () => undefined) // also told by what is waited for
  try {
    const [socket] = (await once(passed, 'socket')) as [Socket]
    if (socket.connecting) await once(socket, 'connect')
    return passed
  } catch {
    return null
  }
}

function passOn(incoming: IncomingMessage, answer: ServerResponse, passed: ClientRequest): void {
  passed.on('response', (response) => {
    answer.writeHead(response.statusCode ?? 502, response.headers)
    answer.flushHeaders()
    response.pipe(answer)
    response.on('error', () => answer.destroy())
  })
  passed.on('error', () => (answer.headersSent ? answer.destroy() : answer.writeHead(502).end()))
  answer.on('close', () => passed.destroy())
  incoming.pipe(passed)
}
