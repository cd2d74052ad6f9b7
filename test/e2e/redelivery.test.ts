/** Deliveries that fail, and what becomes of their wakes: spec/06 §4, §6; design §3 `deliverWake`. */
import { Client, Connection } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import { nothingIsLeft } from '../support/hand-held.js'
import type { DeliveryRecord } from '../support/run-log.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { expectStatus, Wire } from '../support/wire.js'

const deliveryLimitMs = 1_000
const maxDeliveryAttempts = 3
const env = {
  ELECTRIC_AGENTS_DEADLINES_EVERY_MS: '50',
  ELECTRIC_AGENTS_WAKE_OWNED_MS: '300',
  ELECTRIC_AGENTS_DELIVERY_LIMIT_MS: String(deliveryLimitMs),
  ELECTRIC_AGENTS_MAX_DELIVERY_ATTEMPTS: String(maxDeliveryAttempts),
  ELECTRIC_AGENTS_MAX_DELIVERIES_PER_ORIGIN: '4',
}

class Stage {
  readonly wire: Wire
  readonly handler: WebhookHandler

  private constructor(wire: Wire, handler: WebhookHandler) {
    this.wire = wire
    this.handler = handler
  }

  static async start(options: Parameters<typeof Wire.start>[0]): Promise<Stage> {
    const wire = await Wire.start({ ...options, env: { ...env, ...options?.env } })
    const handler = await WebhookHandler.start({ baseUrl: () => wire.url, handler: async () => undefined })
    await wire.register('echo', { default_dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] } })
    return new Stage(wire, handler)
  }

  async stop(): Promise<void> {
    this.handler.heal()
    await this.handler.stop()
    await this.wire.stop()
  }

  deliveriesTo(url: string): readonly DeliveryRecord[] {
    return this.handler.log.deliveriesTo(url)
  }

  /** One message, handled once, and everything at rest again. */
  async handled(url: string, text: string, withinMs = 10_000): Promise<void> {
    await eventually(() => this.handler.log.timesHandled(text, url) > 0, { withinMs })
    await eventually(async () => (await this.wire.statusOf(url)) === 'idle' && this.handler.log.running().length === 0)
    expect(this.handler.log.timesHandled(text, url)).toBe(1)
    this.handler.log.expectNoEntityTwiceAtATime()
  }

  order(url: string, fault: Parameters<WebhookHandler['order']>[0], times?: number): void {
    this.handler.order(fault, { when: ({ entity }) => entity.url === url, ...(times === undefined ? {} : { times }) })
  }
}

/** Milliseconds between one delivery and the next. */
const gaps = (deliveries: readonly DeliveryRecord[]): readonly number[] =>
  deliveries.slice(1).map(({ at }, index) => at - (deliveries[index]?.at ?? 0))
const namesOf = (deliveries: readonly DeliveryRecord[]) => new Set(deliveries.map(({ wake }) => `${wake?.wakeId} ${wake?.epoch}`))

