/**
 * Child processes that cannot outlive their use.
 *
 * C1  Every child leads a process group of its own: Ctrl-C reaches only the main process, which stops children in order.
 * C2  `stop` climbs its ladder of signals, each with a deadline, and ends with SIGKILL: it always settles.
 * C3  The warden knows every child: when the main process dies in any way, the warden kills them.
 * C4  What the child printed last is kept (bounded), to say why it broke.
 * C5  After `stopChildren` no child starts any more.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream, type WriteStream } from 'node:fs'
import { within } from '../domain/within.js'
import { watchOver } from './warden-link.js'

export interface ChildOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  /** Gets everything the child prints. */
  readonly logFile?: string
  /** Sees it too, as it comes. */
  readonly onOutput?: (chunk: Buffer) => void
  /** From polite to rude; SIGKILL follows by itself. */
  readonly stopSignals?: readonly StopStep[]
  readonly user?: { readonly uid: number; readonly gid: number }
}

export interface StopStep {
  readonly signal: NodeJS.Signals
  readonly withinMs: number
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

const keptCharacters = 16_384
const politeStop: readonly StopStep[] = [{ signal: 'SIGTERM', withinMs: 5_000 }]

const running = new Set<Child>()

let isClosing = false

/** Ends every child of this process, those of a start that is still under way included; from now on no child starts (C5). */
export async function stopChildren(): Promise<void> {
  isClosing = true
  await Promise.all([...running].map((child) => child.stop()))
}

export class Child {
  readonly exited: Promise<Exit>
  readonly #process: ChildProcess
  readonly #stopSignals: readonly StopStep[]
  #output = ''
  #exit: Exit | undefined

  constructor(options: ChildOptions) {
    if (isClosing) throw new Error(`${options.command} is not started: this process is stopping`) // C5
    this.#stopSignals = options.stopSignals ?? politeStop
    this.#process = spawn(options.command, options.args, {
      detached: true, // C1
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      ...(options.user ?? {}),
    })
    const log = options.logFile === undefined ? undefined : createWriteStream(options.logFile, { flags: 'a' })
    this.exited = this.#whenExited(log, options.onOutput)
    running.add(this)
    if (this.#process.pid !== undefined) watchOver(this.#process.pid, this.#stopSignals[0]?.signal ?? 'SIGTERM') // C3
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  get exit(): Exit | undefined {
    return this.#exit
  }

  /** The last lines it printed. */
  get output(): string {
    return this.#output
  }

  kill(signal: NodeJS.Signals): void {
    if (this.#exit === undefined) this.#process.kill(signal)
  }

  /** Ends it, group and all (C2). */
  async stop(): Promise<Exit> {
    for (const { signal, withinMs } of this.#stopSignals) {
      this.kill(signal)
      const exit = await within(withinMs, this.exited)
      if (exit !== undefined) return exit
    }
    killGroup(this.#process.pid)
    return await this.exited
  }

  #whenExited(log: WriteStream | undefined, onOutput: ChildOptions['onOutput']): Promise<Exit> {
    const keep = (chunk: Buffer): void => {
      log?.write(chunk)
      onOutput?.(chunk)
      this.#output = (this.#output + chunk.toString('utf8')).slice(-keptCharacters) // C4
    }
    this.#process.stdout?.on('data', keep)
    this.#process.stderr?.on('data', keep)
    return new Promise((resolve) => {
      const settle = (exit: Exit): void => {
        this.#exit ??= exit
        running.delete(this)
        resolve(this.#exit)
      }
      this.#process.once('error', (failure) => {
        this.#output += `${failure.message}\n`
        settle({ code: -1, signal: null })
      })
      this.#process.once('exit', (code, signal) => settle({ code, signal }))
      this.#process.once('close', () => log?.end()) // output may still arrive after the exit
    })
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // it went by itself meanwhile
  }
}

/** The last line that says something, for a message of one line. */
export function lastLine(output: string, pattern?: RegExp): string {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  const matching = pattern === undefined ? undefined : lines.findLast((line) => pattern.test(line))
  return (matching ?? lines.at(-1) ?? 'it printed nothing').slice(0, 300)
}
