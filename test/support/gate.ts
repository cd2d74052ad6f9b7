/** An HTTP proxy that passes everything on but requests for paths that are held: those are never answered. */
import { createServer, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Gate {
  readonly url: string
  /** Where requests go: to be told before any comes. */
  leadTo(url: string): void
  /** From now on nobody who asks for `path` is answered. */
  hold(path: string): void
  /** How many wait. */
  held(): number
  stop(): Promise<void>
}

export async function startGate(): Promise<Gate> {
  let target = new URL('http://127.0.0.1:9')
  let held = 0
  const paths = new Set<string>()
  const server = createServer((asked, answer) => {
    const { method, url = '/', headers } = asked
    if ([...paths].some((path) => url.split('?', 1)[0]?.endsWith(path))) {
      held += 1
      return
    }
    const passed = send({ hostname: target.hostname, port: target.port, method, path: url, headers }, (theirs) => {
      answer.writeHead(theirs.statusCode ?? 502, theirs.headers)
      theirs.pipe(answer)
    })
    passed.on('error', () => answer.destroy())
    answer.on('close', () => passed.destroy()) // who asked has gone, or is answered
    asked.pipe(passed)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const { port } = server.address() as AddressInfo // of a TCP server
  return {
    url: `http://127.0.0.1:${port}/v1/stream`,
    leadTo: (url) => {
      target = new URL(url)
    },
    hold: (path) => paths.add(path),
    held: () => held,
    stop: async () => {
      server.closeAllConnections()
      await new Promise((closed) => server.close(closed))
    },
  }
}
