/**
 * Two replicas behind a round robin, one of them killed and replaced again and again under load; their clocks 30 s apart all the while.
 * And a handler that can only be reached through a connection which goes half-open.
 */
import { Client, Connection } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import { nothingIsLeft } from '../support/hand-held.js'
import { startProxy } from '../support/proxy.js'
import { type RoundRobin, startRoundRobin } from '../support/round-robin.js'
import type { WebhookHandler } from '../support/webhook-handler.js'
import { expectStatus, Wire } from '../support/wire.js'
import { CountTable } from './crashes.js'
import { judgeDispatch, leasesOf, quickTakeover, serve, startAgents } from './dispatching.js'
import { settled } from './findings.js'
import { Load } from './ledger.js'

const underLoadMs = 60_000
const table = new CountTable('a replica killed again and again')
afterAll(() => table.print())

const clock = `--import ${new URL('./clock.mjs', import.meta.url).href}`

describe('two replicas whose clocks are 30 s apart', () => {
  let wire: Wire
  let robin: RoundRobin
  let agents: WebhookHandler
  let connection: Connection
  beforeAll(async () => {
    let url = ''
    agents = await startAgents({ baseUrl: () => url })
    wire = await Wire.start({
      replicas: 2,
      env: quickTakeover,
      serverEnv: (index) => ({ NODE_OPTIONS: clock, CLOCK_SHIFT_MS: index === 0 ? '15000' : '-15000' }),
    })
    robin = await startRoundRobin(() => wire.house.urls)
    url = robin.url
    await leasesOf(wire, 3_000)
    await serve(wire, 'chat', agents.url)
    connection = await Connection.connect({ address: wire.house.temporalAddress })
  })
  afterAll(async () => {
    await agents.stop()
    await connection.close()
    await robin.stop()
    await wire.stop()
  })

  it('sign, deliver, claim and end wakes alike', async () => {
    await wire.spawned('/chat/skewed', { initialMessage: '0' })
    for (let nth = 1; nth < 10; nth += 1) {
      await eventually(() => agents.log.timesHandled(String(nth - 1), '/chat/skewed') === 1)
      expectStatus(200, await wire.ask('POST', '/_electric/entities/chat/skewed/send', { payload: String(nth) }, { at: robin.url }))
    }
    await eventually(() => agents.log.timesHandled('9', '/chat/skewed') === 1)
    await nothingIsLeft(wire)
    expect(agents.log.counts()).toMatchObject({ redeliveries: 0, failed: 0, refused: 0, messagesHandledAgain: 0 })
    expect(agents.log.deliveries.every(({ status }) => status === 200)).toBe(true)
  })

  it('one killed and replaced again and again: every message is handled, no generation twice at a time, nothing is left over', async () => {
    const load = Load.start({ urls: [robin.url], name: 'replaced', callers: 8, onLost: 'waits' })
    const until = performance.now() + underLoadMs
    let kills = 0
    for (; performance.now() < until; kills += 1) {
      const replica = kills % 2 === 0 ? 'server' : 'server-1'
      const before = load.count('done')
      await eventually(() => load.count('done') > before + 20, { withinMs: 20_000 })
      await wire.house.kill(replica)
      await wire.house.restart(replica)
    }
    const requests = await load.stop()
    await settled(wire, new Client({ connection, namespace: wire.house.namespace }), 60_000)
    const { wrong, counts, messages } = await judgeDispatch(wire, agents, requests, 60_000)

    table.add(`${kills} kills, ${messages} messages`, counts)
    process.stdout.write(`handlers of replicas that were killed: ${agents.log}\n`)
    expect(wrong).toEqual([])
    expect(kills).toBeGreaterThan(3)
  }, 240_000)
})

const isFailing = async (wire: Wire): Promise<boolean> => (await wire.sql('SELECT 1 FROM subscriptions WHERE failures > 0')).length > 0

describe('a handler behind a connection that goes half-open', () => {
  it('is found dead within the limit of a delivery, and everything is delivered once the way is free', async () => {
    const wire = await Wire.start({ env: quickTakeover })
    const agents = await startAgents({ baseUrl: () => wire.url })
    const proxy = await startProxy(Number(new URL(agents.url).port))
    await serve(wire, 'chat', agents.url.replace(/:\d+\//, `:${proxy.port}/`))
    try {
      await wire.spawned('/chat/warm', { initialMessage: 'warm' }) // its connection is the one that goes half-open
      await eventually(() => agents.log.timesHandled('warm') === 1)
      const urls = Array.from({ length: 20 }, (_, index) => `/chat/open-${index}`)
      for (const how of ['stall', 'cutAnswers'] as const) {
        proxy[how]()
        const texts = urls.map((url) => `${url} ${how}`)
        await Promise.all(
          urls.map(
            async (url, index) =>
              await (how === 'stall' ? wire.spawn(url, { initialMessage: texts[index] }) : wire.send(url, { payload: texts[index] })),
          ),
        )
        const handled = async () => await eventually(() => agents.log.expectEachHandled(texts) === undefined, { withinMs: 30_000 })
        if (how === 'stall')
          await eventually(async () => await isFailing(wire)) // a claim forgets failures
        else await handled() // no answer is heard, whether it was cut or came after the limit
        proxy.heal()
        await handled()
        await nothingIsLeft(wire)
      }
      expect(proxy.answersCut).toBeGreaterThan(0)
      agents.log.expectNoGenerationTwiceAtATime()
      expect(agents.log.counts()).toMatchObject({ messagesHandledAgain: 0 })
      process.stdout.write(`a half-open handler: ${agents.log}\n`)
    } finally {
      await agents.stop()
      await proxy.stop()
      await wire.stop()
    }
  })
})
