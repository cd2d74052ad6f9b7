/** Who carries out a delivery: the process's own part of it (deliveries.ts L2, L3), against a real database and a real receiver. */
import { createServer, type Server } from 'node:http'
import { buildDispatch, type Dispatch } from '../../src/dispatch/dispatch.js'
import { PostgresPipeline } from '../../src/dispatch/postgres-pipeline.js'
import { ownTails } from '../../src/dispatch/tails.js'
import { Waking } from '../../src/dispatch/waking.js'
import type { StreamPath } from '../../src/domain/ids.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { sql } from '../../src/registry/database.js'
import { type StartedWake, takeDueWakes } from '../../src/registry/deliveries.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'
import { eventually } from '../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
let streams: PostgresStreams
let pipeline: PostgresPipeline
let dispatch: Dispatch
let receiver: Server
let target = ''
const started: StartedWake[] = []
const received: string[] = []

beforeAll(async () => {
  fresh = await freshDatabase()
  receiver = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { wake_id } = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { readonly wake_id: string }
      received.push(wake_id)
      response.end('{"ok":true}')
    })
  })
  await new Promise<void>((listening) => receiver.listen(0, '127.0.0.1', listening))
  const address = receiver.address()
  target = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/`
  const { database } = fresh
  streams = new PostgresStreams({ database })
  const waking = new Waking(defaultLimits, (wakes) => started.push(...wakes))
  pipeline = new PostgresPipeline({ database, streams: streams.transactional, waking, limits: defaultLimits })
  const config = { limits: defaultLimits, outbound: { privateNetworks: 'allow' }, baseUrl: 'http://agents.test' } as const
  dispatch = await buildDispatch({
    config,
    database,
    pipeline,
    waking,
    tails: ownTails(streams.transactional),
    log: { warn: () => undefined } as never,
  })
  await dispatch.signing.ensureKey()
})
afterAll(async () => {
  await dispatch.drained()
  await dispatch.outbound.close()
  await streams.close()
  await fresh.drop()
  await new Promise((closed) => receiver.close(closed))
})

/** A started wake of a subscription to a stream of its own, which nobody has delivered. */
async function aWake(id: string): Promise<StartedWake> {
  const path = `/plain/${id}` as StreamPath
  await fresh.database.query(sql`
    INSERT INTO subscriptions (tenant_id, id, type, configuration, webhook_url, lease_ttl_ms) VALUES ('default', ${id}, 'webhook', '', ${target}, 30000)`)
  await pipeline.create(path, { contentType: 'application/json' })
  await fresh.database.query(sql`
    INSERT INTO subscription_links (tenant_id, path, subscription_id, is_explicit, is_glob, acked) VALUES ('default', ${path}, ${id}, true, false, '-1')`)
  await pipeline.append({ path, contentType: 'application/json', body: Buffer.from('{"a":1}') })
  const wake = started.find(({ subscriptionId }) => subscriptionId === id)
  if (wake === undefined) throw new Error(`no wake of ${id} was started`)
  return wake
}

const timesReceived = ({ wakeId }: StartedWake): number => received.filter((id) => id === wakeId).length

it('a wake that is asked for several times in one batch is delivered once', async () => {
  const [first, second] = [await aWake('batch-1'), await aWake('batch-2')]

  await Promise.all([first, second, second, second].map(async (wake) => await dispatch.deliveries.attempt(wake))) // the first goes alone

  expect([timesReceived(first), timesReceived(second)]).toEqual([1, 1])
})

it('a wake that is handed over again while it waits is delivered once', async () => {
  const wake = await aWake('twice')

  for (let times = 0; times < 5; times += 1) dispatch.deliveries.deliver([wake])

  await eventually(() => timesReceived(wake) === 1)
  await dispatch.deliveries.attempt(await aWake('after')) // whatever was begun before it has been carried out
  expect(timesReceived(wake)).toBe(1)
})

it('deliveries that are due are handed out in turn, and none twice within its time', async () => {
  const wakes: StartedWake[] = []
  for (let nth = 0; nth < 6; nth += 1) wakes.push(await aWake(`due-${nth}`))
  const ids = wakes.map(({ wakeId }) => wakeId)
  await fresh.database.query(sql`UPDATE subscriptions SET due_at = now() - interval '1 s' WHERE wake_id = ANY (${ids})`)

  const looks = [
    await Promise.all([takeDueWakes(fresh.database, 2, 60_000), takeDueWakes(fresh.database, 2, 60_000)]),
    [await takeDueWakes(fresh.database, 2, 60_000), await takeDueWakes(fresh.database, 2, 60_000)],
  ].flat(2)

  expect(looks.map(({ wakeId }) => wakeId).sort()).toEqual([...ids].sort())
})
