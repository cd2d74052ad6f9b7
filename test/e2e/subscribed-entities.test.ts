/** One subscription of several entities (spec/06 §3, spec/07 §3.7). */
import { eventually } from '../support/eventually.js'
import { Receiver } from '../support/receiver.js'
import { Subscriber } from '../support/subscriber.js'
import { expectStatus, Wire } from '../support/wire.js'

describe('a subscription of several entities', () => {
  let subscriber: Subscriber
  let receiver: Receiver
  beforeAll(async () => {
    subscriber = new Subscriber(await Wire.start())
    receiver = await Receiver.start()
    await subscriber.wire.register('many')
    for (const url of ['/many/a', '/many/b']) await subscriber.wire.spawned(url)
  })
  afterAll(async () => {
    await receiver.stop()
    await subscriber.wire.stop()
  })

  it('keeps what is held back of a paused one when a handler is done with another (spec/07 §3.7)', async () => {
    const { wire } = subscriber
    receiver.answer = { body: { done: true } }
    await subscriber.made('many', { type: 'webhook', pattern: 'many/**', webhook: { url: receiver.url() } })
    expectStatus(200, await wire.ask('POST', '/_electric/entities/many/b/signal', { signal: 'SIGSTOP' }))
    const before = await subscriber.ackedOf('many', 'many/b/main')
    expectStatus(200, await wire.send('/many/b', { payload: 'held', mode: 'paused' }))
    expectStatus(200, await wire.send('/many/a', { payload: 'go' }))
    const tail = (await wire.events('/many/a')).at(-1)?.headers.offset
    await eventually(async () => (await subscriber.ackedOf('many', 'many/a/main')) === tail)

    expect(await subscriber.ackedOf('many', 'many/b/main')).toBe(before)

    receiver.deliveries.length = 0
    expectStatus(200, await wire.ask('POST', '/_electric/entities/many/b/signal', { signal: 'SIGCONT' }))
    const resumed = (await wire.events('/many/b')).at(-1)?.headers.offset
    await eventually(async () => (await subscriber.ackedOf('many', 'many/b/main')) === resumed)
    // What was held back is fresh.
    expect(receiver.deliveries[0]?.body.streams).toContainEqual({ path: '/many/b/main', offset: `${before}~` })
  })
})
