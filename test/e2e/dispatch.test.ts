/** From a message to its handler and back, by webhook: spec/06 §6–8, §11–13, against the reference handler. */
import { eventually } from '../support/eventually.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { Wire } from '../support/wire.js'

describe.each(['postgres', 'http'] as const)('a webhook wake, streams: %s', (streams) => {
  let wire: Wire
  let handler: WebhookHandler

  beforeAll(async () => {
    wire = await Wire.start({ streams })
    handler = await WebhookHandler.start({
      baseUrl: () => wire.url,
      handler: async (context) => {
        await context.write(
          { type: 'run', key: `run-${context.wake.epoch}`, value: { status: 'started' }, headers: { operation: 'insert' } },
          {
            type: 'run',
            key: `run-${context.wake.epoch}`,
            value: { status: 'completed', finish_reason: 'stop' },
            headers: { operation: 'update' },
          },
        )
      },
    })
    await wire.ask('POST', '/_electric/entity-types', {
      name: 'echo',
      description: 'echoes',
      default_dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] },
    })
  })
  afterAll(async () => {
    await handler.stop()
    await wire.stop()
  })

  it('brings a first message to the handler, takes its writes, and ends idle', async () => {
    await wire.spawned('/echo/one', { initialMessage: 'hello' })

    await eventually(() => handler.log.timesHandled('hello') === 1)
    await eventually(async () => (await wire.statusOf('/echo/one')) === 'idle' && handler.log.running().length === 0)
    const events = await wire.events('/echo/one')
    expect(events.map(({ type }) => type)).toEqual(['entity_created', 'inbox', 'run', 'run'])
  })

  it('brings each of many messages', async () => {
    await wire.spawned('/echo/two')
    const texts = Array.from({ length: 10 }, (_, index) => `m${index}`)

    for (const text of texts) await wire.send('/echo/two', { payload: text })

    await eventually(() => handler.log.expectEachHandled(texts) === undefined)
    await eventually(async () => (await wire.statusOf('/echo/two')) === 'idle' && handler.log.running().length === 0)
    handler.log.expectNoGenerationTwiceAtATime()
    expect(await wire.sql('SELECT wake_id FROM subscriptions WHERE wake_id IS NOT NULL')).toEqual([])
    expect(await wire.sql(`SELECT status FROM consumer_claims WHERE status = 'active'`)).toEqual([])
  })
})
