/** A foreign stream server that takes requests and answers none: only what needs it waits for it (deadlines.ts D1, D2). */
import { eventually } from '../support/eventually.js'
import { type Gate, startGate } from '../support/gate.js'
import { HandRunner } from '../support/hand-runner.js'
import { Subscriber } from '../support/subscriber.js'
import { Wire } from '../support/wire.js'

let wire: Wire
let gate: Gate
let runner: HandRunner
let subscriber: Subscriber
beforeAll(async () => {
  gate = await startGate()
  wire = await Wire.start({
    streams: 'http',
    env: { ELECTRIC_AGENTS_DURABLE_STREAMS_URL: gate.url, ELECTRIC_AGENTS_DEADLINES_EVERY_MS: '50' },
  })
  gate.leadTo(wire.house.streamsUrl ?? '')
  runner = await HandRunner.start(wire, 'hand')
  await runner.heartbeat()
  subscriber = new Subscriber(wire)
})
afterAll(async () => {
  await wire.stop()
  await gate.stop()
})

/** The wake of an entity that a runner has claimed. */
async function entityWake(url: string): Promise<string> {
  return (await runner.claimed(await runner.woken(url))).wakeId
}

/** The wake of a subscription to a plain stream, claimed too. */
async function plainWake(): Promise<string> {
  const id = subscriber.fresh('plain')
  await subscriber.stream(id)
  await subscriber.made(id, { type: 'pull-wake', streams: [id], wake_stream: `wakes/${id}` })
  await subscriber.append(id, { n: 1 })
  return (await subscriber.claimed(id, 'worker')).wake_id
}

/** Of all of them at one instant: the same look finds them. */
const endLeases = async (...wakeIds: readonly string[]) =>
  await wire.sql('UPDATE subscriptions SET lease_until = now() WHERE wake_id = ANY ($1) RETURNING id', wakeIds)
const isOpen = async (wakeId: string) => (await wire.sql('SELECT FROM subscriptions WHERE wake_id = $1', wakeId)).length === 1
const untilEnded = async (wakeId: string) => await eventually(async () => !(await isOpen(wakeId)), { withinMs: 5_000 })

it('a stream that hangs keeps neither the leases of other entities nor those that need no stream', async () => {
  const hanging = await entityWake('/chat/hanging')
  const [other, later, plain] = [await entityWake('/chat/with'), await entityWake('/chat/later'), await plainWake()]
  gate.hold('/chat/hanging/main')

  expect(await endLeases(hanging, other)).toHaveLength(2)
  await untilEnded(other)
  await eventually(() => gate.held() > 0)
  await endLeases(later, plain)
  await untilEnded(later)
  await untilEnded(plain)

  expect(await isOpen(hanging)).toBe(true)
})

it('a stream server that hangs keeps what needs it, until it answers again, and nothing else', async () => {
  const entities = [await entityWake('/chat/one'), await entityWake('/chat/two')]
  const [first, second] = [await plainWake(), await plainWake()]
  wire.house.freeze('streams')

  await endLeases(...entities, first)
  await untilEnded(first)
  await endLeases(second)
  await untilEnded(second)

  for (const wake of entities) expect(await isOpen(wake)).toBe(true)
  wire.house.thaw('streams')
  for (const wake of entities) await eventually(async () => !(await isOpen(wake)), { withinMs: 30_000 })
}, 90_000)
