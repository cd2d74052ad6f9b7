/** The published clients on what the server itself writes: `@durable-streams/client` and `@durable-streams/state`. */
import { stream } from '@durable-streams/client'
import { createStateSchema, createStreamDB, type StreamDB } from '@durable-streams/state/db'
import { z } from 'zod'
import { eventually } from '../support/eventually.js'
import { expectStatus, Wire, type WireEvent } from '../support/wire.js'

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start()
  await wire.register('commanded', { slash_commands: [{ name: 'goal', description: 'Goal' }] })
})
afterAll(async () => await wire.stop())

const row = z.looseObject({})
const collection = (type: string) => ({ schema: row, type, primaryKey: 'key' })
const schema = createStateSchema({
  created: collection('entity_created'),
  commands: collection('slash_command'),
  inbox: collection('inbox'),
  signals: collection('signal'),
  identities: collection('identity'),
})

/** Reads the main stream of `url` as an application does. */
async function withDatabase<Result>(url: string, work: (database: StreamDB<typeof schema>) => Promise<Result>): Promise<Result> {
  const database = createStreamDB({ streamOptions: { url: `${wire.url}${url}/main`, contentType: 'application/json' }, state: schema })
  try {
    await database.preload()
    return await work(database)
  } finally {
    database.close()
  }
}

describe('@durable-streams/client', () => {
  it.each(['long-poll', 'sse'] as const)('reads a main stream live (%s) while messages are sent, until the kill ends it', async (live) => {
    const url = `/chat/live-${live}`
    await wire.spawned(url)
    const following = await stream<WireEvent>({ url: `${wire.url}${url}/main`, offset: '-1', live })
    const seen: WireEvent[] = []
    const ended = (async () => {
      for await (const event of following.jsonStream()) seen.push(event)
    })()

    const txids: unknown[] = []
    for (let payload = 0; payload < 20; payload += 1)
      txids.push((expectStatus(200, await wire.send(url, { payload })).body as { txid: string }).txid)
    await eventually(() => seen.length === 21)
    expectStatus(200, await wire.kill(url))
    await ended

    expect(seen.map(({ type }) => type)).toEqual(['entity_created', ...Array.from({ length: 20 }, () => 'inbox'), 'signal'])
    expect(seen.slice(1, 21).map(({ headers }) => headers.txid)).toEqual(txids)
  })
})

describe('@durable-streams/state', () => {
  it('preloads the stream of an entity with every event that the server writes', async () => {
    await wire.spawned('/commanded/a', { initialMessage: 'hello' })
    for (const mode of ['immediate', 'queued', 'paused', 'steer']) await wire.send('/commanded/a', { payload: mode, mode, key: mode })
    await wire.signal('/commanded/a', { signal: 'SIGUSR' })
    await wire.kill('/commanded/a')

    await withDatabase('/commanded/a', async ({ collections }) => {
      expect(collections.created.get('entity-created')).toMatchObject({ entity_type: 'commanded' })
      expect(collections.commands.get('goal')).toMatchObject({ description: 'Goal', source: 'static' })
      expect(collections.inbox.size).toBe(5)
      expect(collections.inbox.get('queued')).toMatchObject({ status: 'pending', payload: 'queued' })
      expect(collections.signals.toArray.map((signal) => signal.status).sort()).toEqual(['handled', 'unhandled'])
    })
  })

  it('waits for the txid of a send (what the UI does after every message)', async () => {
    await wire.spawned('/chat/awaited')

    await withDatabase('/chat/awaited', async ({ collections, utils }) => {
      const { txid } = expectStatus(200, await wire.send('/chat/awaited', { payload: 'hi', key: 'k1' })).body as { txid: string }
      await utils.awaitTxId(txid, 5_000)

      expect(collections.inbox.get('k1')).toMatchObject({ payload: 'hi' })
    })
  })

  it('preloads the stream of a principal, and sees its identity change (DEVIATE: the original’s cannot be read)', async () => {
    await wire.get('/principal/user:bob', 'user:bob')
    const identity = { kind: 'user', id: 'bob', key: 'user:bob', url: '/principal/user%3Abob', updated_at: '2026-11-22T09:31:05.278Z' }

    await withDatabase('/principal/user%3Abob', async ({ collections }) => {
      expect(collections.identities.get('self')).toMatchObject({ key: 'self', id: 'bob', url: '/principal/user%3Abob' })
      expectStatus(
        200,
        await wire.send('/principal/user:bob', { type: 'update_identity', payload: { identity: { ...identity, display_name: 'Bob' } } }),
      )

      await eventually(() => collections.identities.get('self')?.display_name === 'Bob')
    })
  })
})
