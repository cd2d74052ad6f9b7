/** `@durable-streams/server`, file-backed, as a child process: a foreign stream server that tests can kill. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const program = join(dirname(fileURLToPath(import.meta.url)), 'foreign-streams-main.mjs')

export interface ForeignStreams {
  /** As `DURABLE_STREAMS_URL` wants it; the same after a restart. */
  readonly url: string
  readonly port: number
  readonly pid: number
  /** SIGKILL: returns when the process is gone. */
  kill(): Promise<void>
  /** Starts it again on its port and data; kills it first where it still runs. */
  restart(): Promise<void>
  /** Kills it and removes its data. */
  stop(): Promise<void>
}

export async function startForeignStreams(options: { readonly longPollTimeoutMs?: number } = {}): Promise<ForeignStreams> {
  const dataDir = await mkdtemp(join(tmpdir(), 'foreign-streams-'))
  const longPollMs = options.longPollTimeoutMs ?? 1_500
  let running = await launch(dataDir, 0, longPollMs)
  const { port } = running

  const kill = async (): Promise<void> => {
    const { child } = running
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  }
  return {
    url: `http://127.0.0.1:${port}/v1/stream`,
    port,
    get pid() {
      return running.child.pid ?? -1
    },
    kill,
    restart: async () => {
      await kill()
      running = await launch(dataDir, port, longPollMs)
    },
    stop: async () => {
      await kill()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

async function launch(dataDir: string, port: number, longPollMs: number): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const child = spawn(process.execPath, [program, dataDir, String(port), String(longPollMs)], { stdio: ['ignore', 'pipe', 'pipe'] })
  const said: string[] = []
  child.stderr.on('data', (chunk: Buffer) => said.push(chunk.toString()))
  const listening = new Promise<number>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      said.push(line)
      const [, url] = /^listening (\S+)$/.exec(line) ?? []
      if (url !== undefined) resolve(Number(new URL(url).port))
    })
    child.once('exit', (code) => reject(new Error(`the foreign stream server ended with ${code}: ${said.join('\n')}`)))
  })
  return { child, port: await listening }
}
