/** The server dies of SIGKILL at chosen points between an append and the effects of its handler's done; in both stream modes where they differ. */
import type { WebhookHandler } from '../support/webhook-handler.js'
import type { Point } from './arming.js'
import { CountTable, type Lane, Lanes } from './crashes.js'
import { judgeDispatch, leasesOf, quickTakeover, serve, startAgents, untilIdle } from './dispatching.js'
import { Load, type LoadOptions } from './ledger.js'

const startsWake = 'UPDATE subscriptions s SET generation'
const endsWake = 'SET wake_id = NULL'
const decided: Point = { name: 'wake decided, not delivered', at: `^pg:after COMMIT of .*${startsWake}`, nth: 6 }
const written: Point = { name: 'run written, not answered', at: '^http:before POST /chat/[^/]*/main', nth: 10 }

const points = {
  postgres: [
    decided,
    { name: 'delivery begun, not sent', at: '^pg:after COMMIT of .*SET attempts = s.attempts', nth: 6 },
    { name: 'delivered, answer not read', at: '^streams:before POST /electric-agents', nth: 10 },
    { name: 'delivery answered, not noted', at: '^streams:after POST /electric-agents', nth: 10 },
    { name: 'claimed, not answered', at: '^pg:after COMMIT of .*INSERT INTO write_tokens', nth: 6 },
    written,
    { name: 'done: before the commit', at: `^pg:before COMMIT of .*${endsWake}`, nth: 6 },
    { name: 'done: committed, not answered', at: `^pg:after COMMIT of .*${endsWake}`, nth: 6 },
  ],
  /** What follows from an append is a transaction of its own; all that is about rows alone is the same. */
  http: [
    { name: 'message on its stream, wake not decided', at: '^streams:after POST .*/chat/', nth: 20 },
    { name: 'wake decided, its intent not cleared', at: `^pg:before COMMIT of .*${startsWake}.*DELETE FROM append_intents`, nth: 3 },
    decided,
    { name: 'run on its stream, nobody has heard of it', at: '^pg:before COMMIT of .*INSERT INTO projections', nth: 6 },
    written,
  ],
} as const satisfies Readonly<Record<string, readonly Point[]>>

type Streams = keyof typeof points
const all = (Object.keys(points) as Streams[]).flatMap((streams) => points[streams].map((point) => ({ streams, ...point })))

/** A message to an entity that is worked on wakes nobody. */
const loadFor = ({ name }: Point) =>
  name === 'wake decided, its intent not cleared' ? (options: LoadOptions) => Load.start({ ...options, beforeSend: untilIdle }) : Load.start

/** A house, and who handles its messages. */
interface Stage {
  readonly lanes: Lanes
  readonly agents: ReadonlyMap<Lane, WebhookHandler>
}

async function staged(streams: Streams, count: number): Promise<Stage> {
  const lanes = await Lanes.start(count, { streams, env: quickTakeover })
  const agents = await lanes.each(async (lane) => {
    await leasesOf(lane.wire, 2_000)
    const handler = await startAgents({ baseUrl: lane.wire.house.url })
    await serve(lane.wire, 'chat', handler.url)
    return handler
  })
  return { lanes, agents }
}

const table = new CountTable('the server killed in dispatch')
const stages = new Map<Streams, Stage>()
beforeAll(async () => {
  const [postgres, http] = await Promise.all([staged('postgres', 2), staged('http', 2)])
  stages.set('postgres', postgres).set('http', http)
}, 120_000)
afterAll(async () => {
  for (const [streams, { lanes, agents }] of stages) {
    for (const handler of agents.values()) {
      process.stdout.write(`handlers of servers that were killed, streams ${streams}: ${handler.log}\n`)
      await handler.stop()
    }
    await lanes.stop()
  }
  table.print()
})

describe('a server killed while it dispatches has every message handled, nothing twice at a time, and leaves nothing', () => {
  it.concurrent.each(all)(
    'streams: $streams, $name',
    async ({ streams, ...point }) => {
      const stage = stages.get(streams)
      await stage?.lanes.use(async (lane) => {
        const agents = stage.agents.get(lane)
        if (agents === undefined) throw new Error('a lane without a handler')
        const asked = await lane.crash(point, loadFor(point))
        const { wrong, counts } = await lane.judge(asked, async (wire, requests) => await judgeDispatch(wire, agents, requests))

        table.add(`${point.name}, ${streams}`, counts)
        expect(wrong).toEqual([])
      })
      expect(stage).toBeDefined()
    },
    240_000,
  )
})
