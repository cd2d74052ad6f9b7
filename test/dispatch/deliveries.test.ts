/** Who carries out a delivery: the process's own part of it (deliveries.ts L2, L3), against a real database and a real receiver. */
import { createServer, type Server } from 'node:http'
import { jest } from '@jest/globals'
import { buildDispatch, type Dispatch } from '../../src/dispatch/dispatch.js'
import { PostgresPipeline } from '../../src/dispatch/postgres-pipeline.js'
import { ownTails } from '../../src/dispatch/tails.js'
import { Waking } from '../../src/dispatch/waking.js'
import { type EntityUrl, mainStream, type StreamPath, zeroOffset } from '../../src/domain/ids.js'
import { defaultLimits, type Limits } from '../../src/domain/limits.js'
import { sql } from '../../src/registry/database.js'
import { beginDeliveries, type StartedWake, setFailed, takeDueWakes } from '../../src/registry/deliveries.js'
import { isWorkedOn } from '../../src/registry/entity-work.js'
import { lockWakes } from '../../src/registry/wakes.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'
import { eventually } from '../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
let streams: PostgresStreams
let pipeline: PostgresPipeline
let dispatch: Dispatch
let dispatchWithin: (limits: Limits) => Promise<Dispatch>
let receiver: Server
let target = ''
let answer: object = { ok: true }
let mayAnswer: Promise<unknown> = Promise.resolve()
const started: StartedWake[] = []
const received: string[] = []
const warned: unknown[] = []
const handedOver: string[] = []

