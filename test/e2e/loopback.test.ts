/** Where handlers really are: spec/13 §5.2. */
import { eventually } from '../support/eventually.js'
import { Receiver } from '../support/receiver.js'
import { Subscriber } from '../support/subscriber.js'
import { Wire } from '../support/wire.js'

it('loopback URLs of policies and subscriptions are called where the operator says that they are; the policy is shown as it was given', async () => {
  const receiver = await Receiver.start()
  receiver.answer = { body: { done: true } }
  const wire = await Wire.start({ env: { ELECTRIC_AGENTS_REWRITE_LOOPBACK_WEBHOOKS_TO: new URL(receiver.url()).host } })
  try {
    const subscriber = new Subscriber(wire)
    const policy = { targets: [{ type: 'webhook', url: 'http://localhost:1/of-policy' }] }

    await wire.spawned('/chat/a', { dispatch_policy: policy, initialMessage: 'x' })
    const made = await subscriber.made('s', { type: 'webhook', streams: ['plain/a'], webhook: { url: 'http://[::1]:1/of-put?a=b' } })
    await subscriber.streamWith('plain/a', {})

    await eventually(() => receiver.deliveries.length === 2)
    expect(receiver.deliveries.map(({ path }) => path).sort()).toEqual(['/of-policy', '/of-put?a=b'])
    expect((await wire.get('/chat/a')).body).toMatchObject({ dispatch_policy: policy })
    expect(made).toMatchObject({ webhook: { url: receiver.url('/of-put?a=b') } })
  } finally {
    await wire.stop()
    await receiver.stop()
  }
})
