/** Processes that carry out commands one at a time: the generator, and the floors. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Command, Numbers } from './measure.js'

type Answer = { readonly numbers: Numbers } | { readonly failure: string }

export class CommandProcess {
  readonly #child: ChildProcess
  /** What the process said when it was ready. */
  readonly ready: string

  private constructor(child: ChildProcess, ready: string) {
    this.#child = child
    this.ready = ready
  }

  static async start(script: string, args: readonly string[] = []): Promise<CommandProcess> {
    const child = fork(fileURLToPath(new URL(script, import.meta.url)), [...args], { execArgv: ['--import', 'tsx'], serialization: 'json' })
    return new CommandProcess(child, String(await nextMessage(child)))
  }

  async run(command: Command): Promise<Numbers> {
    this.#child.send(command)
    const answer = (await nextMessage(this.#child)) as Answer // sent by `answerCommands` alone
    if ('failure' in answer) throw new Error(answer.failure)
    return answer.numbers
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.disconnect()
    await ended
  }
}

async function nextMessage(child: ChildProcess): Promise<unknown> {
  const over = new AbortController()
  const { signal } = over
  try {
    return await Promise.race([
      once(child, 'message', { signal }).then(([message]) => message as unknown),
      once(child, 'exit', { signal }).then(([code]) => {
        throw new Error(`a process of the bench ended with exit code ${code}`)
      }),
    ])
  } finally {
    over.abort()
  }
}

/** The other side; the process ends with its parent. */
export function answerCommands(carryOut: (command: Command) => Promise<Numbers>, ready = 'ready'): void {
  process.on('message', (command: Command) => {
    carryOut(command).then(
      (numbers) => process.send?.({ numbers }),
      (failure: unknown) => process.send?.({ failure: failure instanceof Error ? (failure.stack ?? failure.message) : String(failure) }),
    )
  })
  process.on('disconnect', () => process.exit(0))
  process.send?.(ready)
}
