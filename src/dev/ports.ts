import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

const loopback = '127.0.0.1'

/** A port of the loopback interface that nobody listens on now; `preferred` if it is free. */
export async function freePort(preferred = 0): Promise<number> {
  const found = (await probe(preferred)) ?? (preferred === 0 ? undefined : await probe(0))
  if (found === undefined) throw new Error(`this machine gives no free port on ${loopback}`)
  return found
}

const probe = async (port: number): Promise<number | undefined> => await listened(port, loopback).catch(() => undefined)

/**
 * Resolves when `port` of `host` can be listened on; rejects with the reason why not. One that is in use is tried again for `patienceMs`: the kernel
 * frees the ports of a process that was killed a moment after nothing else is seen of it any more.
 */
export async function portIsFree(port: number, host: string, patienceMs: number): Promise<void> {
  const deadline = Date.now() + patienceMs
  for (;;) {
    try {
      await listened(port, host)
      return
    } catch (failure) {
      if ((failure as NodeJS.ErrnoException).code !== 'EADDRINUSE' || Date.now() >= deadline) throw failure
    }
    await wait(50)
  }
}

/** Which port it was, closed again. */
async function listened(port: number, host: string): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(port, host, () => {
      const { port: opened } = server.address() as AddressInfo // of TCP
      server.close(() => resolve(opened))
    })
  })
}
