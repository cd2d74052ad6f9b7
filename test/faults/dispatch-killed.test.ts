/** The server dies of SIGKILL at chosen points between an append and the effects of its handler's done, in both stream modes. */
import type { WebhookHandler } from '../support/webhook-handler.js'
import type { Point } from './arming.js'
import { CountTable, Lane } from './crashes.js'
import { judgeDispatch, leasesOf, quickTakeover, serve, startAgents } from './dispatching.js'

const startsWake = 'UPDATE subscriptions s SET generation'
const endsWake = 'SET wake_id = NULL'

const shared: readonly Point[] = [
  { name: 'wake decided, not delivered', at: `^pg:after COMMIT of .*${startsWake}`, nth: 12 },
  { name: 'delivery begun, not sent', at: '^pg:after COMMIT of .*SET attempts = s.attempts', nth: 12 },
  { name: 'delivered, answer not read', at: '^streams:before POST /electric-agents', nth: 20 },
  { name: 'delivery answered, not noted', at: '^streams:after POST /electric-agents', nth: 20 },
  { name: 'claimed, not answered', at: '^pg:after COMMIT of .*INSERT INTO write_tokens', nth: 12 },
  { name: 'run written, not answered', at: '^http:before POST /chat/[^/]*/main', nth: 20 },
  { name: 'done: before the commit', at: `^pg:before COMMIT of .*${endsWake}`, nth: 12 },
  { name: 'done: committed, not answered', at: `^pg:after COMMIT of .*${endsWake}`, nth: 12 },
]
const foreignOnly: readonly Point[] = [
  { name: 'message on its stream, wake not decided', at: '^streams:after POST .*/chat/', nth: 40 },
  { name: 'wake decided, its intent not cleared', at: `^pg:before COMMIT of .*${startsWake}.*DELETE FROM append_intents`, nth: 12 },
]
const worksAlike = new Set(['delivered, answer not read', 'delivery answered, not noted', 'done: before the commit'])

const table = new CountTable('the server killed in dispatch')
afterAll(() => table.print())

describe.each([
  { streams: 'postgres', points: shared },
  { streams: 'http', points: [...foreignOnly, ...shared.filter(({ name }) => !worksAlike.has(name))] },
] as const)('a server killed while it dispatches, streams: $streams,', ({ streams, points }) => {
  let lane: Lane
  let agents: WebhookHandler
  beforeAll(async () => {
    lane = await Lane.start({ streams, env: quickTakeover })
    await leasesOf(lane.wire, 3_000)
    agents = await startAgents({ baseUrl: lane.wire.house.url })
    await serve(lane.wire, 'chat', agents.url)
  })
  afterAll(async () => {
    await agents.stop()
    await lane.stop()
    process.stdout.write(`handlers of servers that were killed, streams ${streams}: ${agents.log}\n`)
  })

  it.each(points)(
    'has every message handled, nothing twice at a time, and leaves nothing: $name',
    async (point) => {
      const asked = await lane.crash(point)
      const { wrong, counts } = await lane.judge(asked, async (wire, requests) => await judgeDispatch(wire, agents, requests))

      table.add(`${point.name}, ${streams}`, counts)
      expect(wrong).toEqual([])
    },
    120_000,
  )
})
