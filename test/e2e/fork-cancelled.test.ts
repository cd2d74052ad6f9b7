/** Operations that are cancelled while their streams are being made on a foreign stream server: what was still under way is undone too. */
import { Client, Connection } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import { Forker } from '../support/forker.js'

const kids = 80

let forker: Forker
let connection: Connection
let temporal: Client
beforeAll(async () => {
  forker = await Forker.start({ streams: 'http' })
  connection = await Connection.connect({ address: forker.wire.house.temporalAddress })
  temporal = new Client({ connection, namespace: forker.wire.house.namespace })
})
afterAll(async () => {
  await connection.close()
  await forker.stop()
})

const stands = async (path: string) => (await fetch(`${forker.wire.house.streamsUrl}${path}`, { method: 'HEAD' })).status !== 404
const reserved = async () => (await forker.wire.sql('SELECT url FROM entities WHERE reserved_by IS NOT NULL')).map(({ url }) => String(url))

describe('cancelled while it makes streams,', () => {
  it('a batch of spawns leaves no stream, and its URLs are free', async () => {
    const urls = Array.from({ length: kids }, (_, index) => `/worker/s${index}`)
    const items = urls.map((url) => ({ url, principal: 'system:dev-local' }))
    const handle = await temporal.workflow.start('spawnEntities', {
      workflowId: 'spawns',
      taskQueue: 'agents',
      args: [{ operationId: 'spawns', items }],
    })
    await eventually(async () => (await reserved()).length > 0 && (await stands(`${urls[0]}/main`)), { everyMs: 1 })

    await handle.cancel()

    await expect(handle.result()).rejects.toThrow()
    expect(await reserved()).toEqual([])
    const [first = '', ...others] = urls
    await forker.wire.spawned(first)
    expect((await Promise.all(others.map(async (url) => ((await stands(`${url}/main`)) ? url : [])))).flat()).toEqual([])
  })

  it('a fork leaves no stream, and its name is free', async () => {
    const root = await forker.root()
    await Promise.all(Array.from({ length: kids }, async (_, index) => await forker.wire.spawned(`/worker/c${index}`, { parent: root })))
    const before = await forker.leftovers()
    const asked = forker.fork(root, { instance_id: 'cancelled' })
    const copies = await eventually(
      async () => {
        const urls = await reserved()
        return urls.length > 0 && (await stands(`${urls[0]}/main`)) && urls
      },
      { everyMs: 1 },
    )
    const handle = temporal.workflow.getHandle('fork:/chat/cancelled')

    await handle.cancel()

    expect(copies).toHaveLength(kids + 1)
    expect((await asked).status).toBe(503)
    expect((await handle.describe()).status.name).toBe('CANCELLED')
    expect(await forker.leftovers()).toEqual(before)
    const { root: again } = await forker.forked(root, { instance_id: 'cancelled' })
    expect(again.url).toBe('/chat/cancelled')
    const left = await Promise.all(copies.map(async (url) => (url !== again.url && (await stands(`${url}/main`)) ? url : [])))
    expect(left.flat()).toEqual([])
  })
})
