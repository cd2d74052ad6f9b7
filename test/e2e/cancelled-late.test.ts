/** Operations that are cancelled while their one step is under way: what they answer is what they have done. */
import { Client, Connection, type WorkflowHandle } from '@temporalio/client'
import { inTheWay, untilWaitedFor } from '../support/in-the-way.js'
import { Wire } from '../support/wire.js'

let wire: Wire
let connection: Connection
let temporal: Client
beforeAll(async () => {
  wire = await Wire.start({ replicas: 1 })
  connection = await Connection.connect({ address: wire.house.temporalAddress })
  temporal = new Client({ connection, namespace: wire.house.namespace })
  await wire.spawned('/chat/source')
})
afterAll(async () => {
  await connection.close()
  await wire.stop()
})

const principal = 'system:dev-local'

it.each([
  ['spawnEntities', { url: '/chat/spawned', principal }],
  ['forkSubtree', { source: '/chat/source', url: '/chat/forked', instanceId: 'forked', principal }],
] as const)('%s', async (type, item) => {
  let handle: WorkflowHandle | undefined
  await inTheWay(wire.house.databaseUrl, async (tx) => {
    await tx.query('LOCK TABLE entities IN SHARE MODE')
    handle = await temporal.workflow.start(type, { workflowId: type, taskQueue: 'agents', args: [{ operationId: type, items: [item] }] })
    await untilWaitedFor(tx)
    await handle.cancel()
  })

  const answer = await handle?.result().catch((failure: unknown) => String(failure))

  expect((await wire.get(item.url)).status).toBe(200)
  expect(answer).toEqual([expect.objectContaining({ url: item.url, txid: expect.any(Number) })])
})
