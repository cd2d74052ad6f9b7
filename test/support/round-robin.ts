/** A round robin in front of several servers: each request goes to the next one that is there; bodies and events stream through in both directions. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, request as outgoing, type ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'

export interface RoundRobin {
  readonly url: string
  stop(): Promise<void>
}

/** A server that takes no connection is passed over; one that dies with a request under way is 502 to the client, or cuts the answer short. */
export async function startRoundRobin(targets: () => readonly string[]): Promise<RoundRobin> {
  let turn = 0
  const server = createServer((incoming, answer) => {
    turn += 1
    serve(incoming, answer, inTurn(targets(), turn)).catch(() => answer.destroy())
  })
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
    const socket = await connected(new URL(url))
    if (socket !== null) return passOn(incoming, answer, socket)
  }
  answer.writeHead(502).end()
}

async function connected({ hostname, port }: URL): Promise<Socket | null> {
  const socket = connect(Number(port), hostname)
  try {
    await once(socket, 'connect')
    return socket
  } catch {
    return null
  }
}

function passOn(incoming: IncomingMessage, answer: ServerResponse, socket: Socket): void {
  const passed = outgoing(
    { createConnection: () => socket, method: incoming.method, path: incoming.url, headers: incoming.headers },
    (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers)
      answer.flushHeaders()
      response.pipe(answer)
      response.on('error', () => answer.destroy())
    },
  )
  passed.on('error', () => (answer.headersSent ? answer.destroy() : answer.writeHead(502).end()))
  answer.on('close', () => {
    passed.destroy()
    socket.destroy()
  })
  incoming.pipe(passed)
}
