/** The published clients read and write our streams (spec/14 §4): `@durable-streams/client` 0.2.7, `@durable-streams/state` 0.3.1. */
import { DurableStream, IdempotentProducer, stream } from '@durable-streams/client'
import { createStateSchema, createStreamDB } from '@durable-streams/state/db'
import { z } from 'zod'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'
import { created, items, json, newPath, post } from './protocol-client.js'

let fresh: FreshDatabase
let writer: StreamApp
let reader: StreamApp

beforeAll(async () => {
  fresh = await freshDatabase()
  writer = await startStreamApp(fresh.url)
  reader = await startStreamApp(fresh.url)
})

afterAll(async () => {
  await Promise.all([writer.stop(), reader.stop()])
  await fresh.drop()
})

describe('the client', () => {
  it('creates, appends, reads all of it with live: false, and closes', async () => {
    const url = writer.url + newPath()
    const handle = await DurableStream.create({ url, contentType: 'application/json' })
    await Promise.all(Array.from({ length: 50 }, (_, n) => handle.append(JSON.stringify({ n }))))

    const read = await (await stream<{ n: number }>({ url, offset: '-1', live: false })).json()
    const { finalOffset } = await handle.close()

    expect(read.map(({ n }) => n).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, n) => n))
    expect(await handle.head()).toMatchObject({ exists: true, offset: finalOffset })
  })

  it.each(['long-poll', 'sse'] as const)('follows by %s what another process appends, until it is closed', async (live) => {
    const path = await created(writer.url, newPath(), json, '[0]')
    const following = await stream<number>({ url: reader.url + path, offset: '-1', live })
    const seen: number[] = []
    const ended = (async () => {
      for await (const item of following.jsonStream()) seen.push(item)
    })()
    for (let n = 1; n <= 20; n += 1) await post(writer.url, path, json, `[${n}]`)
    await post(writer.url, path, { ...json, 'stream-closed': 'true' }, '[21]')

    await ended

    expect(seen).toEqual(Array.from({ length: 22 }, (_, n) => n))
  })

  it('follows bytes by SSE', async () => {
    const path = await created(writer.url, newPath(), { 'content-type': 'application/pdf' }, Buffer.from([0, 1, 255]))
    const following = await stream({ url: reader.url + path, offset: '-1', live: 'sse' })
    const seen: Uint8Array[] = []
    const ended = (async () => {
      for await (const chunk of following.bodyStream()) seen.push(chunk)
    })()
    await post(writer.url, path, { 'content-type': 'application/pdf', 'stream-closed': 'true' }, Buffer.from([200, 201]))

    await ended

    expect(Buffer.concat(seen)).toEqual(Buffer.from([0, 1, 255, 200, 201]))
  })

  it('writes through its idempotent producer, each item once and in order, and closes', async () => {
    const path = await created(writer.url, newPath())
    const handle = new DurableStream({ url: writer.url + path, contentType: 'application/json' })
    const idempotent = new IdempotentProducer(handle, 'the-producer', { epoch: 3, maxBatchBytes: 64 })
    for (let n = 0; n < 200; n += 1) idempotent.append(JSON.stringify(n))
    await idempotent.flush()
    await idempotent.close()

    expect(await items(reader.url, path)).toEqual(Array.from({ length: 200 }, (_, n) => n))
  })

  it('is told an error, instead of hanging, when its producer meets a closed stream', async () => {
    const path = await created(writer.url, newPath())
    const failures: Error[] = []
    const handle = new DurableStream({ url: writer.url + path, contentType: 'application/json' })
    const idempotent = new IdempotentProducer(handle, 'p', { onError: (failure) => failures.push(failure) })
    idempotent.append('1')
    await idempotent.flush()
    await post(writer.url, path, { 'stream-closed': 'true' })
    idempotent.append('2')
    await idempotent.flush()

    expect(failures).toHaveLength(1)
  })
})

describe('StreamDB', () => {
  it('preloads a stream of 50,000 items', async () => {
    const count = 50_000
    const perAppend = 1_000
    const path = await created(writer.url, newPath('state'))
    for (let at = 0; at < count; at += perAppend) {
      const events = Array.from({ length: perAppend }, (_, n) => ({
        type: 'note',
        key: `n${at + n}`,
        value: { id: `n${at + n}` },
        headers: { operation: 'insert' },
      }))
      await post(writer.url, path, json, JSON.stringify(events))
    }
    const schema = createStateSchema({ notes: { schema: z.object({ id: z.string() }), type: 'note', primaryKey: 'id' } })
    const db = createStreamDB({ streamOptions: { url: reader.url + path, contentType: 'application/json' }, state: schema })

    await db.preload()

    expect(db.collections.notes.size).toBe(count)
    db.close()
  })
})
