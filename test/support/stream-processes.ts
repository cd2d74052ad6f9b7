/** Real server processes of the stream protocol on one database. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
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
