/**
 * Every process that a fork needs dies of SIGKILL, at chosen points of its workflow, in both stream modes: afterwards the fork is complete and says so
 * once, or there is no trace of it.
 */
import type { WorkflowHandle } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import type { PartId } from '../support/house.js'
import type { Point } from './arming.js'
import { CountTable, type Lane, Lanes } from './crashes.js'
import { gone, judgeForks, tracesOf } from './fork-findings.js'
import { comeToRest, ForkLoad, type ForkRequest, forked, type Original, originalsOf } from './forks.js'
import type { LoadOptions } from './ledger.js'

type Streams = 'postgres' | 'http'

interface Crash extends Point {
  readonly streams: Streams
  readonly waits?: true
}

const postgres = (name: string, at: string, nth: number, more: { readonly waits?: true } = {}): Crash => ({
  streams: 'postgres',
  name,
  at,
  nth,
  ...more,
})
const foreign = (name: string, at: string, nth: number, more: { readonly waits?: true } = {}): Crash => ({
  streams: 'http',
  name,
  at,
  nth,
  ...more,
})

const isCopying = 'i\\.source COLLATE'
const transaction = `${isCopying}.*INSERT INTO operations`
const shows = 'SET reserved_by = NULL.*INSERT INTO operations'
const waits = { waits: true } as const

const serverCrashes = {
  postgres: [
    postgres('before its workflow is started', '^temporal:before start forkSubtree', 3),
    postgres('workflow started, nothing looked at', '^temporal:after start forkSubtree', 3),
    postgres('looked at under locks, nothing inserted', `^pg:before INSERT INTO entities .*${isCopying}`, 3),
    postgres('rows inserted, no stream', `^pg:after INSERT INTO entities .*${isCopying}`, 3),
    postgres('streams made, nothing projected', '^pg:before INSERT INTO projections', 3),
    postgres('before the commit', `^pg:before COMMIT of .*${transaction}`, 3),
    postgres('commit sent, not heard of', `^pg:sent COMMIT of .*${transaction}`, 3),
    postgres('committed, nobody told', `^pg:after COMMIT of .*${transaction}`, 3),
    postgres('before its answer', '^http:before POST .*/fork', 5),
    postgres('answered, its workflow still open', '^http:after POST .*/fork', 5),
    postgres('waits: written down, its workflow not told', '^pg:after COMMIT of .*INSERT INTO waiters', 3, waits),
    postgres('waits: somebody rests, the workflow is not told', '^pg:after COMMIT of .*SET status.*INSERT INTO waiter_signals', 3, waits),
    postgres('waits: told, the signal still owed', '^pg:before COMMIT of .*DELETE FROM waiter_signals', 3, waits),
    postgres('waits: committed, nobody told', `^pg:after COMMIT of .*DELETE FROM waiters .*INSERT INTO operations`, 3, waits),
  ],
  http: [
    foreign('workflow started, nothing looked at', '^temporal:after start forkSubtree', 2),
    foreign('rows reserved, no stream', `^pg:after COMMIT of .*${isCopying}.*INSERT INTO operation_payloads`, 2),
    foreign('before a stream is forked', '^streams:before PUT .*/worker/', 6),
    foreign('a stream forked, others not', '^streams:after PUT .*/chat/', 4),
    foreign('some events of a copy written', '^streams:after POST .*/chat/', 9),
    foreign('main streams stand, shared state and attachment do not', '^streams:before PUT .*/shared-state/', 3),
    foreign('an attachment forked', '^streams:after PUT .*/attachments/', 3),
    foreign('before the commit that shows it', `^pg:before COMMIT of .*${shows}`, 2),
    foreign('shown, nobody told', `^pg:after COMMIT of .*${shows}`, 2),
    foreign('before its answer', '^http:before POST .*/fork', 5),
    foreign('waits: somebody rests, the workflow is not told', '^pg:after COMMIT of .*SET status.*INSERT INTO waiter_signals', 3, waits),
    foreign('waits: reserved, no stream', `^pg:after COMMIT of .*${isCopying}.*INSERT INTO operation_payloads`, 2, waits),
  ],
} as const satisfies Readonly<Record<Streams, readonly Crash[]>>

const workerCrashes = [
  postgres('rows inserted, no stream', `^pg:after INSERT INTO entities .*${isCopying}`, 3),
  postgres('waits: committed, nobody told', `^pg:after COMMIT of .*DELETE FROM waiters .*INSERT INTO operations`, 3, waits),
  foreign('a stream forked, others not', '^streams:after PUT .*/worker/', 6),
]