describe('a delivery', () => {
  let stage: Stage
  let wire: Wire
  let connection: Connection
  let temporal: Client
  beforeAll(async () => {
    stage = await Stage.start({})
    wire = stage.wire
    connection = await Connection.connect({ address: wire.house.temporalAddress })
    temporal = new Client({ connection, namespace: wire.house.namespace })
  })
  afterAll(async () => {
    await connection.close()
    await stage.stop()
  })
  afterEach(() => stage.handler.heal())

  /** Workflows that deliver wakes of this entity. */
  async function workflowsOf(url: string) {
    const [row] = await wire.sql('SELECT id, generation FROM subscriptions WHERE entity_url = $1', url)
    return temporal.workflow.getHandle(`wake:${row?.id}:${row?.generation}`)
  }

  it('to a handler that is down for a while, is Temporal’s until it is back, and seen there', async () => {
    await stage.handler.close()
    await wire.spawned('/echo/down', { initialMessage: 'hello' })
    const workflow = await eventually(async () => {
      const handle = await workflowsOf('/echo/down')
      await handle.describe()
      return handle
    })
    const { type, status, ...description } = await workflow.describe()
    expect([type, status.name, await description.staticSummary()]).toEqual(['deliverWake', 'RUNNING', 'deliver a wake of /echo/down'])
    expect(await wire.statusOf('/echo/down')).toBe('idle')
    expect(await wire.sql('SELECT failures, last_error FROM subscriptions WHERE entity_url = $1', '/echo/down')).toEqual([
      { failures: 1, last_error: 'connection refused' },
    ])

    await stage.handler.open()
    await stage.handled('/echo/down', 'hello')
    expect(stage.deliveriesTo('/echo/down')).toHaveLength(1)
    await eventually(async () => (await workflow.describe()).status.name === 'COMPLETED')
  })

  it('answered with 500 comes again after a second, then two, as the same wake, of what is there by then', async () => {
    stage.order('/echo/fails', { kind: 'status', status: 500 }, 2)
    await wire.spawned('/echo/fails', { initialMessage: 'first' })
    await eventually(() => stage.deliveriesTo('/echo/fails').length === 1)
    expectStatus(200, await wire.send('/echo/fails', { payload: 'second' }))

    await stage.handled('/echo/fails', 'first')
    await stage.handled('/echo/fails', 'second')
    const deliveries = stage.deliveriesTo('/echo/fails')
    expect([deliveries.length, namesOf(deliveries).size]).toEqual([3, 1])
    const [first = 0, second = 0] = gaps(deliveries)
    expect([first >= 790, first < 3_000, second >= 1_590, second < 4_500]).toEqual([true, true, true, true])
  })

  it.each([
    { what: 'seconds', retryAfter: { retryAfterSeconds: 3 }, least: 2_950 },
    { what: 'nothing', retryAfter: {}, least: 790 },
  ])('answered with 503 comes again when its handler asks for it: $what', async ({ what, retryAfter, least }) => {
    const url = `/echo/busy-${what}`
    stage.order(url, { kind: 'status', status: 503, ...retryAfter }, 1)
    await wire.spawned(url, { initialMessage: 'hello' })

    await stage.handled(url, 'hello')
    const [gap = 0] = gaps(stage.deliveriesTo(url))
    expect([gap >= least, gap < least + 2_500]).toEqual([true, true])
  })

  it('that hangs is given up at its limit and comes again; its late answer changes nothing', async () => {
    const url = '/echo/hangs'
    let answerLate: (nothing?: unknown) => void = () => undefined
    stage.order(url, { kind: 'synchronous', until: new Promise((resolve) => (answerLate = resolve)) }, 1)
    await wire.spawned(url, { initialMessage: 'hello' })
    await eventually(
      async () =>
        (await wire.sql('SELECT last_error FROM subscriptions WHERE entity_url = $1', url))[0]?.last_error === 'no answer within 1 s',
    )
    answerLate()

    await stage.handled(url, 'hello')
    expect([stage.deliveriesTo(url).length, namesOf(stage.deliveriesTo(url)).size]).toEqual([2, 1])
  })

  it('that was made twice, for its first was answered too late, has one run: whoever claims second is FENCED, in all that it says', async () => {
    const url = '/echo/twice'
    stage.order(url, { kind: 'hang' }, 1)
    stage.order(url, { kind: 'status', status: 200, body: '{"ok":true}' })
    await wire.spawned(url, { initialMessage: 'hello' })
    const [first, second] = await eventually(() => {
      const [one, two] = stage.deliveriesTo(url).map(({ wake }) => wake)
      return one !== undefined && two !== undefined && ([one, two] as const)
    })
    const say = async (token: string, body: object) =>
      await wire.ask('POST', `/_electric/wake-callbacks/${first.wakeId}`, body, { headers: { authorization: `Bearer ${token}` } })
    const claim = { epoch: 1, wakeId: first.wakeId }
    const done = { epoch: 1, acks: [], done: true }
    expect([second.wakeId, second.epoch, second.claimToken === first.claimToken]).toEqual([first.wakeId, first.epoch, false])

    const claims = await Promise.all([say(first.claimToken, claim), say(second.claimToken, claim)])
    expect(claims.map(({ status }) => status).toSorted()).toEqual([200, 409])
    const [winner, loser] = claims[0].status === 200 ? [first, second] : [second, first]
    for (const body of [claim, { epoch: 1 }, done])
      expect(await say(loser.claimToken, body)).toMatchObject({ status: 409, body: { error: { code: 'FENCED' } } })
    expect((await say(winner.claimToken, claim)).body).toEqual(claims.find(({ status }) => status === 200)?.body)
    expect(await wire.statusOf(url)).toBe('running')
    expectStatus(200, await say(winner.claimToken, { epoch: 1 }))
    expectStatus(200, await say(winner.claimToken, done))
    expectStatus(200, await wire.kill(url))
  })

  it('that is worked on before it is answered, late or never, is no failure', async () => {
    const url = '/echo/late'
    let answerLate: (nothing?: unknown) => void = () => undefined
    stage.order(url, { kind: 'late', until: new Promise((resolve) => (answerLate = resolve)) }, 1)
    await wire.spawned(url, { initialMessage: 'hello' })
    await stage.handled(url, 'hello')
    expectStatus(200, await wire.send(url, { payload: 'next' }))
    await stage.handled(url, 'next')

    await eventually(() => performance.now() - (stage.deliveriesTo(url)[0]?.at ?? 0) > deliveryLimitMs + 300)
    answerLate()
    expect(stage.deliveriesTo(url).map(({ wake }) => wake?.epoch)).toEqual([1, 2])
    expect(await wire.sql('SELECT failures, wake_id FROM subscriptions WHERE entity_url = $1', url)).toEqual([
      { failures: 0, wake_id: null },
    ])
  })

  it('whose late {"done":true} meets the next wake ends nothing of that', async () => {
    const url = '/echo/overtaken'
    let answerLate: (nothing?: unknown) => void = () => undefined
    const until = new Promise((resolve) => (answerLate = resolve))
    stage.order(url, { kind: 'synchronous', until }, 1)
    await wire.spawned(url, { initialMessage: 'first' })
    const wake = await eventually(() => stage.deliveriesTo(url)[0]?.wake)
    const say = async (body: object) =>
      await wire.ask('POST', `/_electric/wake-callbacks/${wake.wakeId}`, body, { headers: { authorization: `Bearer ${wake.claimToken}` } })
    stage.order(url, { kind: 'status', status: 200, body: '{"ok":true}' })
    expectStatus(200, await say({ epoch: 1, wakeId: wake.wakeId }))
    expect((await say({ epoch: 1, acks: [], done: true })).body).toEqual({ ok: true, next_wake: true })
    await eventually(
      async () => (await wire.sql('SELECT 1 FROM subscriptions WHERE entity_url = $1 AND lease_until IS NOT NULL', url)).length === 1,
    )
    const links = await wire.sql('SELECT acked FROM subscription_links WHERE path = $1', `${url}/main`)
    answerLate()

    await eventually(() => stage.deliveriesTo(url)[0]?.status === 200)
    await wire.sql('SELECT pg_sleep(0.2)') // an answer that counted would have been counted by now
    expect(await wire.sql('SELECT generation::int, wake_id IS NOT NULL AS goes_on FROM subscriptions WHERE entity_url = $1', url)).toEqual([
      { generation: 2, goes_on: true },
    ])
    expect(await wire.sql('SELECT acked FROM subscription_links WHERE path = $1', `${url}/main`)).toEqual(links)
    expectStatus(200, await wire.kill(url))
  })

  it.each([
    { what: 'a redirect', fault: { status: 302, body: '' }, isTaken: false },
    { what: 'more than it may', fault: { status: 200, body: `{"done":true,"more":"${'x'.repeat(70_000)}"}` }, isTaken: false },
    { what: 'no JSON', fault: { status: 200, body: '<html>{"done":true}' }, isTaken: true },
    { what: 'nothing', fault: { status: 200, body: '' }, isTaken: true },
    { what: 'a list', fault: { status: 200, body: '[{"done":true}]' }, isTaken: true },
    { what: 'a done that is none', fault: { status: 200, body: '{"done":"true"}' }, isTaken: true },
    { what: 'null', fault: { status: 200, body: 'null' }, isTaken: true },
  ])('answered with $what is never taken for done', async ({ what, fault, isTaken }) => {
    const url = `/echo/${what.replaceAll(' ', '-')}`
    stage.order(url, { kind: 'status', ...fault }, 1)
    await wire.spawned(url, { initialMessage: 'hello' })

    const state = async () =>
      (await wire.sql('SELECT failures > 0 AS failed, lease_until IS NOT NULL AS taken FROM subscriptions WHERE entity_url = $1', url))[0]
    await eventually(async () => expect(await state()).toEqual({ failed: !isTaken, taken: isTaken }) === undefined)
    if (isTaken) await wire.sql('UPDATE subscriptions SET lease_until = now() WHERE entity_url = $1', url)
    await stage.handled(url, 'hello')
  })

  it('answered {"done":true} acknowledges what was shown, and leaves the entity idle', async () => {
    const url = '/echo/at-once'
    stage.order(url, { kind: 'synchronous' }, 1)
    await wire.spawned(url, { initialMessage: 'hello' })

    await eventually(async () => (await wire.sql('SELECT wake_id FROM subscriptions WHERE entity_url = $1', url))[0]?.wake_id === null)
    expect(await wire.statusOf(url)).toBe('idle')
    expectStatus(200, await wire.send(url, { payload: 'next' }))
    await stage.handled(url, 'next')
    expect(stage.handler.log.timesHandled('hello', url)).toBe(0)
  })

  it(`that failed ${maxDeliveryAttempts} times is a dead letter, and the next message brings everything again`, async () => {
    const url = '/echo/dead'
    stage.order(url, { kind: 'status', status: 500 })
    await wire.spawned(url, { initialMessage: 'first' })
    const dead = await eventually(
      async () =>
        (
          await wire.sql(
            `SELECT wake_id, generation::int, last_error, attempts, acked_before, resolved_at IS NOT NULL AS resolved
               FROM wake_notifications WHERE entity_url = $1 AND delivery_status = 'failed'`,
            url,
          )
        )[0],
    )
    const workflow = await workflowsOf(url)
    const deliveries = stage.deliveriesTo(url)
    const acked = deliveries[0]?.wake?.streams[0]?.offset.replace('~', '')
    expect(dead).toEqual({
      wake_id: deliveries[0]?.wake?.wakeId,
      generation: 1,
      last_error: 'the handler answered 500',
      attempts: maxDeliveryAttempts,
      acked_before: { [`${url}/main`]: acked },
      resolved: true,
    })
    expect([deliveries.length, namesOf(deliveries).size, await wire.statusOf(url)]).toEqual([maxDeliveryAttempts, 1, 'idle'])
    await eventually(async () => (await workflow.describe()).status.name === 'COMPLETED')

    stage.handler.heal()
    expectStatus(200, await wire.send(url, { payload: 'second' }))
    await stage.handled(url, 'first')
    await stage.handled(url, 'second')
    expect(stage.deliveriesTo(url).at(-1)?.wake?.epoch).toBe(2)
  })

  it('that hangs holds up no other handler, and those that wait behind it come once each', async () => {
    const other = await WebhookHandler.start({ baseUrl: () => wire.url, handler: async () => undefined })
    await wire.register('other', { default_dispatch_policy: { targets: [{ type: 'webhook', url: other.url }] } })
    const urls = Array.from({ length: 12 }, (_, index) => `/echo/lane-${index}`)
    stage.handler.order({ kind: 'hang' }, { times: 8, when: ({ entity }) => urls.includes(entity.url) })
    await Promise.all(urls.map(async (url) => await wire.spawned(url, { initialMessage: url })))
    const since = performance.now()
    await wire.spawned('/other/one', { initialMessage: 'hello' })
    await eventually(() => other.log.timesHandled('hello') === 1)

    expect(performance.now() - since).toBeLessThan(deliveryLimitMs)
    await eventually(() => stage.handler.log.expectEachHandled(urls) === undefined, { withinMs: 20_000 })
    const again = urls.map((url) => stage.deliveriesTo(url)).filter((deliveries) => deliveries.length > 1)
    expect(again.filter((deliveries) => deliveries.length > 2 || (gaps(deliveries)[0] ?? 0) < 750)).toEqual([])
    expect(again.length).toBe(8)
    stage.handler.log.expectNoEntityTwiceAtATime()
    await other.stop()
  })

  it('and nothing of all this is left over', async () => {
    await nothingIsLeft(wire)
    await eventually(async () => {
      for await (const { workflowId } of temporal.workflow.list({ query: `ExecutionStatus = 'Running'` }))
        throw new Error(`${workflowId} is open`)
      return true
    })
  })
})

describe('without Temporal', () => {
  let stage: Stage
  beforeAll(async () => {
    stage = await Stage.start({ own: ['temporal'] })
    for (const id of ['a', 'b']) await stage.wire.spawned(`/echo/${id}`)
    await stage.wire.house.kill('temporal')
  })
  afterAll(async () => await stage.stop())

  it('first deliveries go on', async () => {
    expectStatus(200, await stage.wire.send('/echo/a', { payload: 'hello' }))
    await stage.handled('/echo/a', 'hello', 2_000)
  })

  it('those that fail come again by their rows', async () => {
    stage.order('/echo/b', { kind: 'status', status: 500 }, 2)
    expectStatus(200, await stage.wire.send('/echo/b', { payload: 'hello' }))

    await stage.handled('/echo/b', 'hello', 20_000)
    expect(stage.deliveriesTo('/echo/b')).toHaveLength(3)
  })
})
