import pg from 'pg'
import { eventually } from '../support/eventually.js'
import { expectStatus, refusal, Wire } from '../support/wire.js'

let wire: Wire
let blocker: pg.Client
beforeAll(async () => {
  wire = await Wire.start({ replicas: 1 })
  await wire.spawned('/chat/a')
  blocker = new pg.Client({ connectionString: wire.house.databaseUrl })
  await blocker.connect()
})
afterAll(async () => {
  await blocker.end()
  await wire.stop()
})

describe('a server that is told to stop (spec/13 §9)', () => {
  it('answers the send it began and ends held reads, while health and new mutations get 503', async () => {
    const read = await wire.stream('/chat/a')
    const held = wire.ask('GET', `/chat/a/main?offset=${read.headers.get('stream-next-offset')}&live=long-poll`)
    await blocker.query('BEGIN; LOCK TABLE stream_entries IN EXCLUSIVE MODE')
    const begun = wire.send('/chat/a', { payload: 'begun' })
    await eventually(async () => (await wire.sql('SELECT 1 FROM pg_locks WHERE NOT granted')).length > 0)

    const ended = wire.house.kill('server', 'SIGTERM')

    await eventually(async () => (await wire.askRaw('GET', '/_electric/health')).status === 503) // a new connection each time
    expect(await wire.send('/chat/a', { payload: 'late' })).toMatchObject({
      status: 503,
      body: refusal('SERVER_STOPPING', 'Server is shutting down'),
    })
    expectStatus(204, await held)
    await blocker.query('COMMIT')
    expect((await begun).status).toBeLessThan(300)
    await ended
    await expect(wire.askRaw('GET', '/_electric/health')).rejects.toThrow()
  })

  it('is noticed though it has nothing to do: its port stays open for a while, and says 503', async () => {
    const idle = await Wire.start({ replicas: 1, env: { ELECTRIC_AGENTS_SHUTDOWN_NOTICE_MS: '3000' } })

    const ended = idle.house.kill('server', 'SIGTERM')

    await eventually(async () => (await idle.askRaw('GET', '/_electric/health')).status === 503)
    await ended
    await expect(idle.askRaw('GET', '/_electric/health')).rejects.toThrow()
    await idle.stop()
  })
})