const parts = [
  ...(['temporal', 'postgres', 'tree'] as const).map((part) => ({ streams: 'postgres' as const, part })),
  ...(['temporal', 'postgres', 'streams', 'tree'] as const).map((part) => ({ streams: 'http' as const, part })),
]

const callers = 4
/** What a dead process left is taken over within seconds. */
const env = { ELECTRIC_AGENTS_APPEND_INTENT_OWNED_MS: '3000' }
const kinds = ['server postgres', 'server http', 'parts postgres', 'parts http'] as const
type Kind = (typeof kinds)[number]

/** Houses of one kind, each with sources that are complete. */
interface Stage {
  readonly lanes: Lanes
  readonly originals: ReadonlyMap<Lane, readonly Original[]>
}

async function staged(kind: Kind): Promise<Stage> {
  const streams = kind.endsWith('http') ? 'http' : 'postgres'
  const separate = { worker: 'separate', victim: 'worker', own: ['postgres', 'temporal'] } as const
  const lanes = kind.startsWith('server') ? await Lanes.start(2, { streams, env }) : await Lanes.start(1, { streams, env, ...separate })
  return { lanes, originals: await lanes.each(async ({ wire }) => await originalsOf(wire, callers)) }
}

const table = new CountTable('a fork, and what is killed')
const stages = new Map<Kind, Stage>()
beforeAll(async () => {
  for (const [kind, stage] of await Promise.all(kinds.map(async (kind) => [kind, await staged(kind)] as const))) stages.set(kind, stage)
}, 180_000)
afterAll(async () => {
  await Promise.all([...stages.values()].map(async ({ lanes }) => await lanes.stop()))
  table.print()
})

async function on(kind: Kind, work: (lane: Lane, originals: readonly Original[]) => Promise<void>): Promise<void> {
  const stage = stages.get(kind)
  if (stage === undefined) throw new Error(`no house of kind ${kind}`)
  await stage.lanes.use(async (lane) => await work(lane, stage.originals.get(lane) ?? []))
}

const loadOf = (lane: Lane, originals: readonly Original[], crash: { readonly waits?: boolean }) => (options: LoadOptions) =>
  ForkLoad.start({ ...options, wire: lane.wire, originals, waits: crash.waits === true })

async function expectWhole(lane: Lane, what: string, forks: readonly ForkRequest[]): Promise<void> {
  const { wrong, counts } = await lane.judge(forks, judgeForks)
  table.add(what, counts)
  expect(wrong).toEqual([])
}

async function crashed(kind: Kind, { name, ...crash }: Crash): Promise<void> {
  const what = `${kind}: ${name}`
  await on(kind, async (lane, originals) => {
    const forks = await lane.crash({ name: what, ...crash }, loadOf(lane, originals, crash))
    if (crash.waits) await comeToRest(lane.wire, originals)
    await expectWhole(lane, what, forks)
  })
}

/** Forks before, during and after the death of a part. */
async function interrupted(kind: Kind, part: Exclude<PartId, `server-${number}`> | 'tree'): Promise<void> {
  await on(kind, async (lane, originals) => {
    const { house } = lane.wire
    const name = `${part}-dies`
    const load = loadOf(lane, originals, {})({ urls: house.urls, name, onLost: 'waits' })
    const acknowledges = async (more: number) => {
      const before = load.count()
      await eventually(() => load.count() >= before + more || undefined, { withinMs: 60_000 })
    }
    try {
      await acknowledges(6)
      await (part === 'tree' ? house.killAll() : house.kill(part))
      await (part === 'tree' ? house.restartAll() : house.restart(part))
      await acknowledges(6)
    } finally {
      await load.stop()
    }
    await expectWhole(lane, `${kind}: ${part}`, load.forks)
  })
}

/** A fork whose worker died of `point`, and its workflow. */
async function stopped(lane: Lane, original: Original, point: Point, waits: boolean) {
  const { house } = lane.wire
  const [kid = ''] = original.kids
  lane.seam.arm(point)
  if (waits) await lane.wire.putInto('running', kid)
  const url = `/chat/${point.name.replaceAll(/[^a-z]+/gi, '-')}`
  const asked = forked(house.url, { original, url, atAnchor: false, waits })
  await lane.seam.fired(point)
  await house.kill('worker')
  return { asked, handle: lane.temporal.workflow.getHandle(`fork:${url}`) }
}

