/**
 * How a process of ours runs: started as a script (also through a symbolic link), stopped once, never hanging (spec/13 §4, §9).
 *
 * A signal counts from the first line on: as process 1 of a container Node would not even hear it otherwise. While a process starts it has acknowledged
 * nothing, so it ends at once.
 */
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

/** Why a process of ours cannot start, in one line for the operator: what cannot be used, why, what to do. */
export class StartFailure extends Error {
  constructor(what: string, cause: unknown, advice: string) {
    super(`${what}: ${reasonOf(cause)}. ${advice}`, { cause })
    this.name = 'StartFailure'
  }
}

/** The innermost reason that says something, without line breaks. */
function reasonOf(failure: unknown): string {
  if (failure instanceof AggregateError) return failure.errors.map(reasonOf).join(', ')
  if (!(failure instanceof Error)) return String(failure)
  const [, spoken = failure.message || failure.name] = quoted.exec(failure.message) ?? []
  return (failure.cause === undefined ? spoken : reasonOf(failure.cause)).replaceAll(/\s*\n\s*/g, ' ').replace(/\.$/, '')
}

/** Temporal's native part prints its errors as nested structures; the words are in there. */
const quoted = /\b(?:message|error): "([^"]+)"/

const hardLimitMs = 30_000

export interface Stoppable {
  stop(): Promise<void>
}

/** Runs `start` as the program `name`: its failure is one line on stderr and exit code 1. */
export function runProgram(name: string, start: () => Promise<void>): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, endWhileStarting)
  start().catch((failure: unknown) => {
    process.stderr.write(`Cannot start the ${name}: ${failure instanceof Error ? failure.message : String(failure)}\n`)
    process.exit(1)
  })
}

const endWhileStarting = (): void => process.exit(0)

/** It runs: stops on SIGINT and SIGTERM with exit code 0, on an uncaught error with 1; a second signal waits for the same stop. */
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
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop(0)).off(signal, endWhileStarting)
  for (const event of ['uncaughtException', 'unhandledRejection'] as const)
    process.on(event, (failure: unknown) => {
      onFailure(failure)
      stop(1)
    })
}