beforeAll(async () => {
  fresh = await freshDatabase()
  receiver = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { wake_id } = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { readonly wake_id: string }
      received.push(wake_id)
      mayAnswer.then(() => response.end(JSON.stringify(answer))).catch(() => response.destroy())
    })
  })
  await new Promise<void>((listening) => receiver.listen(0, '127.0.0.1', listening))
  const address = receiver.address()
  target = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/`
  const { database } = fresh
  streams = new PostgresStreams({ database })
  const waking = new Waking(defaultLimits, (wakes) => started.push(...wakes))
  pipeline = new PostgresPipeline({ database, streams: streams.transactional, waking, limits: defaultLimits })
  dispatchWithin = async (limits) =>
    await buildDispatch({
      config: { limits, outbound: { privateNetworks: 'allow' }, baseUrl: 'http://agents.test' },
      database,
      pipeline,
      waking,
      tails: ownTails(streams.transactional),
      log: { warn: (_: unknown, text: string) => warned.push(text) } as never, // nothing else of it is asked for
    })
  dispatch = await dispatchWithin(defaultLimits)
  dispatch.followUps.tells({
    deliver: async ({ wakeId }) => {
      handedOver.push(wakeId)
    },
    stop: async () => undefined,
    stopped: async () => undefined,
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
async function aWake(id: string, path = `/plain/${id}` as StreamPath): Promise<StartedWake> {
  await fresh.database.query(sql`
    INSERT INTO subscriptions (tenant_id, id, type, configuration, webhook_url, lease_ttl_ms) VALUES ('default', ${id}, 'webhook', '', ${target}, 30000)`)
  return await startedBy(id, path)
}

/** The same, of a subscription whose wakes are announced on `wakeStream`. */
async function aPullWake(id: string, wakeStream: StreamPath): Promise<StartedWake> {
  await fresh.database.query(sql`
    INSERT INTO subscriptions (tenant_id, id, type, configuration, wake_stream, lease_ttl_ms)
    VALUES ('default', ${id}, 'pull-wake', '', ${wakeStream}, 30000)`)
  return await startedBy(id, `/plain/${id}` as StreamPath)
}

async function startedBy(id: string, path: StreamPath): Promise<StartedWake> {
  await pipeline.create(path, { contentType: 'application/json' })
  await fresh.database.query(sql`
    INSERT INTO subscription_links (tenant_id, path, subscription_id, is_explicit, is_glob, acked) VALUES ('default', ${path}, ${id}, true, false, '-1')`)
  await pipeline.append({ path, contentType: 'application/json', body: Buffer.from('{"a":1}') })
  const wake = started.find(({ subscriptionId }) => subscriptionId === id)
  if (wake === undefined) throw new Error(`no wake of ${id} was started`)
  return wake
}

async function anEntity(url: EntityUrl, status: 'idle' | 'running' = 'idle'): Promise<void> {
  await fresh.database.query(sql`INSERT INTO entities (url, type, status, created_at, updated_at) VALUES (${url}, 'chat', ${status}, 1, 1)`)
}

/** A second wake about this entity. */
async function anotherWake(id: string, url: EntityUrl): Promise<StartedWake> {
  const wake = await aWake(id)
  await fresh.database.query(sql`UPDATE subscriptions SET wake_entity_url = ${url} WHERE id = ${id}`)
  return wake
}

/** A wake about an entity that is stopping. */
async function aStoppingWake(url: EntityUrl): Promise<StartedWake> {
  await anEntity(url)
  const wake = await aWake(url, mainStream(url))
  await fresh.database.query(sql`UPDATE entities SET status = 'stopping' WHERE url = ${url}`)
  return wake
}

/** While `work` is done no entity can be stopped: who tries hangs, and fails when it is over. */
async function whileStopsHang(work: () => Promise<void>): Promise<void> {
  let fail: (failure: Error) => void = () => undefined
  const hanging = new Promise<never>((_, reject) => {
    fail = reject
  })
  const together = jest.spyOn(pipeline, 'together').mockImplementation(async () => await hanging)
  try {
    await work()
  } finally {
    fail(new Error('the stream server does not answer'))
    together.mockRestore()
  }
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

/** The receiver answers only when this is called. */
function answersLater(): () => void {
  let letAnswer: () => void = () => undefined
  mayAnswer = new Promise<void>((resolve) => {
    letAnswer = resolve
  })
  return letAnswer
}

/** The receiver resets its connections when this is called. */
function resetsLater(): () => void {
  let reset: () => void = () => undefined
  mayAnswer = new Promise<void>((_, reject) => {
    reset = () => reject(new Error('reset'))
  })
  return reset
}

it('a wake that this process delivers by its own is not delivered for Temporal beside that, which hears what becomes of it', async () => {
  const wake = await aWake('in-hand')
  const letAnswer = answersLater()

  dispatch.deliveries.deliver([wake])
  await eventually(() => timesReceived(wake) === 1)
  const asked = dispatch.deliveries.redeliver(wake.wakeId)
  letAnswer()

  expect(await asked).toEqual({ state: 'over' })
  await dispatch.deliveries.attempt(await aWake('after-in-hand'))
  expect(timesReceived(wake)).toBe(1)
})

it("a delivery that fails is Temporal's to try again where it has asked for it, and handed over where nobody has", async () => {
  const [asked, alone] = [await aWake('fails-asked'), await aWake('fails-alone')]
  const resetNow = resetsLater()

  dispatch.deliveries.deliver([asked, alone])
  await eventually(() => timesReceived(asked) === 1 && timesReceived(alone) === 1)
  const verdict = dispatch.deliveries.redeliver(asked.wakeId)
  resetNow()

  expect(await verdict).toEqual({ state: 'failed', retryInMs: expect.any(Number) })
  await eventually(() => handedOver.length > 0)
  expect(handedOver).toEqual([alone.wakeId])
})

it('a delivery that Temporal asks for waits in its lane like any other, and leaves the activity free', async () => {
  const before: StartedWake[] = []
  for (let nth = 0; nth < defaultLimits.freshDeliveriesPerOrigin; nth += 1) before.push(await aWake(`before-${nth}`))
  const wake = await aWake('behind')
  const letAnswer = answersLater()
  dispatch.deliveries.deliver(before)

  expect(await dispatch.deliveries.redeliver(wake.wakeId)).toEqual({ state: 'over' })
  expect(timesReceived(wake)).toBe(0)
  letAnswer()
  await eventually(() => timesReceived(wake) === 1)
})

it('few activities wait for calls: all that Temporal is asked for goes through the same slots', async () => {
  const wakes: StartedWake[] = []
  for (let nth = 0; nth < 20; nth += 1) wakes.push(await aWake(`awaited-${nth}`))
  const eager = await dispatchWithin({ ...defaultLimits, freshDeliveriesPerOrigin: wakes.length })
  const letAnswer = answersLater()
  let freed = 0

  const activities = wakes.map(async ({ wakeId }) => {
    await eager.deliveries.redeliver(wakeId)
    freed += 1
  })
  await eventually(() => wakes.every((wake) => timesReceived(wake) === 1))
  await eventually(() => freed === 4)
  letAnswer()
  await Promise.all(activities)
  await eager.drained()
  await eager.outbound.close()
})

it('an announcement does not wait for calls', async () => {
  const wakeStream = '/plain/busy-wakes' as StreamPath
  const [calling, pulled] = [await aWake('calling'), await aPullWake('not-calling', wakeStream)]
  const busy = await dispatchWithin({ ...defaultLimits, maxDeliveries: 1 })
  const letAnswer = answersLater()
  busy.deliveries.deliver([calling])
  await eventually(() => timesReceived(calling) === 1)

  busy.deliveries.deliver([pulled])

  await eventually(async () => !('outcome' in (await streams.readEvents(wakeStream, zeroOffset, 1))))
  letAnswer()
  await busy.drained()
  await busy.outbound.close()
})

it('an activity that asks again for a delivery that is under way hears what becomes of it', async () => {
  const wake = await aWake('asked-again')
  const letAnswer = answersLater()

  const first = dispatch.deliveries.redeliver(wake.wakeId)
  await eventually(() => timesReceived(wake) === 1)
  const second = dispatch.deliveries.redeliver(wake.wakeId)
  letAnswer()

  expect(await Promise.all([first, second])).toEqual([{ state: 'over' }, { state: 'over' }])
  expect(timesReceived(wake)).toBe(1)
})

it('a wake that becomes due while it is announced, because its runner has come, is announced once more', async () => {
  const wakeStream = '/plain/wakes' as StreamPath
  const wake = await aPullWake('pulled', wakeStream)
  let goOn: () => void = () => undefined
  const held = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const append = pipeline.append.bind(pipeline)
  const appends = jest.spyOn(pipeline, 'append').mockImplementationOnce(async (given) => {
    await held
    return await append(given)
  })
  try {
    dispatch.deliveries.deliver([wake])
    await eventually(() => appends.mock.calls.length === 1)
    await fresh.database.query(sql`UPDATE subscriptions SET due_at = now(), attempts = 0 WHERE id = 'pulled'`)
    const due = await takeDueWakes(fresh.database, 100, 60_000)
    dispatch.deliveries.deliver(due)
    goOn()

    const announced = async () => {
      const read = await streams.readEvents(wakeStream, zeroOffset, 100)
      return 'events' in read ? read.events.length : 0
    }
    await eventually(async () => (await announced()) === 2)
  } finally {
    appends.mockRestore()
  }
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

it('a done that could not be written down is no done: its wake is delivered again', async () => {
  const wake = await aWake('unwritten')
  answer = { done: true }
  await fresh.database.query(sql`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not now''; END'`)
  await fresh.database.query(sql`
    CREATE TRIGGER refuse BEFORE UPDATE ON subscriptions FOR EACH ROW WHEN (OLD.id = 'unwritten' AND NEW.wake_id IS NULL) EXECUTE FUNCTION refuse()`)

  await expect(dispatch.deliveries.attempt(wake)).rejects.toThrow('not now')
  await fresh.database.query(sql`DROP TRIGGER refuse ON subscriptions`)

  expect(await dispatch.deliveries.redeliver(wake.wakeId)).toEqual({ state: 'over' })
  expect(timesReceived(wake)).toBe(2)
  const { rows } = await fresh.database.query(sql`SELECT wake_id, due_at FROM subscriptions WHERE id = 'unwritten'`)
  expect(rows).toEqual([{ wake_id: null, due_at: null }])
})

