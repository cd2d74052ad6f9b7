/** `npm start` as a person runs it: a process with output, on a data folder and ports of the test's own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually } from './eventually.js'
import { ownPort } from './ports.js'

const root = fileURLToPath(new URL('../../', import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
  readonly stdout: string
}

/** What survives between two starts. */
export class Home {
  readonly folder = mkdtempSync(join(tmpdir(), 'agents-home-'))
  readonly #started: StartCommand[] = []

  constructor() {
    chmodSync(this.folder, 0o755) // Postgres may run as a user of its own
  }

  get dataFolder(): string {
    return join(this.folder, 'data')
  }

  async start(
    env: Readonly<Record<string, string | undefined>> = {},
    command: readonly string[] = [process.execPath, join(root, 'dist', 'dev', 'main.js')],
  ): Promise<StartCommand> {
    const port = env.PORT ?? String(await ownPort())
    const started = new StartCommand(command, {
      AGENTS_DATA_DIR: this.dataFolder,
      HOST: '127.0.0.1',
      ELECTRIC_AGENTS_LOG_FILE: 'false',
      ...env,
      PORT: port,
    })
    this.#started.push(started)
    return started
  }

  /** Command lines of processes that work on this home's data. */
  processes(): readonly string[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && existsSync(`/proc/${name}/cmdline`))
      .map((pid) => `${pid} ${commandLineOf(pid)}`)
      .filter((line) => line.includes(this.dataFolder))
  }

  async nothingRuns(withinMs = 10_000): Promise<void> {
    await eventually(
      () => {
        const left = this.processes()
        if (left.length > 0) throw new Error(`still running: ${left.join('; ')}`)
        return true
      },
      { withinMs },
    )
  }

  async remove(): Promise<void> {
    for (const started of this.#started) started.kill('SIGKILL')
    await this.nothingRuns()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

function commandLineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return '' // it ended while we looked
  }
}

export class StartCommand {
  readonly url: string
  readonly ended: Promise<Ended>
  readonly #process: ChildProcess
  #stdout = ''
  #stderr = ''

  constructor([command = '', ...args]: readonly string[], env: Readonly<Record<string, string | undefined>>) {
    this.url = `http://127.0.0.1:${env.PORT}`
    const outer = Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_OPTIONS|TEMPORAL_|DATABASE_URL|TEST_)/.test(name))
    this.#process = spawn(command, args, { cwd: root, env: { ...Object.fromEntries(outer), ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#process.stdout?.on('data', (chunk: Buffer) => {
      this.#stdout += chunk.toString()
    })
    this.#process.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString()
    })
    this.ended = new Promise((resolve) => {
      this.#process.once('close', (code, signal) => resolve({ code, signal, stderr: this.#stderr, stdout: this.#stdout }))
    })
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  get output(): string {
    return this.#stdout + this.#stderr
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  /** Waits until it says that it is ready; milliseconds since the start command was given. */
  async ready(withinMs = 60_000): Promise<number> {
    const began = Date.now()
    const over = this.ended.then(({ code, stdout, stderr }) => {
      throw new Error(`it ended with exit code ${code} before it was ready: ${stdout}${stderr}`)
    })
    await Promise.race([over, eventually(() => this.#stdout.includes('Three commands'), { withinMs })])
    over.catch(() => undefined) // it may end later as it likes
    return Date.now() - began
  }

  /** Every process below this one. */
  descendants(): readonly number[] {
    const parents = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((name) => [Number(name), parentOf(name)] as const)
    const below = (pid: number): number[] => parents.filter(([, parent]) => parent === pid).flatMap(([child]) => [child, ...below(child)])
    return below(this.pid)
  }
}

function parentOf(pid: string): number {
  try {
    return Number(
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[1],
    )
  } catch {
    return 0
  }
}
