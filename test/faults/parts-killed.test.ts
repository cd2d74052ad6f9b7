/** Each part alone, and all of them at once, dies of SIGKILL under load that goes on, and comes back. */
import { type Client, Connection, Client as TemporalClient } from '@temporalio/client'
import type { HouseOptions } from '../support/house.js'
import { Wire } from '../support/wire.js'
import { CountTable } from './crashes.js'
import { judgeRequests } from './findings.js'
import type { Request } from './ledger.js'
import { interrupted, one, type PartCrash } from './part-crashes.js'

const all = (streams: 'postgres' | 'http'): PartCrash => ({
  what: 'the whole tree',
  streams,
  kill: async (house) => await house.killAll(),
  bringBack: async (house) => await house.restartAll(),
})

const crashes: readonly PartCrash[] = [
  one('temporal', 'postgres'),
  one('postgres', 'postgres'),
  all('postgres'),
  one('temporal', 'http'),
  one('postgres', 'http'),
  one('streams', 'http'),
  all('http'),
]

const table = new CountTable('a part killed under load')
afterAll(() => table.print())

describe.each(['postgres', 'http'] as const)('under load, streams: %s, SIGKILL', (streams) => {
  let wire: Wire
  let connection: Connection
  let temporal: Client
  beforeAll(async () => {
    const options: HouseOptions = { streams, own: ['postgres', 'temporal'], env: { ELECTRIC_AGENTS_APPEND_INTENT_OWNED_MS: '3000' } }
    wire = await Wire.start({ replicas: 1, ...options })
    connection = Connection.lazy({ address: wire.house.temporalAddress })
    temporal = new TemporalClient({ connection, namespace: wire.house.namespace })
  })
  afterAll(async () => {
    await connection.close()
    await wire.stop()
  })

  it.each(crashes.filter((crash) => crash.streams === streams))(
    'of $what loses nothing and leaves nothing half-done',
    async (crash) => {
      const requests = await interrupted(wire, temporal, crash)
      const { wrong, counts } = await judgeRequests(wire, requests)

      table.add(`${crash.what}, ${streams}`, counts)
      expect(wrong).toEqual([])
      expect(requests.filter(isUnclean)).toEqual([])
    },
    180_000,
  )
})

/** An answer that is neither an acknowledgement, nor a lost connection, nor a clean refusal of the catalogue. */
const isUnclean = ({ outcome, answer }: Request): boolean =>
  outcome !== 'done' && /^\d/.test(answer) && !/^503 \{"error":\{"code":"[A-Z_]+"/.test(answer)
