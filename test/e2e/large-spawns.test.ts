import { Client, Connection } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import { Wire } from '../support/wire.js'

const mebibyte = 1024 * 1024

let wire: Wire
let connection: Connection
beforeAll(async () => {
  wire = await Wire.start()
  connection = await Connection.connect({ address: wire.house.temporalAddress })
})
afterAll(async () => {
  await connection.close()
  await wire.stop()
})

/** Bytes of the whole history of the workflow that spawned or closed `url`. */
async function historyBytes(url: string, workflowType: string): Promise<number> {
  const client = new Client({ connection, namespace: wire.house.namespace })
  const found = await eventually(async () => {
    for await (const execution of client.workflow.list({ query: `EntityUrls = '${url}' AND WorkflowType = '${workflowType}'` }))
      return execution
    return undefined
  })
  const history = await client.workflow.getHandle(found.workflowId, found.runId).fetchHistory()
  return JSON.stringify(history).length
}

describe('a spawn with a large part', () => {
  it.each([
    ['arguments', { args: { text: 'a'.repeat(mebibyte) } }],
    ['first message', { initialMessage: { text: 'm'.repeat(mebibyte) } }],
    ['tags', { tags: Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`tag-${index}`, 't'.repeat(4_096)])) }],
    ['webhook URL', { dispatch_policy: { targets: [{ type: 'webhook', url: `http://127.0.0.1:9/${'u'.repeat(mebibyte)}` }] } }],
  ])('arrives complete, and not through Temporal: %s', async (name, body) => {
    const url = `/chat/large-${name.replaceAll(' ', '-')}`
    const entity = await wire.spawned(url, body)
    const [created, message] = await wire.events(url)

    const kept = { args: created?.value?.args, message: message?.value?.payload, tags: entity.tags, policy: entity.dispatch_policy }
    const sent = { args: {}, tags: {}, ...body } as Readonly<Record<string, unknown>>
    expect(kept).toEqual({ args: sent.args, message: sent.initialMessage, tags: sent.tags, policy: sent.dispatch_policy })
    expect(await historyBytes(url, 'spawnEntities')).toBeLessThan(20_000)
  })

  it('is one of many at once, and all arrive', async () => {
    const spawns = Array.from({ length: 24 }, (_, index) =>
      wire.spawn(`/chat/crowd-${index}`, { args: { text: 'a'.repeat(mebibyte), index } }),
    )

    expect((await Promise.all(spawns)).map(({ status }) => status)).toEqual(Array.from({ length: 24 }, () => 201))
  })
})

describe('a kill with a large payload', () => {
  it('of 1 MiB is in the event, and did not travel through Temporal', async () => {
    await wire.spawned('/chat/large-kill')
    const payload = { text: 'p'.repeat(mebibyte) }

    expect((await wire.signal('/chat/large-kill', { signal: 'SIGKILL', payload })).status).toBe(200)

    expect((await wire.events('/chat/large-kill')).at(-1)?.value).toMatchObject({ signal: 'SIGKILL', payload })
    expect(await historyBytes('/chat/large-kill', 'closeEntities')).toBeLessThan(20_000)
  })
})
