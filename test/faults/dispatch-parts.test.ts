/** What the server stands on dies while handlers are called and work: every message is handled once all is back, nothing twice at a time. */
import { Client, Connection } from '@temporalio/client'
import type { WebhookHandler } from '../support/webhook-handler.js'
import { Wire } from '../support/wire.js'
import { CountTable } from './crashes.js'
import { judgeDispatch, leasesOf, quickTakeover, serve, startAgents } from './dispatching.js'
import { interrupted, one } from './part-crashes.js'

const table = new CountTable('a part killed while handlers work')
afterAll(() => table.print())

describe.each([
  { streams: 'postgres', parts: ['temporal', 'postgres'] },
  { streams: 'http', parts: ['streams'] },
] as const)('while handlers work, streams: $streams, SIGKILL', ({ streams, parts }) => {
  let wire: Wire
  let agents: WebhookHandler
  let connection: Connection
  let temporal: Client
  beforeAll(async () => {
    wire = await Wire.start({ replicas: 1, streams, env: quickTakeover, own: streams === 'http' ? [] : ['postgres', 'temporal'] })
    await leasesOf(wire, 2_000)
    agents = await startAgents({ baseUrl: wire.house.url })
    await serve(wire, 'chat', agents.url)
    connection = Connection.lazy({ address: wire.house.temporalAddress })
    temporal = new Client({ connection, namespace: wire.house.namespace })
  })
  afterAll(async () => {
    process.stdout.write(`handlers while a part was killed, streams ${streams}: ${agents.log}\n`)
    await agents.stop()
    await connection.close()
    await wire.stop()
  })

  it.each(parts)(
    'of %s loses no message',
    async (part) => {
      const requests = await interrupted(wire, temporal, one(part, streams))
      const { wrong, counts } = await judgeDispatch(wire, agents, requests)

      table.add(`${part}, ${streams}`, counts)
      expect(wrong).toEqual([])
    },
    180_000,
  )
})
