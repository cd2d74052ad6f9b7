/** The data folder belongs to one running environment at a time. */
import { mkdir } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import { releaseLock, takeLock } from '../../bin/process-lock.mjs'
import { folderMark } from './agents-server.js'
import { endProcesses, processesWith } from './leftovers.js'
import { PartFailure } from './part.js'

const patienceMs = 6_000 // the one before us may be on its way out

/** Takes the folder, and ends servers that a killed run left in it. */
export async function takeDataFolder(folder: string): Promise<void> {
  await makeFolder(folder)
  const deadline = Date.now() + patienceMs
  for (;;) {
    const holder = takeLock(`${folder}/run.lock`)
    if (holder === undefined) break
    if (Date.now() > deadline) {
      throw new PartFailure(
        'data folder',
        `process ${holder.pid} is running on ${folder}`,
        'Stop it (Ctrl-C there), or choose another folder with AGENTS_DATA_DIR and another PORT.',
      )
    }
    await wait(100)
  }
  await endProcesses(processesWith([folderMark(folder)]), [{ signal: 'SIGTERM', withinMs: 2_000 }])
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(`${folder}/logs`, { recursive: true })
  } catch (failure) {
    throw new PartFailure(
      'data folder',
      `${folder} cannot be used: ${failure instanceof Error ? failure.message : String(failure)}`,
      'Make it writable, or choose another one with AGENTS_DATA_DIR.',
    )
  }
}

export function releaseDataFolder(folder: string): void {
  releaseLock(`${folder}/run.lock`)
}
