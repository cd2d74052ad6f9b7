/** A TCP proxy that a test can stall (half-open: bytes vanish in silence) or cut. */
import { connect, createServer, type Socket } from 'node:net'

export interface TcpProxy {
  readonly port: number
  /** From now on nothing passes, and nobody is told. New connections are accepted and hang as well. */
  stall(): void
  /** The connections that stand now fall silent for good, both ways or only with their answers; new ones pass. A host that has moved away looks like that. */
  strand(what?: 'both' | 'answers'): void
  /** Connections so far. */
  readonly accepted: number
  /** Resets all connections, and every new one. */
  cut(): void
  /** Cuts each connection when the server has begun to answer: the request has arrived, its answer is lost. */
  cutAnswers(): void
  /** How many answers were lost that way. */
  readonly answersCut: number
  /** Passes everything again; connections that were stalled are reset. */
  heal(): void
  stop(): Promise<void>
}

type Mode = 'open' | 'stalled' | 'cut' | 'deaf'

export async function startProxy(targetPort: number): Promise<TcpProxy> {
  let mode: Mode = 'open'
  let answersCut = 0
  const sockets = new Set<Socket>()
  let accepted = 0
  const askers = new WeakSet<Socket>()
  const stranded = new WeakSet<Socket>()
  const keep = (socket: Socket): Socket => {
    sockets.add(socket)
    socket.on('error', () => undefined) // resets are what this part is for
    socket.on('close', () => sockets.delete(socket))
    return socket
  }
  const resetAll = (): void => {
    for (const socket of sockets) socket.resetAndDestroy()
  }

  const server = createServer((client) => {
    accepted += 1
    keep(client)
    if (mode === 'cut') {
      client.resetAndDestroy()
      return
    }
    const upstream = keep(connect(targetPort, '127.0.0.1'))
    askers.add(client)
    client.on('data', (chunk) => {
      if (stranded.has(client)) return
      if (mode === 'open' || mode === 'deaf') upstream.write(chunk)
    })
    upstream.on('data', (chunk) => {
      if (stranded.has(upstream)) return
      if (mode === 'open') client.write(chunk)
      if (mode === 'deaf' && !client.destroyed) {
        answersCut += 1
        client.resetAndDestroy()
      }
    })
    client.on('close', () => upstream.destroy())
    upstream.on('close', () => {
      if (mode !== 'stalled' && !stranded.has(upstream)) client.destroy()
    })
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')

  return {
    port: address.port,
    stall: () => {
      mode = 'stalled'
    },
    strand: (what = 'both') => {
      for (const socket of sockets) if (what === 'both' || !askers.has(socket)) stranded.add(socket)
    },
    get accepted() {
      return accepted
    },
    cut: () => {
      mode = 'cut'
      resetAll()
    },
    cutAnswers: () => {
      mode = 'deaf'
    },
    get answersCut() {
      return answersCut
    },
    heal: () => {
      if (mode === 'stalled') resetAll()
      mode = 'open'
    },
    stop: async () => {
      resetAll()
      await new Promise((closed) => server.close(closed))
    },
  }
}
