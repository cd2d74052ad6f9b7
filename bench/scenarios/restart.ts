/** Starting with few and with many entities, and what idle entities cost in memory. */
import { setTimeout as wait } from 'node:timers/promises'
import { median, type Numbers } from '../measure.js'
import { memoryOf } from '../parts.js'
import { type Bench, registerType, type Scenario } from '../scenario.js'

const few = 10

/** A database with so many entities in it. What spawning them added to the memory of the server that did it. */
async function filled(bench: Bench, name: string, entities: number) {
  const databaseUrl = await bench.parts.newDatabase(name)
  const options = { databaseUrl, taskQueue: name }
  const server = await bench.parts.startServer(options)
  try {
    await registerType(server.address, 'idle')
    const before = await memoryOf(server.pid)
    const load = { is: 'http', method: 'PUT', origin: server.address, path: '/_electric/entities/idle/e{n}', body: '{}' } as const
    const numbers = await bench.parts.generator.run({ load, callers: Math.min(256, entities), count: entities })
    if (numbers.errors > 0) throw new Error(`${numbers.errors} spawns failed: ${numbers.kinds.join(', ')}`)
    await wait(3_000) // what the spawns left is put away
    return { options, grownMib: (await memoryOf(server.pid)) - before }
  } finally {
    await server.stop()
  }
}

export const restart: Scenario = async (bench) => {
  const databases = [await filled(bench, `bench_few`, few), await filled(bench, `bench_many`, bench.manyEntities)] as const
  const starts: number[][] = [[], []]
  const memory: number[][] = [[], []]
  for (let round = 0; round <= bench.rounds + 2; round += 1) {
    for (const [index, { options }] of databases.entries()) {
      const began = performance.now()
      const server = await bench.parts.startServer(options)
      const tookMs = performance.now() - began
      await wait(500)
      const mib = await memoryOf(server.pid)
      await server.stop()
      if (round === 0) continue // it warmed up
      starts[index]?.push(tookMs)
      memory[index]?.push(mib)
    }
  }
  const [fewMs, manyMs] = starts.map(median) as [number, number]
  const [fewMib, manyMib] = memory.map(median) as [number, number]
  const numbers = (index: number): Numbers => {
    const times = starts[index] ?? []
    return { operations: times.length, errors: 0, kinds: [], perSecond: Number.NaN, p50Ms: median(times), p99Ms: Math.max(...times) }
  }
  return {
    name: 'restart',
    lines: [
      { what: `start to health with ${few} entities`, callers: 1, numbers: numbers(0) },
      {
        what: `start to health with ${bench.manyEntities} entities; floor: with ${few}`,
        callers: 1,
        numbers: numbers(1),
        floor: numbers(0),
      },
    ],
    // "Not slower" within what two equal starts differ by.
    aims: [{ what: `start with ${bench.manyEntities} entities against ${few}`, bound: { atMost: 1.1 }, measured: manyMs / fewMs }],
    notes: [
      `Memory of a server that just started: ${fewMib.toFixed(1)} MiB with ${few} entities, ${manyMib.toFixed(1)} MiB with ${bench.manyEntities}: ${(manyMib - fewMib).toFixed(1)} MiB for them.`,
      `Memory of the server that had just spawned ${bench.manyEntities}: ${databases[1].grownMib.toFixed(1)} MiB more than before, garbage included (after ${few}: ${databases[0].grownMib.toFixed(1)} MiB).`,
    ],
  }
}
