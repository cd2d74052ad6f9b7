/** Processes that an earlier, killed run left behind, known by arguments of their command line that name our data. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { processBirth } from '../../bin/process-lock.mjs'
import type { StopStep } from './child.js'

/** Ids of processes whose command line has all of `marks` as arguments (`--name=<mark>` counts too). */
export function processesWith(marks: readonly string[]): readonly number[] {
  return commandLines()
    .filter(({ pid, args }) => pid !== process.pid && marks.every((mark) => args.some((arg) => arg === mark || arg.endsWith(`=${mark}`))))
    .map(({ pid }) => pid)
}

interface CommandLine {
  readonly pid: number
  readonly args: readonly string[]
}

function commandLines(): readonly CommandLine[] {
  return process.platform === 'linux' ? linuxCommandLines() : listedCommandLines()
}

function linuxCommandLines(): readonly CommandLine[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), args: argumentsOf(name) }))
}

function argumentsOf(pid: string): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return [] // it ended while we looked
  }
}

function listedCommandLines(): readonly CommandLine[] {
  const lines = execFileSync('ps', ['-axww', '-o', 'pid=,args='], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 }).split('\n')
  return lines.map((line) => line.trim().split(' ')).map(([pid, ...args]) => ({ pid: Number(pid), args }))
}

/** Ends them all, step by step; how many there were. */
export async function endProcesses(pids: readonly number[], steps: readonly StopStep[]): Promise<number> {
  const births = new Map(pids.map((pid) => [pid, processBirth(pid)]))
  const living = (): number[] =>
    [...births].filter(([pid, birth]) => birth !== undefined && processBirth(pid) === birth).map(([pid]) => pid)
  for (const { signal, withinMs } of [...steps, { signal: 'SIGKILL', withinMs: 5_000 } as const]) {
    for (const pid of living()) kill(pid, signal)
    const deadline = Date.now() + withinMs
    while (living().length > 0 && Date.now() < deadline) await wait(20)
    if (living().length === 0) break
  }
  return pids.length
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // gone meanwhile
  }
}
