/** Forks beside a spawn: issue "Fork", aims of its bench. What a fork costs must not depend on how long a history is, or on how large attachments are. */
import { type EntityUrl, mainStream, type Offset } from '../../src/domain/ids.js'
import { Database } from '../../src/registry/database.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'
import type { HttpLoad, Numbers } from '../measure.js'
import { type Aim, ask, type Bench, inTurn, type Line, registerType, type Scenario } from '../scenario.js'
import { formOf, multipart } from './attachments.js'

const type = 'bench-fork'
const childCounts = [20, 100] as const
const lengths = [100, 10_000, 100_000] as const
const attachments = 10
const crowd = 16
const appendsAtOnce = 512
/** Each round in so many short turns: what is compared differs by less than a busy second. */
const turns = 4

const urlOf = (id: string) => `/${type}/${id}` as EntityUrl

export const fork: Scenario = async (bench) => {
  const { generator, url } = bench.parts
  const middles = await prepared(bench)
  const forking = (id: string, body: object = {}): HttpLoad => ({
    is: 'http',
    method: 'POST',
    origin: url,
    path: `/_electric/entities${urlOf(id)}/fork`,
    body: JSON.stringify(body),
  })
  const alone = (load: HttpLoad) => () => generator.run({ load, callers: 1, forMs: bench.roundMs / turns })
  let spawned = 0
  const spawn = async () => {
    const load = { is: 'http', method: 'PUT', origin: url, path: `/_electric/entities${urlOf('spawned-{n}')}`, body: '{}' } as const
    const numbers = await generator.run({ load, callers: 1, forMs: bench.roundMs / turns, from: spawned })
    spawned += numbers.operations
    return numbers
  }
  const pointer = (length: number) => ({ fork_pointer: { offset: middles.get(length), sub_offset: 1 } })
  const many = { ...forking('crowd-{k}'), keys: crowd }
  const measurements: Readonly<Record<string, () => Promise<Numbers>>> = {
    spawn,
    bare: alone(forking('bare')),
    ...Object.fromEntries(childCounts.map((count) => [`children ${count}`, alone(forking(`children-${count}`))])),
    ...Object.fromEntries(lengths.map((length) => [`HEAD ${length}`, alone(forking(`history-${length}`))])),
    ...Object.fromEntries(lengths.map((length) => [`pointer ${length}`, alone(forking(`history-${length}`, pointer(length)))])),
    attachments: alone(forking('attachments')),
    one: alone(many),
    crowd: () => generator.run({ load: many, callers: crowd, forMs: bench.roundMs / turns }),
  }
  const numbers = await inTurn({ ...bench, rounds: bench.rounds * turns }, measurements)
  const of = (name: string): Numbers => numbers[name] as Numbers // every name was measured
  const against = (what: string, name: string, other: string, atMost: number): Aim => ({
    what: `${what}: p50`,
    bound: { atMost },
    measured: of(name).p50Ms / of(other).p50Ms,
  })
  const spread = (how: string): Aim => {
    const p50s = lengths.map((length) => of(`${how} ${length}`).p50Ms)
    return {
      what: `forks of ${lengths.join(', ')} events at ${how}: slowest p50 against fastest`,
      bound: { atMost: 1.3 },
      measured: Math.max(...p50s) / Math.min(...p50s),
    }
  }
  const line = (what: string, name: string, callers = 1): Line => ({ what, callers, numbers: of(name), floor: of('spawn') })
  const lines = [
    line('spawn', 'spawn'),
    line('fork of an entity alone; floor: a spawn', 'bare'),
    ...childCounts.map((count) => line(`fork of ${count} children`, `children ${count}`)),
    ...lengths.map((length) => line(`fork of ${length} events at HEAD`, `HEAD ${length}`)),
    ...lengths.map((length) => line(`fork of ${length} events at a pointer in their middle`, `pointer ${length}`)),
    line(`fork with ${attachments} attachments of 1 MiB`, 'attachments'),
    line(`forks of ${crowd} sources, closed loop`, 'one'),
    line(`forks of ${crowd} sources, closed loop`, 'crowd', crowd),
  ]
  return {
    name: 'fork',
    lines,
    aims: [
      against('fork of an entity alone against a spawn', 'bare', 'spawn', 1.5),
      against('20 children against none', 'children 20', 'bare', 2),
      against('100 children against none', 'children 100', 'bare', 4),
      spread('HEAD'),
      spread('pointer'),
      against(`${attachments} attachments of 1 MiB against none`, 'attachments', 'bare', 1.3),
      {
        what: `${crowd} callers against one, forks per second`,
        bound: { atLeast: 6 },
        measured: of('crowd').perSecond / of('one').perSecond,
      },
      { what: 'errors', bound: { atMost: 0 }, measured: lines.reduce((sum, { numbers: { errors } }) => sum + errors, 0) },
    ],
  }
}

/** The sources; where the middle of each history is. */
async function prepared(bench: Bench): Promise<ReadonlyMap<number, Offset>> {
  const { url } = bench.parts
  await registerType(url, type)
  const spawn = async (id: string, body: object = {}) => await ask(url, 'PUT', `/_electric/entities${urlOf(id)}`, body)
  await spawn('bare')
  for (let key = 0; key < crowd; key += 1) await spawn(`crowd-${key}`)
  for (const count of childCounts) {
    await spawn(`children-${count}`)
    for (let child = 0; child < count; child += 1) await spawn(`child-${count}-${child}`, { parent: urlOf(`children-${count}`) })
  }
  await spawn('attachments')
  for (let nth = 0; nth < attachments; nth += 1) await upload(url, 'attachments', `file-${nth}`)
  for (const length of lengths) await spawn(`history-${length}`)
  return await histories(bench)
}

async function upload(url: string, id: string, name: string): Promise<void> {
  const response = await fetch(`${url}/_electric/entities${urlOf(id)}/attachments`, {
    method: 'POST',
    headers: { 'content-type': multipart },
    body: formOf({ subjectType: 'inbox', subjectKey: 'm1', id: name }),
  })
  if (!response.ok) throw new Error(`an upload answered ${response.status} ${await response.text()}`)
}

/** Each event is an entry of its own, as runtimes write most of theirs; straight into the store, because only a claim may append over HTTP. */
async function histories({ parts: { databaseUrl } }: Bench): Promise<ReadonlyMap<number, Offset>> {
  const database = new Database({ url: databaseUrl, tenant: 'default', poolMax: 4 })
  const streams = new PostgresStreams({ database })
  const middles = new Map<number, Offset>()
  try {
    for (const length of lengths) {
      const path = mainStream(urlOf(`history-${length}`))
      const append = async (nth: number) => {
        const event = { type: 'text', key: `text-${nth}`, value: { text: 'hello, how are you today?' }, headers: { operation: 'insert' } }
        const verdict = await streams.append(path, { contentType: 'application/json', body: Buffer.from(JSON.stringify(event)) })
        if (verdict.outcome !== 'appended') throw new Error(`an append was ${JSON.stringify(verdict)}`)
        if (nth === length / 2) middles.set(length, verdict.tail)
      }
      for (let begun = 0; begun < length; begun += appendsAtOnce)
        await Promise.all(Array.from({ length: Math.min(appendsAtOnce, length - begun) }, async (_, nth) => await append(begun + nth)))
    }
    return middles
  } finally {
    await streams.close()
    await database.close()
  }
}
