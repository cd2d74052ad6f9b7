import { createServer } from 'node:net'

/** A port of the loopback interface that nobody listens on now; `preferred` if it is free. */
export async function freePort(preferred = 0): Promise<number> {
  const port = await probe(preferred)
  if (port !== undefined) return port
  const any = preferred === 0 ? undefined : await probe(0)
  if (any === undefined) throw new Error('this machine gives no free port on 127.0.0.1')
  return any
}

async function probe(port: number): Promise<number | undefined> {
  return await new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(undefined))
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : undefined))
    })
  })
}
