/** What a scenario gets, and what it leaves: lines of numbers, and aims that were met or missed. */
import { type Command, type Numbers, ofRounds } from './measure.js'
import type { BenchParts } from './parts.js'

export interface Bench {
  readonly parts: BenchParts
  /** Rounds after the one that only warms up. */
  readonly rounds: number
  readonly roundMs: number
  /** Entities of the restart scenario. */
  readonly manyEntities: number
}

export interface Line {
  readonly what: string
  readonly callers: number
  readonly numbers: Numbers
  /** Of the line's own floor, from the same rounds. */
  readonly floor?: Numbers
}

export interface Aim {
  readonly what: string
  readonly bound: { readonly atMost: number } | { readonly atLeast: number }
  readonly measured: number
}

export interface Section {
  readonly name: string
  readonly lines: readonly Line[]
  readonly aims: readonly Aim[]
  readonly notes?: readonly string[]
}

export type Scenario = (bench: Bench) => Promise<Section>

export const isMet = ({ bound, measured }: Aim): boolean => ('atMost' in bound ? measured <= bound.atMost : measured >= bound.atLeast)

export const callerCounts = [1, 16, 64, 256] as const
/** So many requests a second of one caller are a pace at which nothing queues. */
export const pacedEveryMs = 200

/** A measurement that can be repeated. */
export type Round = () => Promise<Numbers>

/** Every measurement once to warm up, then all of them in turn, round by round: noise of the machine meets each alike. */
export async function inTurn<Name extends string>(
  bench: Bench,
  measurements: Readonly<Record<Name, Round>>,
): Promise<Readonly<Record<Name, Numbers>>> {
  const names = Object.keys(measurements) as Name[] // its own keys
  const rounds = new Map<Name, Numbers[]>(names.map((name) => [name, []]))
  for (let round = 0; round <= bench.rounds; round += 1) {
    for (const name of names) {
      const numbers = await measurements[name]()
      if (round > 0) rounds.get(name)?.push(numbers)
    }
  }
  return Object.fromEntries([...rounds].map(([name, numbers]) => [name, ofRounds(numbers)])) as Record<Name, Numbers>
}

/** Ours and its floor at the same pace, half a period apart. */
export async function sideBySide(
  { parts }: Bench,
  ours: Command,
  floor: Command,
): Promise<{ readonly ours: Numbers; readonly floor: Numbers }> {
  const half = new Promise((resolve) => setTimeout(resolve, (ours.everyMs ?? 0) / 2))
  const [oursNumbers, floorNumbers] = await Promise.all([parts.generator.run(ours), half.then(() => parts.floors.run(floor))])
  return { ours: oursNumbers, floor: floorNumbers }
}

/** One request, to set something up. */
export async function ask(url: string, method: string, path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(url + path, {
    method,
    headers: { 'content-type': 'application/json' },
    body: body === undefined ? null : JSON.stringify(body),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
  return text
}

export const registerType = async (url: string, name: string): Promise<unknown> =>
  await ask(url, 'POST', '/_electric/entity-types', {
    name,
    description: 'of the bench',
    creation_schema: { type: 'object', properties: { topic: { type: 'string' } } },
    inbox_schemas: { note: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] } },
  })
