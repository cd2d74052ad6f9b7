/** The server dies of SIGKILL at chosen points under edits; streams in Postgres, and on a foreign stream server. */
import type { Point } from './arming.js'
import { CountTable, Lanes } from './crashes.js'
import { judgeEdits } from './edit-findings.js'
import { comeBack, EditLoad } from './edits.js'

interface Crash extends Point {
  readonly streams: 'postgres' | 'http'
}

const claimed = 'INSERT INTO attachment_claims'
const unclaimed = 'DELETE FROM attachment_claims'
const postgres = (name: string, at: string, nth: number): Crash => ({ streams: 'postgres', name: `${name}, streams in Postgres`, at, nth })
const foreign = (name: string, at: string, nth: number): Crash => ({ streams: 'http', name: `${name}, foreign streams`, at, nth })

const crashes: readonly Crash[] = [
  postgres('tag: commit sent, not heard of', '^pg:sent COMMIT of .*UPDATE entities e SET tags', 8),
  postgres('row: before its answer', '^http:before POST .*/collections/', 20),
  postgres('schema: commit sent, not heard of', '^pg:sent COMMIT of .*UPDATE entity_types', 12),
  postgres('upload: claimed, no stream', '^pg:before COMMIT of (?!.*INSERT INTO entities).*INSERT INTO streams', 10),
  postgres('upload: shown, nobody told', `^pg:after COMMIT of .*${unclaimed}.*INSERT INTO stream_entries`, 8),
  postgres('upload: all bytes, before the commit that shows it', `^pg:before COMMIT of .*${unclaimed}.*INSERT INTO stream_entries`, 8),
  postgres('removal: row gone, stream still there', `^pg:after COMMIT of .*${claimed}`, 4),
  foreign('tag: row changed, event written down', '^pg:after COMMIT of .*UPDATE entities e SET tags.*INSERT INTO append_intents', 8),
  foreign('message: before its answer', '^http:before PATCH .*/inbox/', 20),
  foreign('upload: stream made, no bytes', '^streams:after PUT .*/attachments/', 12),
  foreign('upload: some of the bytes', '^streams:after POST .*/attachments/', 30),
  foreign('upload: shown by its row, event written down', `^pg:after COMMIT of .*${unclaimed}.*INSERT INTO append_intents`, 8),
  foreign('removal: event written down, stream still there', `^pg:after COMMIT of .*${claimed}`, 4),
  foreign('removal: stream gone, claim still there', '^streams:after DELETE .*/attachments/', 4),
]

const env = {
  ELECTRIC_AGENTS_ATTACHMENT_CLAIM_MS: '3000',
  ELECTRIC_AGENTS_ATTACHMENT_CHUNK_BYTES: '1000', // several appends an attachment
}

const table = new CountTable('the server killed under edits')
let lanes: Readonly<Record<Crash['streams'], Lanes>>
beforeAll(async () => {
  const [postgres, http] = await Promise.all([Lanes.start(3, { env }), Lanes.start(3, { streams: 'http', env })])
  lanes = { postgres, http }
})
afterAll(async () => {
  await Promise.all(Object.values(lanes).map(async (those) => await those.stop()))
  table.print()
})

describe('a server killed under edits keeps every acknowledged one, and no other by half', () => {
  it.concurrent.each(crashes)(
    '$name',
    async (point) => {
      await lanes[point.streams].use(async (lane) => {
        const edits = await comeBack(lane.wire.url, await lane.crash(point, EditLoad.start))
        const { wrong, counts } = await lane.judge(edits, judgeEdits)

        table.add(point.name, counts)
        expect(wrong).toEqual([])
      })
    },
    300_000,
  )
})
