/** The server dies of SIGKILL at chosen points under load; streams on a foreign stream server, where every operation has several steps. */
import type { Point } from './arming.js'
import { CountTable, Lanes } from './crashes.js'

const points: readonly Point[] = [
  { name: 'spawn: workflow started, nothing done', at: '^temporal:after start spawnEntities', nth: 3 },
  { name: 'spawn: rows reserved, no stream', at: '^pg:after COMMIT of .*INSERT INTO entities.*INSERT INTO operation_payloads', nth: 3 },
  { name: 'spawn: before a stream is made', at: '^streams:before PUT .*/chat/', nth: 20 },
  { name: 'spawn: a stream made, others not', at: '^streams:after PUT .*/chat/', nth: 20 },
  { name: 'spawn: before the commit that shows it', at: '^pg:before COMMIT of .*SET reserved_by = NULL.*INSERT INTO operations', nth: 2 },
  { name: 'spawn: shown, nobody told', at: '^pg:after COMMIT of .*SET reserved_by = NULL.*INSERT INTO operations', nth: 2 },
  { name: 'spawn: first messages on their way', at: '^streams:before POST .*/chat/', nth: 8 },
  { name: 'spawn: before its answer', at: '^http:before PUT /_electric/entities', nth: 20 },
  { name: 'append: written down, not sent', at: '^pg:after COMMIT of (?!.*INSERT INTO operations).*INSERT INTO append_intents', nth: 4 },
  { name: 'append: sent, consequences not drawn', at: '^streams:after POST .*/chat/', nth: 40 },
  { name: 'append: before its intent goes', at: '^pg:before COMMIT of .*DELETE FROM append_intents', nth: 30 },
  { name: 'close: row changed, event written down', at: '^pg:after COMMIT of .*SET status.*INSERT INTO append_intents', nth: 2 },
  { name: 'close: before the stream is closed', at: '^streams:before POST .* and close', nth: 3 },
  { name: 'close: stream closed, nobody told', at: '^streams:after POST .* and close', nth: 3 },
]

const table = new CountTable('the server killed, foreign streams')
let lanes: Lanes
beforeAll(async () => {
  lanes = await Lanes.start(3, { streams: 'http' })
})
afterAll(async () => {
  await lanes.stop()
  table.print()
})

describe('a server killed under load, with a foreign stream server, loses nothing and leaves nothing half-done', () => {
  it.concurrent.each(points)(
    '$name',
    async (point) => {
      await lanes.use(async (lane) => {
        const { wrong, counts } = await lane.judge(await lane.crash(point))

        table.add(point.name, counts)
        expect(wrong).toEqual([])
      })
    },
    300_000,
  )
})