it('a delivery that a crash cut off, and that has nothing left to deliver, leaves its entity idle', async () => {
  const url = '/chat/unlinked' as EntityUrl
  await anEntity(url, 'running')
  const wake = await aWake(url, mainStream(url))
  await fresh.database.query(sql`UPDATE subscriptions SET attempts = 1 WHERE id = ${url}`)
  await fresh.database.query(sql`DELETE FROM subscription_links WHERE subscription_id = ${url}`)

  expect(await dispatch.deliveries.attempt({ ...wake, attempts: 1 })).toEqual({ state: 'over' })

  expect(timesReceived(wake)).toBe(0)
  expect((await fresh.database.query(sql`SELECT status FROM entities WHERE url = ${url}`)).rows).toEqual([{ status: 'idle' }])
})

it('an entity whose handler is still being called is running, whatever comes of its other deliveries', async () => {
  const url = '/chat/watched' as EntityUrl
  await anEntity(url)
  const own = await aWake(url, mainStream(url))
  const [failing, quick] = [await anotherWake('watched-failing', url), await anotherWake('watched-quick', url)]
  await fresh.database.query(sql`UPDATE subscriptions SET webhook_url = 'http://127.0.0.1:1/' WHERE id = 'watched-failing'`)
  const status = async () => (await fresh.database.query(sql`SELECT status FROM entities WHERE url = ${url}`)).rows[0]?.status
  answer = { done: true }
  let goOn = (): void => undefined
  mayAnswer = new Promise<void>((resolve) => {
    goOn = resolve
  })

  const held = dispatch.deliveries.attempt(own)
  await eventually(() => timesReceived(own) === 1)
  mayAnswer = Promise.resolve()
  expect(await dispatch.deliveries.attempt(failing)).toMatchObject({ state: 'failed' })
  expect(await status()).toBe('running')
  await dispatch.deliveries.attempt(quick)
  expect(await status()).toBe('running')
  goOn()
  await held

  expect([timesReceived(quick), await status()]).toEqual([1, 'idle'])
})