const halfForked = (name: string): Point => ({ name, at: '^streams:after PUT .*/worker/', nth: 2 })
const written = (name: string): Point => ({ name, at: '^pg:after COMMIT of .*INSERT INTO waiters', nth: 1 })

const endings: readonly {
  readonly kind: Kind
  readonly what: string
  readonly waits: boolean
  end(lane: Lane, handle: WorkflowHandle): Promise<unknown>
}[] = [
  { kind: 'parts postgres', what: 'cancelled while it waits', waits: true, end: async (_, handle) => await handle.cancel() },
  { kind: 'parts http', what: 'cancelled while it copies', waits: false, end: async (_, handle) => await handle.cancel() },
  {
    kind: 'parts http',
    what: 'cancelled, and killed again while it undoes',
    waits: false,
    end: async (lane, handle) => {
      const point = { name: 'undoing', at: '^streams:after DELETE .*/(chat|worker)/', nth: 1 }
      lane.seam.arm(point)
      await handle.cancel()
      await lane.wire.house.restart('worker')
      await lane.seam.fired(point)
      await lane.wire.house.kill('worker')
    },
  },
  {
    kind: 'parts http',
    what: 'terminated while it copies',
    waits: false,
    end: async (lane, handle) => {
      await handle.terminate()
      await lane.wire.sql('UPDATE entities SET created_at = created_at - 3600000 WHERE reserved_by IS NOT NULL') // as if it had lain there for long
    },
  },
  { kind: 'parts postgres', what: 'terminated while it waits', waits: true, end: async (_, handle) => await handle.terminate() },
]

async function ended({ kind, what, waits, end }: (typeof endings)[number]): Promise<void> {
  await on(kind, async (lane, [original]) => {
    if (original === undefined) throw new Error('a house without sources')
    const { wire } = lane
    const fork = await stopped(lane, original, (waits ? written : halfForked)(what), waits)
    try {
      await end(lane, fork.handle)
    } finally {
      await wire.house.restart('worker')
    }
    if (waits) await comeToRest(wire, [original])

    const request = await fork.asked
    expect(request).toMatchObject({ outcome: 'unknown', answer: expect.stringContaining('503') })
    await eventually(
      async () => (await tracesOf(wire, request)).length === 0 || Promise.reject(new Error((await tracesOf(wire, request)).join())),
      {
        withinMs: 45_000,
        everyMs: 250,
      },
    )
    await lane.judge([], async () => ({ wrong: [], counts: { acknowledged: 0, unacknowledgedComplete: 0, unacknowledgedAbsent: 0 } }))
    table.add(`${kind}: ${what}`, { acknowledged: 0, unacknowledgedComplete: 0, unacknowledgedAbsent: 1 })
    expect(await gone(wire, request)).toEqual([])
  })
}

/** One after the other of each list, so that every kind of house is always at work. */
function dealt<Item>(...lists: readonly (readonly Item[])[]): readonly Item[] {
  const longest = Math.max(...lists.map(({ length }) => length))
  return Array.from({ length: longest }, (_, index) => lists.flatMap((list) => list[index] ?? [])).flat()
}

interface Case {
  readonly what: string
  run(): Promise<void>
}
const caseOf =
  (kind: Kind) =>
  (crash: Crash): Case => ({ what: `${kind}: ${crash.name}`, run: async () => await crashed(kind, crash) })
const partsOf = (streams: Streams): readonly Case[] => [
  ...workerCrashes.filter((crash) => crash.streams === streams).map(caseOf(`parts ${streams}`)),
  ...parts
    .filter((crash) => crash.streams === streams)
    .map(({ part }) => ({ what: `parts ${streams}: ${part}`, run: async () => await interrupted(`parts ${streams}`, part) })),
  ...endings
    .filter(({ kind }) => kind === `parts ${streams}`)
    .map((ending) => ({ what: `parts ${streams}: ${ending.what}`, run: async () => await ended(ending) })),
]
const cases = dealt(
  serverCrashes.postgres.map(caseOf('server postgres')),
  serverCrashes.http.map(caseOf('server http')),
  partsOf('postgres'),
  partsOf('http'),
)

describe('a fork whose processes are killed is complete and says so once, or has left no trace', () => {
  it.concurrent.each(cases)('$what', async ({ run }) => await run(), 300_000)
})
