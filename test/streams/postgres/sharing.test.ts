/** Many live readers of one stream: what they are given is made once, and handed out in portions. */
import type { StreamPath } from '../../../src/domain/ids.js'
import type { ReadResponse } from '../../../src/streams/store.js'
import { eventually } from '../../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'
import { newPath } from './protocol-client.js'

let fresh: FreshDatabase
let app: StreamApp
let leave: AbortController

beforeAll(async () => {
  fresh = await freshDatabase()
  app = await startStreamApp(fresh.url)
})

beforeEach(() => {
  leave = new AbortController()
})

afterEach(() => leave.abort())

afterAll(async () => {
  await app.stop()
  await fresh.drop()
})

type Kind = { readonly live: 'sse' | 'long-poll'; readonly cursor?: string }

const ask = async (path: StreamPath, kind: Kind): Promise<ReadResponse> =>
  await app.streams.serveRead({ path, query: { offset: 'now', ...kind }, offsetsGiven: 1, signal: leave.signal })

/** Readers that have been told that they are at the tail, and wait. */
async function waitingForEvents(path: StreamPath, count: number, cursor?: string): Promise<AsyncIterator<Buffer>[]> {
  const readers: AsyncIterator<Buffer>[] = []
  for (let reader = 0; reader < count; reader += 1) {
    const { body } = await ask(path, { live: 'sse', ...(cursor !== undefined && { cursor }) })
    if (body === null || Buffer.isBuffer(body)) throw new Error('an SSE read has a streamed body')
    const frames = body[Symbol.asyncIterator]()
    await frames.next()
    readers.push(frames)
  }
  return readers
}

const nextOf = async (readers: readonly AsyncIterator<Buffer>[]): Promise<Buffer[]> =>
  await Promise.all(readers.map(async (frames) => (await frames.next()).value as Buffer))

async function streamOf(contentType: string): Promise<StreamPath> {
  const path = newPath('shared') as StreamPath
  await app.streams.create(path, { contentType })
  return path
}

const large = 'x'.repeat(100_000)

describe.each([
  { contentType: 'text/plain', body: large },
  { contentType: 'application/json', body: JSON.stringify(large) },
  { contentType: 'application/octet-stream', body: large },
])('an entry of $contentType', ({ contentType, body }) => {
  it('is one buffer for all who wait for its event, whatever cursors they sent', async () => {
    const path = await streamOf(contentType)
    const readers = [...(await waitingForEvents(path, 150)), ...(await waitingForEvents(path, 10, '999999999'))]

    const data = nextOf(readers)
    await app.streams.append(path, { contentType, body: Buffer.from(body) })

    expect(new Set(await data).size).toBe(1)
    const controls = (await nextOf(readers)).map((control) => control.toString())
    expect(new Set(controls.slice(0, 150)).size).toBe(1)
    for (const control of controls.slice(150)) expect(Number(/"streamCursor":"(\d+)"/.exec(control)?.[1])).toBeGreaterThan(999_999_999)
  })

  it('is one body for all who poll for it', async () => {
    const path = await streamOf(contentType)

    const polls = Promise.all(Array.from({ length: 150 }, () => ask(path, { live: 'long-poll' })))
    await app.streams.head(path) // by a statement that leaves after theirs: all of them wait
    await app.streams.append(path, { contentType, body: Buffer.from(body) })

    expect(new Set((await polls).map((response) => response.body)).size).toBe(1)
  })
})

it('small entries of one read are one buffer with their control frames, for all who sent the same cursor', async () => {
  const path = await streamOf('text/plain')
  const readers = await waitingForEvents(path, 20)

  const first = nextOf(readers)
  await Promise.all(
    ['a', 'b', 'c'].map(async (body) => await app.streams.append(path, { contentType: 'text/plain', body: Buffer.from(body) })),
  )

  expect(new Set(await first).size).toBe(1)
})

it('many who wait are handed what they wait for in portions, between which others get their turn', async () => {
  const path = await streamOf('text/plain')
  const readers = await waitingForEvents(path, 320)
  const turns: number[] = []
  let turn = 0
  const next = () => {
    turn += 1
    if (turns.length < readers.length) setImmediate(next)
  }

  const all = Promise.all(
    readers.map(async (frames) => {
      await frames.next()
      turns.push(turn)
    }),
  )
  setImmediate(next)
  await app.streams.append(path, { contentType: 'text/plain', body: Buffer.from('news') })
  await all

  const portions = [...new Set(turns)].map((at) => turns.filter((each) => each === at).length)
  expect(portions.length).toBeGreaterThanOrEqual(5)
  expect(Math.max(...portions)).toBeLessThanOrEqual(64)
})

it('a text of line breaks alone is one frame, whose lines are empty', async () => {
  const path = await streamOf('text/plain')
  const [reader] = await waitingForEvents(path, 1)
  const breaks = 4 * 1024 * 1024

  const frame = reader?.next()
  await app.streams.append(path, { contentType: 'text/plain', body: Buffer.alloc(breaks, '\n') })

  const data = (await frame)?.value as Buffer
  expect(data.length).toBe('event: data\n'.length + 'data:\n'.length * (breaks + 1) + 1)
  await eventually(async () => (await reader?.next())?.value.toString().startsWith('event: control'))
})
