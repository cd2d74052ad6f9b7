/** A worker in a process of its own dies of SIGKILL under load; the requests wait in a server that lives on. */
import type { Point } from './arming.js'
import { CountTable, Lane } from './crashes.js'

interface Crash extends Point {
  readonly streams: 'postgres' | 'http'
}

const crashes: readonly Crash[] = [
  { streams: 'postgres', name: 'spawn: before the commit', at: '^pg:before COMMIT of .*INSERT INTO entities', nth: 3 },
  {
    streams: 'postgres',
    name: 'spawn: committed, nobody told',
    at: '^pg:after COMMIT of .*INSERT INTO entities.*INSERT INTO operations',
    nth: 3,
  },
  { streams: 'postgres', name: 'close: committed, nobody told', at: '^pg:after COMMIT of .*SET status', nth: 3 },
  { streams: 'http', name: 'spawn: a stream made, others not', at: '^streams:after PUT .*/chat/', nth: 20 },
  { streams: 'http', name: 'close: row changed, event written down', at: '^pg:after COMMIT of .*SET status', nth: 2 },
]

const table = new CountTable('the worker killed')
afterAll(() => table.print())

describe.each(['postgres', 'http'] as const)('a worker killed under load, streams: %s', (streams) => {
  let lane: Lane
  beforeAll(async () => {
    lane = await Lane.start({ streams, worker: 'separate', victim: 'worker' })
  })
  afterAll(async () => await lane.stop())

  it.each(crashes.filter((crash) => crash.streams === streams))(
    'costs its requests time and nothing else: $name',
    async (point) => {
      const requests = await lane.crash(point)
      const { wrong, counts } = await lane.judge(requests)

      table.add(`${point.name}, ${streams}`, counts)
      expect(wrong).toEqual([])
      expect(requests.filter(({ outcome }) => outcome !== 'done')).toEqual([])
    },
    120_000,
  )
})
