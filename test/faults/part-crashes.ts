/** A part of a house dies of SIGKILL under load that goes on, and comes back. */
import type { Client } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import type { House } from '../support/house.js'
import type { Wire } from '../support/wire.js'
import { settled } from './findings.js'
import { Load, type Request } from './ledger.js'

export interface PartCrash {
  readonly what: string
  readonly streams: 'postgres' | 'http'
  kill(house: House): Promise<void>
  bringBack(house: House): Promise<void>
}

export const one = (part: 'temporal' | 'postgres' | 'streams' | 'server', streams: 'postgres' | 'http'): PartCrash => ({
  what: part,
  streams,
  kill: async (house) => await house.kill(part),
  bringBack: async (house) => await house.restart(part),
})

/** Load before, during and after the crash, until all that it left has settled; what was asked. */
export async function interrupted(wire: Wire, temporal: Client, crash: PartCrash): Promise<readonly Request[]> {
  return await wire.house.explaining(async () => {
    const requests = await loadAround(wire.house, crash)
    await settled(wire, temporal, 60_000)
    return requests
  })
}

async function loadAround(house: House, crash: PartCrash): Promise<readonly Request[]> {
  const load = Load.start({ urls: house.urls, name: crash.what.replaceAll(' ', '-'), callers: 8, onLost: 'waits' })
  const acknowledges = async (more: number) => {
    const before = load.count('done')
    await eventually(() => load.count('done') >= before + more || undefined, { withinMs: 60_000 })
  }
  try {
    await acknowledges(60)
    await crash.kill(house)
    await crash.bringBack(house)
    await acknowledges(60)
  } finally {
    await load.stop()
  }
  return load.requests
}
