/** Requests that are no workflow: send, append, read, get; beside a transaction, and beside routes of the same shell that do nothing. */
import type { HttpLoad, Numbers } from '../measure.js'
import {
  type Aim,
  ask,
  type Bench,
  callerCounts,
  inTurn,
  type Line,
  type Round,
  registerType,
  type Scenario,
  type Section,
} from '../scenario.js'

const keys = 64

interface Compared {
  readonly name: string
  readonly what: string
  readonly ours: HttpLoad
  /** The route of the shell that parses, validates and answers. */
  readonly shell: HttpLoad
  /** Against a two-statement transaction, one caller. */
  readonly atMostTransactions?: number
  readonly shellCallers: 16 | 64
}

type Name = `${'ours' | 'shell'} ${number}` | 'transaction'

/** Ours and the empty route for every number of callers, and the transaction of one caller, all in turn. */
export async function compare(bench: Bench, { name, what, ours, shell, atMostTransactions, shellCallers }: Compared): Promise<Section> {
  const { generator, floors } = bench.parts
  const forMs = bench.roundMs
  const pairs = callerCounts.flatMap((callers) => [
    [`shell ${callers}`, () => generator.run({ load: shell, callers, forMs })],
    [`ours ${callers}`, () => generator.run({ load: ours, callers, forMs })],
  ])
  const transaction = () => floors.run({ load: { is: 'transaction' }, callers: 1, forMs })
  const all: Readonly<Record<Name, Round>> = Object.fromEntries([['transaction', transaction], ...pairs])
  const numbers = await inTurn(bench, all)
  const of = (key: Name): Numbers => numbers[key] as Numbers // every name was measured
  const lines: Line[] = [
    ...(atMostTransactions === undefined
      ? []
      : [{ what: 'floor: two-statement transaction, no HTTP', callers: 1, numbers: of('transaction') }]),
    ...callerCounts.map((callers): Line => ({ what, callers, numbers: of(`ours ${callers}`), floor: of(`shell ${callers}`) })),
  ]
  const aims: Aim[] = [
    ...(atMostTransactions === undefined
      ? []
      : [
          {
            what: 'one caller: p50 against a two-statement transaction',
            bound: { atMost: atMostTransactions },
            measured: of('ours 1').p50Ms / of('transaction').p50Ms,
          },
        ]),
    {
      what: `${shellCallers} callers: operations per second against a route that only parses, validates and answers`,
      bound: { atLeast: 0.5 },
      measured: of(`ours ${shellCallers}`).perSecond / of(`shell ${shellCallers}`).perSecond,
    },
    { what: 'errors', bound: { atMost: 0 }, measured: callerCounts.reduce((sum, callers) => sum + of(`ours ${callers}`).errors, 0) },
  ]
  return { name, lines, aims }
}

export async function entitiesOf(bench: Bench, type: string): Promise<void> {
  await registerType(bench.parts.url, type)
  for (let key = 0; key < keys; key += 1) await ask(bench.parts.url, 'PUT', `/_electric/entities/${type}/e${key}`, {})
}

export const send: Scenario = async (bench) => {
  await entitiesOf(bench, 'bench-send')
  const load = { is: 'http', method: 'POST', keys, body: JSON.stringify({ payload: { text: 'hello, how are you today?' } }) } as const
  return await compare(bench, {
    name: 'send',
    what: 'send; floor: parse, validate, answer',
    ours: { ...load, origin: bench.parts.url, path: '/_electric/entities/bench-send/e{k}/send' },
    shell: { ...load, origin: bench.parts.shellUrl, path: '/_electric/bench/bench-send/e{k}/send' },
    atMostTransactions: 3,
    shellCallers: 64,
  })
}

export const get: Scenario = async (bench) => {
  await entitiesOf(bench, 'bench-get')
  const load = { is: 'http', method: 'GET', keys } as const
  return await compare(bench, {
    name: 'get',
    what: 'GET entity; floor: empty route',
    ours: { ...load, origin: bench.parts.url, path: '/_electric/entities/bench-get/e{k}' },
    shell: { ...load, origin: bench.parts.shellUrl, path: '/_electric/bench/empty' },
    shellCallers: 16,
  })
}

const event = { type: 'note', key: 'k', value: { text: 'hello, how are you today?' } }

async function streamsOf(bench: Bench, name: string, events: number): Promise<void> {
  for (let key = 0; key < keys; key += 1) {
    const path = `/bench/${name}-${key}`
    await ask(bench.parts.url, 'PUT', path)
    for (let index = 0; index < events; index += 1) await ask(bench.parts.url, 'POST', path, event)
  }
}

export const append: Scenario = async (bench) => {
  await streamsOf(bench, 'append', 0)
  const load = { is: 'http', method: 'POST', keys, body: JSON.stringify(event), path: '/bench/append-{k}' } as const
  const section = await compare(bench, {
    name: 'append',
    what: 'append; floor: parse, validate, answer',
    ours: { ...load, origin: bench.parts.url },
    shell: { ...load, origin: bench.parts.shellUrl },
    atMostTransactions: 3,
    shellCallers: 64,
  })
  const { raw } = await inTurn(bench, {
    raw: () => bench.parts.floors.run({ load: { is: 'raw append' }, callers: 64, forMs: bench.roundMs }),
  })
  return {
    ...section,
    lines: [...section.lines, { what: 'raw store, in-process', callers: 64, numbers: raw }],
    aims: [
      ...section.aims,
      { what: 'raw store, 64 callers in-process: appends per second', bound: { atLeast: 10_000 }, measured: raw.perSecond },
    ],
  }
}

export const read: Scenario = async (bench) => {
  const few = 10
  const many = 1_000
  await streamsOf(bench, 'read', few)
  const long = '/bench/long'
  await ask(bench.parts.url, 'PUT', long)
  for (let index = 0; index < many; index += 1) await ask(bench.parts.url, 'POST', long, event)
  const load = { is: 'http', method: 'GET', keys, path: '/bench/read-{k}?offset=-1' } as const
  const section = await compare(bench, {
    name: 'read',
    what: `read of ${few} events; floor: answer of as many bytes`,
    ours: { ...load, origin: bench.parts.url },
    shell: { ...load, origin: bench.parts.shellUrl },
    atMostTransactions: 3,
    shellCallers: 64,
  })
  const { generator, floors } = bench.parts
  const whole = { is: 'http', method: 'GET', origin: bench.parts.url, path: `${long}?offset=-1` } as const
  const { select, ours } = await inTurn(bench, {
    select: () => floors.run({ load: { is: 'select', stream: long }, callers: 1, forMs: bench.roundMs }),
    ours: () => generator.run({ load: whole, callers: 1, forMs: bench.roundMs }),
  })
  return {
    ...section,
    lines: [...section.lines, { what: `read of ${many} events; floor: bare SELECT, no HTTP`, callers: 1, numbers: ours, floor: select }],
    aims: [
      ...section.aims,
      { what: `${many} events: p50 against the bare SELECT of the same bytes`, bound: { atMost: 2 }, measured: ours.p50Ms / select.p50Ms },
    ],
  }
}
