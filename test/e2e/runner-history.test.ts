/** A wake stream is never read from its beginning again: old events cost a runner that starts nothing (spec/07 §6.3, §8 case 12). */
import type { StreamPath } from '../../src/domain/ids.js'
import { Database } from '../../src/registry/database.js'
import { httpStreamStore } from '../../src/streams/http/store.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'
import { eventually } from '../support/eventually.js'
import { PullRunner } from '../support/pull-runner.js'
import { expectStatus, Wire } from '../support/wire.js'

const oldEvents = 10_000
const json = 'application/json'

describe.each(['postgres', 'http'] as const)('of 10,000 old events on its wake stream, with streams in %s,', (streams) => {
  let wire: Wire
  let runner: PullRunner
  beforeAll(async () => {
    wire = await Wire.start({ streams })
    expectStatus(201, await wire.ask('POST', '/_electric/runners', { id: 'old', label: 'old' }))
    await announcedLongAgo('/runners/old/wake' as StreamPath)
    runner = await PullRunner.start({ id: 'old', baseUrl: () => wire.url, handler: async () => undefined })
  })
  afterAll(async () => {
    await runner.stop()
    await wire.stop()
  })

  /** Past the server, which alone may write there. */
  async function announcedLongAgo(path: StreamPath): Promise<void> {
    const database = new Database({ url: wire.house.databaseUrl, tenant: 'default', poolMax: 1 })
    const store = streams === 'http' ? httpStreamStore({ url: wire.house.streamsUrl ?? '' }) : new PostgresStreams({ database })
    const event = { type: 'wake', subscription_id: 'runner:old:0123456789abcdef', stream: 'chat/gone/main', generation: 1, ts: 1 }
    const body = Buffer.from(JSON.stringify(Array.from({ length: 100 }, () => event)))
    for (let nth = 0; nth < oldEvents; nth += 100) await store.append(path, { contentType: json, body })
    await store.close()
    await database.close()
  }

  it('a runner that registers claims none, and the next is announced behind them and claimed at once', async () => {
    const dispatch_policy = { targets: [{ type: 'runner', runnerId: 'old' }] }
    await wire.spawned('/chat/new', { initialMessage: 'hello', dispatch_policy })

    await eventually(() => runner.log.timesHandled('hello') === 1)
    expect(runner.claims.map(({ event, status }) => [event.stream, status])).toEqual([['chat/new/main', 200]])
  })

  it('nothing is left of a stream that was chosen for it, once it has registered another one and the former was deleted', async () => {
    const register = async (wake_stream: string) =>
      expectStatus(201, await wire.ask('POST', '/_electric/runners', { id: 'moves', label: 'moves', wake_stream }))
    await register('/wakes/former')
    await announcedLongAgo('/wakes/former' as StreamPath)
    expect((await wire.ask('DELETE', '/wakes/former')).status).toBe(401)
    await register('/wakes/next')

    expectStatus(204, await wire.ask('DELETE', '/wakes/former'))
    expectStatus(404, await wire.ask('GET', '/wakes/former?offset=-1'))
  })
})
