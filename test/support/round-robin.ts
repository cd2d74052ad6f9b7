/** A round robin in front of several servers: each connection goes to the next one that answers, as a plain load balancer does it. */
import { connect, createServer, type Socket } from 'node:net'

export interface RoundRobin {
  readonly url: string
  stop(): Promise<void>
}

export async function startRoundRobin(urls: readonly string[]): Promise<RoundRobin> {
  const ports = urls.map((url) => Number(new URL(url).port))
  const sockets = new Set<Socket>()
  let turn = 0
  const keep = (socket: Socket): Socket => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    return socket
  }

  /** Tries one server after the other; resets the client where none is there. */
  const forward = (client: Socket, first: number, tried = 0): void => {
    if (client.destroyed) return
    const port = ports[(first + tried) % ports.length]
    if (port === undefined || tried === ports.length) {
      client.resetAndDestroy()
      return
    }
    const upstream = keep(connect(port, '127.0.0.1'))
    const refused = (): void => forward(client, first, tried + 1)
    upstream.once('error', refused)
    upstream.once('connect', () => {
      upstream.off('error', refused)
      client.pipe(upstream).pipe(client)
      client.once('close', () => upstream.destroy())
      upstream.once('close', () => client.destroy())
    })
  }

  const server = createServer({ pauseOnConnect: false }, (client) => {
    turn += 1
    forward(keep(client), turn)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    stop: async () => {
      const closed = new Promise((done) => server.close(done))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
