/** How a process of ours runs: started as a script (also through a symbolic link), stopped once, never hanging (spec/13 §4, §9). */
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Whether the module at `moduleUrl` is the script that Node was started with; npm's bin links count. */
export function isScript(moduleUrl: string): boolean {
  const script = process.argv[1]
  if (script === undefined) return false
  try {
    return realpathSync(script) === realpathSync(fileURLToPath(moduleUrl))
  } catch {
    return false
  }
}

const hardLimitMs = 30_000

export interface Stoppable {
  stop(): Promise<void>
}

/** Stops on SIGINT and SIGTERM with exit code 0, on an uncaught error with 1; a second signal waits for the same stop. */
export function stopOnSignals(part: Stoppable, onFailure: (failure: unknown) => void): void {
  let stopping = false
  const stop = (exitCode: number) => {
    if (stopping) return
    stopping = true
    setTimeout(() => process.exit(1), hardLimitMs).unref()
    part.stop().then(
      () => process.exit(exitCode),
      (failure: unknown) => {
        onFailure(failure)
        process.exit(1)
      },
    )
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop(0))
  for (const event of ['uncaughtException', 'unhandledRejection'] as const)
    process.on(event, (failure: unknown) => {
      onFailure(failure)
      stop(1)
    })
}
