/**
 * The warden: a process that outlives a killed parent just long enough to end that parent's children.
 * It reads `{pid, signal, birth}` lines; the end of its input means that the parent is gone, however it went.
 */
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { processBirth } from '../../bin/process-lock.mjs'

interface Ward {
  readonly pid: number
  readonly signal: NodeJS.Signals
  readonly birth?: string
}

const wards: Ward[] = []
const patienceMs = 5_000

/** Whether it is the same process still, not a later one with its id. */
const lives = (ward: Ward): boolean => ward.birth !== undefined && processBirth(ward.pid) === ward.birth

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // gone meanwhile
  }
}

async function endAll(): Promise<void> {
  const left = wards.filter(lives).reverse() // the server before the parts it uses
  for (const ward of left) kill(ward.pid, ward.signal)
  const deadline = Date.now() + patienceMs
  while (left.some(lives) && Date.now() < deadline) await wait(50)
  for (const ward of left.filter(lives)) kill(-ward.pid, 'SIGKILL')
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined) // it goes when its parent has gone, not before
for await (const line of createInterface({ input: process.stdin })) wards.push(JSON.parse(line) as Ward)
await endAll()
