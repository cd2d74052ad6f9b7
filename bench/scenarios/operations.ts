/** Spawn and kill: operations that are workflows, beside an acknowledged start and a transaction, one after the other. */
import type { Command, HttpLoad, Numbers } from '../measure.js'
import { ofRounds } from '../measure.js'
import { type Aim, type Bench, callerCounts, type Line, pacedEveryMs, registerType, type Scenario, sideBySide } from '../scenario.js'

const spawnBody = JSON.stringify({
  args: { topic: 'weather' },
  tags: { team: 'bench' },
  initialMessage: { text: 'hello' },
  initialMessageType: 'note',
})

/** Spawns entities of a fresh name; `made` counts them. */
class Entities {
  readonly #bench: Bench
  readonly #type: string
  made = 0
  killed = 0

  constructor(bench: Bench, type: string) {
    this.#bench = bench
    this.#type = type
  }

  async spawn(command: Omit<Command, 'load' | 'from'>): Promise<Numbers> {
    const numbers = await this.#bench.parts.generator.run(this.spawning(command))
    this.made += numbers.operations
    return numbers
  }

  spawning(command: Omit<Command, 'load' | 'from'>): Command {
    return { ...command, from: this.made, load: this.#load('PUT', '', spawnBody) }
  }

  killing(command: Omit<Command, 'load' | 'from'>): Command {
    const { count = Number.POSITIVE_INFINITY } = command
    const load = this.#load('POST', '/signal', JSON.stringify({ signal: 'SIGKILL' }))
    return { ...command, from: this.killed, count: Math.min(count, this.made - this.killed), load }
  }

  async kill(command: Omit<Command, 'load' | 'from'>): Promise<Numbers> {
    const numbers = await this.#bench.parts.generator.run(this.killing(command))
    this.killed += numbers.operations
    return numbers
  }

  #load(method: 'PUT' | 'POST', below: string, body: string): HttpLoad {
    return { is: 'http', origin: this.#bench.parts.url, method, path: `/_electric/entities/${this.#type}/e{n}${below}`, body }
  }
}

const spawnedPerRound = { 1: 60, 16: 500, 64: 2_000, 256: 4_000 } as const

/** One round, all numbers of callers: entities are spawned, and killed by as many callers. */
async function closedLoops(bench: Bench, entities: Entities, verb: 'spawn' | 'kill'): Promise<readonly Numbers[]> {
  const numbers: Numbers[] = []
  for (const callers of callerCounts) {
    if (verb === 'kill') await entities.spawn({ callers: 256, count: Math.ceil((spawnedPerRound[callers] * bench.roundMs) / 2_000) })
    numbers.push(verb === 'kill' ? await entities.kill({ callers }) : await entities.spawn({ callers, forMs: bench.roundMs }))
  }
  return numbers
}

async function operations(bench: Bench, verb: 'spawn' | 'kill') {
  const type = `bench-${verb}`
  await registerType(bench.parts.url, type)
  const entities = new Entities(bench, type)
  const paced = { callers: 1, everyMs: pacedEveryMs, count: Math.ceil((3 * bench.roundMs) / pacedEveryMs) }
  const ours: Numbers[] = []
  const floors: Numbers[] = []
  const loops: (readonly Numbers[])[] = []
  for (let round = 0; round <= bench.rounds; round += 1) {
    if (verb === 'kill') await entities.spawn({ callers: 16, count: paced.count })
    const command = verb === 'kill' ? entities.killing(paced) : entities.spawning(paced)
    const pair = await sideBySide(bench, command, { ...paced, load: { is: 'start+transaction' } })
    if (verb === 'kill') entities.killed += pair.ours.operations
    else entities.made += pair.ours.operations
    const loop = await closedLoops(bench, entities, verb)
    if (round === 0) continue // it warmed up
    ours.push(pair.ours)
    floors.push(pair.floor)
    loops.push(loop)
  }
  const byCallers = callerCounts.map((_, index) => ofRounds(loops.map((loop) => loop[index] as Numbers))) // one for each number of callers
  return { paced: { ours: ofRounds(ours), floor: ofRounds(floors) }, byCallers }
}

function scenarioOf(verb: 'spawn' | 'kill'): Scenario {
  return async (bench) => {
    const { paced, byCallers } = await operations(bench, verb)
    const lines: Line[] = [
      { what: `${verb}, five a second`, callers: 1, numbers: paced.ours, floor: paced.floor },
      ...callerCounts.map((callers, index) => ({ what: `${verb}, closed loop`, callers, numbers: byCallers[index] as Numbers })),
    ]
    const [one, , many, most] = byCallers as [Numbers, Numbers, Numbers, Numbers]
    const aims: Aim[] = [
      {
        what: 'one caller, five a second: p50 against start + transaction',
        bound: { atMost: 2.2 },
        measured: paced.ours.p50Ms / paced.floor.p50Ms,
      },
      { what: '64 callers against one, operations per second', bound: { atLeast: 20 }, measured: many.perSecond / one.perSecond },
      { what: '256 callers against one, operations per second', bound: { atLeast: 35 }, measured: most.perSecond / one.perSecond },
      { what: '64 callers: p99 against p50', bound: { atMost: 3 }, measured: many.p99Ms / many.p50Ms },
      { what: '256 callers: p99 against p50', bound: { atMost: 3 }, measured: most.p99Ms / most.p50Ms },
      { what: 'errors', bound: { atMost: 0 }, measured: [paced.ours, ...byCallers].reduce((sum, { errors }) => sum + errors, 0) },
    ]
    return { name: verb, lines, aims }
  }
}

export const spawn = scenarioOf('spawn')
export const kill = scenarioOf('kill')
