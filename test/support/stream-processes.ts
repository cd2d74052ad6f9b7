/** Real server processes of the stream protocol on one database, alone or behind a round robin. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, request as outgoing } from 'node:http'
import { createInterface } from 'node:readline'

export interface StreamProcess {
  readonly url: string
  readonly pid: number
  /** SIGKILL, and its end. */
  kill(): Promise<void>
  stop(): Promise<void>
}

export async function startStreamProcess(databaseUrl: string, environment: Readonly<Record<string, string>> = {}): Promise<StreamProcess> {
  const child = spawn(process.execPath, ['--import', 'tsx', new URL('./stream-server.ts', import.meta.url).pathname], {
    env: { ...process.env, NODE_OPTIONS: '', DATABASE_URL: databaseUrl, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const url = await firstLine(child)
  const end = async (signal: 'SIGKILL' | 'SIGTERM') => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    await once(child, 'exit')
  }
  return { url, pid: child.pid ?? 0, kill: async () => await end('SIGKILL'), stop: async () => await end('SIGTERM') }
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('the process has no output')
  for await (const line of createInterface({ input: child.stdout })) return line
  throw new Error(`the stream server ended before it was ready (${child.exitCode ?? child.signalCode})`)
}

export interface RoundRobin {
  readonly url: string
  close(): Promise<void>
}

/** Each request goes to the next of `targets`; bodies and events stream through in both directions. */
export async function startRoundRobin(targets: () => readonly string[]): Promise<RoundRobin> {
  let turn = 0
  const server = createServer((incoming, answer) => {
    const urls = targets()
    const target = new URL(urls[turn++ % urls.length] ?? '')
    const passed = outgoing(
      { host: target.hostname, port: target.port, method: incoming.method, path: incoming.url, headers: incoming.headers },
      (response) => {
        answer.writeHead(response.statusCode ?? 502, response.headers)
        answer.flushHeaders()
        response.pipe(answer)
        response.on('error', () => answer.destroy())
      },
    )
    passed.on('error', () => (answer.headersSent ? answer.destroy() : answer.writeHead(502).end()))
    answer.on('close', () => passed.destroy())
    incoming.pipe(passed)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return {
    url: `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`,
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
