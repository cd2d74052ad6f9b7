/** The server dies of SIGKILL at chosen points under load; streams in Postgres. */

import type { Point } from './arming.js'
import { CountTable, Lanes } from './crashes.js'

const spawnTransaction = 'INSERT INTO entities .*INSERT INTO operations'
const closeTransaction = 'UPDATE entities e SET status .*INSERT INTO operations'
const sendTransaction = '^pg:MOMENT COMMIT of (?!.*INSERT INTO (entities|operations)).*INSERT INTO stream_entries'

const points: readonly Point[] = [
  { name: 'spawn: before its workflow is started', at: '^temporal:before start spawnEntities', nth: 4 },
  { name: 'spawn: workflow started, nothing done', at: '^temporal:after start spawnEntities', nth: 4 },
  { name: 'spawn: rows inserted, no stream', at: '^pg:after WITH spawned AS \\( INSERT INTO entities', nth: 4 },
  { name: 'spawn: before the commit', at: `^pg:before COMMIT of .*${spawnTransaction}`, nth: 4 },
  { name: 'spawn: commit sent, not heard of', at: `^pg:sent COMMIT of .*${spawnTransaction}`, nth: 4 },
  { name: 'spawn: committed, nobody told', at: `^pg:after COMMIT of .*${spawnTransaction}`, nth: 4 },
  { name: 'spawn: before its answer', at: '^http:before PUT /_electric/entities', nth: 40 },
  { name: 'spawn: answered, its workflow still open', at: '^http:after PUT /_electric/entities', nth: 40 },
  { name: 'close: before its workflow is started', at: '^temporal:before start closeEntities', nth: 3 },
  { name: 'close: workflow started, nothing done', at: '^temporal:after start closeEntities', nth: 3 },
  { name: 'close: before the commit', at: `^pg:before COMMIT of .*${closeTransaction}`, nth: 3 },
  { name: 'close: committed, nobody told', at: `^pg:after COMMIT of .*${closeTransaction}`, nth: 3 },
  { name: 'close: before its answer', at: '^http:before DELETE /_electric/entities', nth: 12 },
  { name: 'append: before the commit', at: sendTransaction.replace('MOMENT', 'before'), nth: 12 },
  { name: 'append: commit sent, not heard of', at: sendTransaction.replace('MOMENT', 'sent'), nth: 12 },
  { name: 'append: committed, nobody told', at: sendTransaction.replace('MOMENT', 'after'), nth: 12 },
  { name: 'append: before its answer', at: '^http:before POST /_electric/entities', nth: 60 },
]

const table = new CountTable('the server killed, streams in Postgres')
let lanes: Lanes
beforeAll(async () => {
  lanes = await Lanes.start(2, {})
})
afterAll(async () => {
  await lanes.stop()
  table.print()
})

describe('a server killed under load, with streams in Postgres, loses nothing and leaves nothing half-done', () => {
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