it('a delivery that was taken for lost, and then fails, is none of the wake any more: the next one is under way', async () => {
  const wake = await aWake('late')
  let fail = (): void => undefined
  mayAnswer = new Promise<void>((_, reject) => {
    fail = () => reject(new Error('the handler breaks off'))
  })
  const late = dispatch.deliveries.attempt(wake)
  await eventually(() => timesReceived(wake) === 1)
  mayAnswer = Promise.resolve()
  await fresh.database.transaction((tx) => beginDeliveries(tx, [{ ...wake, attempts: 1 }], 60_000)) // by another process

  fail()

  expect(await late).toEqual({ state: 'over' })
  const { rows } = await fresh.database.query(
    sql`SELECT attempts, failures, called_until > clock_timestamp() AS is_called, due_at > clock_timestamp() + interval '50 s' AS is_owned FROM subscriptions WHERE id = 'late'`,
  )
  expect(rows).toEqual([{ attempts: 2, failures: 0, is_called: true, is_owned: true }])
})

it('a delivery that a crash cut off counts as a call until its limit, and no longer', async () => {
  const url = '/chat/cut-off' as EntityUrl
  await anEntity(url)
  const wake = await aWake(url, mainStream(url))
  const isCalled = async () => await fresh.database.transaction((tx) => isWorkedOn(tx, url))

  await fresh.database.transaction((tx) => beginDeliveries(tx, [wake], 60_000))
  expect(await isCalled()).toBe(true)
  await fresh.database.query(sql`UPDATE subscriptions SET called_until = clock_timestamp() WHERE id = ${url}`)
  expect(await isCalled()).toBe(false)
  await fresh.database.transaction((tx) => beginDeliveries(tx, [{ ...wake, attempts: 1 }], 60_000))
  await fresh.database.transaction((tx) => setFailed(tx, wake.wakeId, 'it answered 500', 60_000))
  expect(await isCalled()).toBe(false) // two were begun, one has failed
})

it('a wake that has ended is given back to nobody: the next one, and what it is about, stay', async () => {
  const first = await aWake('given-back')
  const late = (await fresh.database.transaction((tx) => lockWakes(tx, [first.wakeId]))).get(first.wakeId)
  if (late === undefined) throw new Error('the wake is not there')
  const { wakeId, generation } = first
  await dispatch.claims.callback({ wakeId, generation, acks: [], ends: 'release' }) // what is pending starts the next
  const inFlight = async () => (await fresh.database.query(sql`SELECT wake_id, generation FROM subscriptions WHERE id = 'given-back'`)).rows
  const next = await inFlight()

  await dispatch.claims.giveBack(late)

  expect(await inFlight()).toEqual(next)
  expect(next).toEqual([{ wake_id: expect.any(String), generation: generation + 1 }])
  const { count } = await fresh.database.query(sql`SELECT FROM subscription_links WHERE subscription_id = 'given-back'`)
  expect(count).toBe(1)
})

describe('an entity that cannot be stopped yet', () => {
  beforeEach(() => {
    answer = { ok: true }
    warned.length = 0
  })

  it('holds up no done but that of its own handler, and takes none back', async () => {
    const [stopping, plain] = [await aStoppingWake('/chat/done' as EntityUrl), await aWake('done')]
    const done = async ({ wakeId, generation }: StartedWake) =>
      await dispatch.claims.callback({ wakeId, generation, acks: [], ends: 'done' })
    let first: Promise<unknown> = Promise.resolve()

    await whileStopsHang(async () => {
      first = done(stopping)
      await done(plain)
    })

    expect(await first).toMatchObject({ nextWake: expect.any(Boolean) })
    expect(warned).toEqual(['/chat/done could not be stopped; sweep does it'])
  })

  it('holds up no delivery, and is called no more', async () => {
    const [stopping, plain] = [await aStoppingWake('/chat/held-back' as EntityUrl), await aWake('not-held-back')]
    let first: Promise<unknown> = Promise.resolve()

    await whileStopsHang(async () => {
      first = dispatch.deliveries.attempt(stopping)
      await dispatch.deliveries.attempt(plain)
    })

    expect(await first).toEqual({ state: 'over' })
    expect([timesReceived(stopping), timesReceived(plain)]).toEqual([0, 1])
    expect(warned).toEqual(['/chat/held-back could not be stopped; sweep does it'])
  })
})
