/** Streams as part of a caller's transaction (design §4): what changes here commits, or vanishes, with everything else in it. */

import { offsetOf, type StreamPath, zeroOffset } from '../../../src/domain/ids.js'
import { defaultLimits } from '../../../src/domain/limits.js'
import type { Transaction } from '../../../src/registry/database.js'
import { PostgresStreams } from '../../../src/streams/postgres/store.js'
import type { StreamAppend, TransactionalStreams } from '../../../src/streams/store.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { newPath } from './protocol-client.js'

let fresh: FreshDatabase
let store: PostgresStreams
let streams: TransactionalStreams

beforeAll(async () => {
  fresh = await freshDatabase()
  store = new PostgresStreams({ database: fresh.database, limits: { ...defaultLimits, longPollTimeoutMs: 5_000 } })
  streams = store.transactional
})

afterAll(async () => {
  await store.close()
  await fresh.drop()
})

const path = (): StreamPath => newPath() as StreamPath
const contentType = 'application/json'
const body = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

async function append(tx: Transaction, appends: readonly StreamAppend[]) {
  const { verdicts, write } = streams.decide(await streams.lock(tx, appends), appends)
  await write(tx)
  return verdicts
}

describe('a batch inside a transaction', () => {
  it('applies several appends to one stream in their order, each seeing what the ones before it left', async () => {
    const [one, other] = [path(), path()]

    const verdicts = await fresh.database.transaction(async (tx) => {
      await streams.create(tx, [
        { path: one, contentType },
        { path: other, contentType, body: body(['first']) },
      ])
      return await append(tx, [
        { path: one, contentType, body: body(1) },
        { path: other, contentType, body: body('second') },
        { path: one, contentType, body: body(2), close: true },
        { path: one, contentType, body: body(3) },
        { path: path(), contentType, body: body(4) },
      ])
    })

    expect(verdicts).toMatchObject([
      { outcome: 'appended', tail: offsetOf(1) },
      { outcome: 'appended', tail: offsetOf(2) },
      { outcome: 'appended', tail: offsetOf(2), closed: true },
      { outcome: 'refused', because: 'closed' },
      { outcome: 'refused', because: 'missing' },
    ])
    expect(await store.readEvents(one, zeroOffset, 100)).toMatchObject({ events: [{ item: 1 }, { item: 2 }], closed: true })
  })

  it('leaves nothing behind when the transaction fails', async () => {
    const [made, stood] = [path(), path()]
    await store.create(stood, { contentType })

    const failed = fresh.database.transaction(async (tx) => {
      await streams.create(tx, [{ path: made, contentType, body: body(1) }])
      await append(tx, [{ path: stood, contentType, body: body(1), producer: { id: 'p', epoch: 0, seq: 0 } }])
      throw new Error('after the streams')
    })

    await expect(failed).rejects.toThrow('after the streams')
    expect(await store.head(made)).toMatchObject({ outcome: 'refused', because: 'missing' })
    expect(await store.append(stood, { contentType, body: body(1), producer: { id: 'p', epoch: 0, seq: 0 } })).toMatchObject({
      outcome: 'appended',
      tail: offsetOf(1),
    })
  })

  it('answers creates in their order: made, standing, conflicting, twice in one batch, forked from one of them', async () => {
    const [fresh1, standing, twice, fork] = [path(), path(), path(), path()]
    await store.create(standing, { contentType })

    const verdicts = await fresh.database.transaction(async (tx) =>
      streams.create(tx, [
        { path: fork, fork: { from: fresh1 } },
        { path: fresh1, contentType, body: body(['a']) },
        { path: standing, contentType },
        { path: standing, contentType: 'text/plain' },
        { path: twice, contentType, body: body(['mine']) },
        { path: twice, contentType, body: body(['not mine']) },
        { path: path(), contentType, body: Buffer.from('{') },
      ]),
    )

    expect(verdicts.map((verdict) => (verdict.outcome === 'refused' ? verdict.because : verdict.outcome))).toEqual([
      'created',
      'created',
      'exists',
      'exists',
      'created',
      'exists',
      'body',
    ])
    expect(verdicts[3]).toMatchObject({ outcome: 'refused', status: 409 })
    expect(await store.readEvents(fork, zeroOffset, 10)).toMatchObject({ events: [{ item: 'a' }] })
    expect(await store.readEvents(twice, zeroOffset, 10)).toMatchObject({ events: [{ item: 'mine' }] })
  })

  it('wakes a waiting reader when it is announced', async () => {
    const watched = path()
    await store.create(watched, { contentType })
    const waiting = store.serveRead({
      path: watched,
      query: { offset: zeroOffset, live: 'long-poll' },
      offsetsGiven: 1,
      signal: new AbortController().signal,
    })

    await fresh.database.transaction(async (tx) => append(tx, [{ path: watched, contentType, body: body('news') }]))
    streams.announce([watched])

    expect(String((await waiting).body)).toBe('["news"]')
  })

  it('never deadlocks with others over the same streams in another order', async () => {
    const paths = Array.from({ length: 20 }, path)
    await Promise.all(paths.map((each) => store.create(each, { contentType })))

    const batches = Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? paths : paths.toReversed()))
    await Promise.all(
      batches.map(
        async (batch, n) =>
          await fresh.database.transaction(async (tx) =>
            append(
              tx,
              batch.map((each) => ({ path: each, contentType, body: body(n) })),
            ),
          ),
      ),
    )

    const { rows } = await fresh.database.query({
      name: 'deadlocks',
      text: 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
      values: [],
    })
    expect(rows[0]?.deadlocks).toBe(0)
    for (const each of paths) expect(await store.head(each)).toMatchObject({ head: { tail: offsetOf(40) } })
  })
})
