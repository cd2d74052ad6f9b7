/** This process's line to its warden (warden.ts): started with the first child, told of each. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { processBirth } from '../../bin/process-lock.mjs'

const script = fileURLToPath(new URL('../../dist/dev/warden.js', import.meta.url))
let warden: ChildProcess | undefined

/** Has the warden end process `pid` when this process dies: `signal` first, SIGKILL five seconds later. */
export function watchOver(pid: number, signal: NodeJS.Signals): void {
  warden ??= startWarden()
  warden?.stdin?.write(`${JSON.stringify({ pid, signal, birth: processBirth(pid) })}\n`)
}

function startWarden(): ChildProcess | undefined {
  if (!existsSync(script)) return undefined // a tree that was never built: the next start removes leftovers by their data folder
  const child = spawn(process.execPath, [script], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  child.on('error', () => undefined)
  child.stdin?.on('error', () => undefined)
  child.unref()
  if (child.stdin instanceof Socket) child.stdin.unref() // the pipe must not keep this process alive
  return child
}
