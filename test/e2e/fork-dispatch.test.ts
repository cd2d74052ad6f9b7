/** Who hears of a fork (spec/04 §18): the copied past wakes nobody, what comes behind it wakes like anywhere else. In both stream modes. */
import { eventually } from '../support/eventually.js'
import { Forker } from '../support/forker.js'
import { Receiver } from '../support/receiver.js'
import { childEvent, manifestEvent } from '../support/runtime-writer.js'
import { Subscriber } from '../support/subscriber.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { expectStatus } from '../support/wire.js'

describe.each(['postgres', 'http'] as const)('a fork, with streams in %s,', (streams) => {
  let forker: Forker
  let subscriber: Subscriber
  let handler: WebhookHandler
  let receiver: Receiver
  /** What the handler of an entity writes. */
  const manifests = new Map<string, readonly ReturnType<typeof manifestEvent>[]>()

  beforeAll(async () => {
    forker = await Forker.start({ streams })
    subscriber = new Subscriber(forker.wire)
    handler = await WebhookHandler.start({
      baseUrl: () => forker.wire.url,
      handler: async ({ wake, write }) => write(...(manifests.get(wake.entity.url) ?? [])),
    })
    receiver = await Receiver.start()
    receiver.answer = { body: { done: true } }
    await forker.wire.register('echo', { default_dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] } })
  })
  afterAll(async () => {
    await handler.stop()
    await receiver.stop()
    await forker.stop()
  })

  /** A root and its child, both with a handled message, and a board that the root knows of; everything is quiet. */
  async function worked() {
    const root = await forker.root({}, 'echo')
    const [kid, board] = [`/echo/${forker.id('kid')}`, forker.id('board')]
    const note = { type: 'note', key: '1', value: {}, headers: { operation: 'insert' } }
    const json = { headers: { 'content-type': 'application/json' } }
    expectStatus(201, await forker.wire.ask('PUT', `/_electric/shared-state/${board}`, note, json))
    await forker.wire.spawned(kid, { parent: root, initialMessage: 'old' })
    manifests.set(root, [
      childEvent(kid),
      manifestEvent(`shared-state:${board}`, { kind: 'shared-state', id: board, mode: 'create', collections: {} }),
    ])
    expectStatus(200, await forker.wire.send(root, { payload: 'old' }))
    await eventually(async () => {
      for (const url of [root, kid]) if (handler.log.timesHandled('old', url) !== 1) return false
      return (await forker.wire.sql('SELECT FROM subscriptions WHERE wake_id IS NOT NULL')).length === 0
    })
    return { root, kid, board }
  }

  /** Wakes that the subscriptions to a stream, its own and others', have ever had; and which of its entries are news to them. */
  const linksOf = async (path: string) =>
    await forker.wire.sql(
      `SELECT s.entity_url IS NOT NULL AS is_own, s.generation::int AS wakes, l.acked
         FROM subscription_links l JOIN subscriptions s ON s.tenant_id = l.tenant_id AND s.id = l.subscription_id
        WHERE l.path = $1 ORDER BY is_own`,
      path,
    )
  const deadlocks = async () => (await forker.wire.sql('SELECT sum(deadlocks)::int AS sum FROM pg_stat_database'))[0]?.sum
  const tailOf = async (url: string) => (await forker.wire.events(url)).at(-1)?.headers.offset

  it('wakes nobody by what it copies: not the handlers of its entities, and no pattern that names its streams (MUST)', async () => {
    const { root, kid, board } = await worked()
    const [entities, states] = [subscriber.fresh('entities'), subscriber.fresh('states')]
    await subscriber.made(entities, { type: 'webhook', pattern: 'echo/**', webhook: { url: receiver.url() } })
    await subscriber.made(states, { type: 'webhook', pattern: '_electric/shared-state/*', webhook: { url: receiver.url() } })

    const copies = await forker.forked(root)

    const [rootCopy = '', kidCopy = ''] = copies.entities.map(({ url }) => url)
    expect(kidCopy).toMatch(kid)
    for (const url of [rootCopy, kidCopy]) {
      const acked = await tailOf(url)
      expect(await linksOf(`${url}/main`)).toEqual([
        { is_own: false, wakes: 0, acked },
        { is_own: true, wakes: 0, acked },
      ])
    }
    const copiedBoard = `_electric/shared-state/${board}-fork-${rootCopy.slice(-8)}`
    expect(await linksOf(`/${copiedBoard}`)).toEqual([{ is_own: false, wakes: 0, acked: await subscriber.tailOf(copiedBoard) }])

    const before = await tailOf(kidCopy)
    expectStatus(200, await forker.wire.send(kidCopy, { payload: 'new' }))

    await eventually(() => handler.log.timesHandled('new', kidCopy) === 1 && receiver.of(entities).length > 0)
    expect(handler.log.runsOf(kidCopy).flatMap(({ passes }) => passes.flatMap(({ messages }) => messages.map(({ text }) => text)))).toEqual(
      ['new'],
    )
    expect(receiver.of(entities)[0]?.body.streams).toContainEqual(
      { path: `${kidCopy}/main`, offset: `${before}~` }, // behind what was acked, and before all else (wake-body.ts)
    )
    expect(handler.log.runsOf(rootCopy)).toEqual([])
    expect(receiver.of(states)).toEqual([])
    await subscriber.delete(entities)
    await subscriber.delete(states)
  })

  it('and patterns that are made meanwhile do not wait for each other in a circle', async () => {
    const root = await forker.root()
    await forker.child(root)
    const before = await deadlocks()
    const names = Array.from({ length: streams === 'postgres' ? 12 : 4 }, () => subscriber.fresh('meanwhile'))

    await Promise.all(
      names.map(async (name) => {
        const made = subscriber.made(name, { type: 'pull-wake', pattern: 'chat/**', wake_stream: `wakes/${name}` })
        const copies = await forker.forked(root)
        await made
        for (const { url } of copies.entities.slice(0, 1))
          expect(await linksOf(`${url}/main`)).toContainEqual({ is_own: false, wakes: 0, acked: await tailOf(url) })
      }),
    )

    expect(await deadlocks()).toBe(before)
    for (const name of names) await subscriber.delete(name)
  })

  it('wakes its root by a first message, and nobody else', async () => {
    const { root } = await worked()

    const copies = await forker.forked(root, { initialMessage: 'first' })

    const [rootCopy = '', kidCopy = ''] = copies.entities.map(({ url }) => url)
    await eventually(() => handler.log.timesHandled('first') === 1)
    expect(handler.log.timesHandled('first', rootCopy)).toBe(1)
    expect(handler.log.runsOf(rootCopy).map(({ passes }) => passes.map(({ messages }) => messages.map(({ text }) => text)))).toEqual([
      [['first']],
    ])
    expect(handler.log.runsOf(kidCopy)).toEqual([])
    expect(await linksOf(`${kidCopy}/main`)).toContainEqual({ is_own: true, wakes: 0, acked: await tailOf(kidCopy) })
  })
})
