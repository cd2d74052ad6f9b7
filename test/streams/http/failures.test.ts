import { type Offset, type StreamPath, zeroOffset } from '../../../src/domain/ids.js'
import { httpStreamStore } from '../../../src/streams/http/store.js'
import { type AppendRequest, isRefused, type StreamStore } from '../../../src/streams/store.js'
import { eventually } from '../../support/eventually.js'
import { type ForeignStreams, startForeignStreams } from '../../support/foreign-streams.js'
import { startProxy, type TcpProxy } from '../../support/proxy.js'
import { read } from '../reading.js'
import { freshPath, json, jsonType } from '../suite.js'

const attemptTimeoutMs = 400
const deadlineMs = 1_200
const unavailable = { refusal: { code: 'STREAM_SERVICE_UNAVAILABLE', status: 503, retryAfterS: 1 } }

describe('with a stream server that fails', () => {
  let streams: ForeignStreams
  let proxy: TcpProxy
  let store: StreamStore
  const item = (value: unknown, seq?: number): AppendRequest => ({
    contentType: jsonType,
    body: json(value),
    ...(seq !== undefined && { producer: { id: 'writer', epoch: 0, seq } }),
  })
  const contents = async (path: StreamPath): Promise<unknown> => JSON.parse((await read(store, path)).text)
  const tailOf = async (path: StreamPath): Promise<Offset> => {
    const found = await store.head(path)
    if (isRefused(found)) throw new Error(found.reason)
    return found.head.tail
  }
  const create = async (): Promise<StreamPath> => {
    const path = freshPath<StreamPath>()
    await store.create(path, { contentType: jsonType, body: json(['first']) })
    return path
  }

  beforeEach(async () => {
    streams = await startForeignStreams()
    proxy = await startProxy(streams.port)
    store = httpStreamStore({ url: `http://127.0.0.1:${proxy.port}/v1/stream`, attemptTimeoutMs, deadlineMs })
  })
  afterEach(async () => {
    await store.close()
    await proxy.stop()
    await streams.stop()
  })

  it('half-open, every call ends within its bound, and all goes on when the server is back', async () => {
    const path = await create()
    proxy.stall()
    const begun = Date.now()

    const calls = [
      store.append(path, item('lost', 0)),
      store.append(path, item('lost')),
      store.create(freshPath(), { contentType: jsonType }),
      store.head(path),
      store.delete(path),
      store.readEvents(path, zeroOffset, 10),
      read(store, path),
    ]
    for (const verdict of await Promise.allSettled(calls)) expect(verdict).toMatchObject({ status: 'rejected', reason: unavailable })

    expect(Date.now() - begun).toBeLessThan(2 * deadlineMs + 2 * attemptTimeoutMs + 500)
    proxy.heal()
    await eventually(async () => (await store.append(path, item('after', 0))).outcome === 'appended')
    expect(await contents(path)).toEqual(['first', 'after'])
  })

  it('a server that restarts is waited for, longer than a handful of attempts take', async () => {
    const path = await create()
    const patient = httpStreamStore({ url: `http://127.0.0.1:${proxy.port}/v1/stream` })
    proxy.cut()
    const { accepted } = proxy
    const appended = patient.append(path, item('waited', 0))
    await Promise.race([appended, eventually(() => proxy.accepted >= accepted + 7)])
    proxy.heal()

    expect(await appended).toMatchObject({ outcome: 'appended' })
    expect(await contents(path)).toEqual(['first', 'waited'])
    await patient.close()
  })

  it('cut off after it took an append, the repetition of a producer stores it once', async () => {
    const path = await create()
    proxy.cutAnswers()
    const appending = store.append(path, item('once', 0))
    await eventually(async () => (await directContents(path)).length === 2)

    proxy.heal()

    expect(['appended', 'duplicate']).toContain((await appending).outcome)
    expect(await contents(path)).toEqual(['first', 'once'])
  })

  it('cut off after it took an append without a producer, the append is not repeated', async () => {
    const path = await create()
    proxy.cutAnswers()

    await expect(store.append(path, item('maybe'))).rejects.toMatchObject(unavailable)

    proxy.heal()
    expect(await contents(path)).toEqual(['first', 'maybe'])
  })

  it('cut off after it made a stream, the repetition finds its own first entry', async () => {
    await create()
    const path = freshPath<StreamPath>()
    proxy.cutAnswers()
    const creating = store.create(path, { contentType: jsonType, body: json([{ mine: path }]) })
    await eventually(async () => (await directContents(path)).length === 1)

    proxy.heal()

    expect(await creating).toMatchObject({ outcome: 'created' })
    expect(await contents(path)).toEqual([{ mine: path }])
  })

  it('that crashed between data and producer state, a repetition finds its entry (D13)', async () => {
    const path = await create()
    proxy.stall()
    await expect(store.append(path, item({ n: 1 }, 0))).rejects.toMatchObject(unavailable)
    await storeWithoutProducer(path, { n: 1 })
    proxy.heal()

    const verdict = await store.append(path, item({ n: 1 }, 0))

    expect(verdict).toMatchObject({ outcome: 'appended', producer: { id: 'writer', epoch: 0, seq: 0 } })
    expect(await contents(path)).toEqual(['first', { n: 1 }])
  })

  it('a repetition by another process finds the entry behind what stood there before, wherever it stands (D13)', async () => {
    const path = await create()
    await storeWithoutProducer(path, { n: 1 })
    const before = await tailOf(path)
    for (const n of [2, 3]) await storeWithoutProducer(path, { n })
    const otherProcess = httpStreamStore({ url: streams.url, attemptTimeoutMs, deadlineMs })
    await otherProcess.append(path, item({ n: 4 }))
    const repeat = async (n: number) => await otherProcess.append(path, { ...item({ n }, 0), mayHaveLandedAfter: before })

    expect(await repeat(2)).toMatchObject({ outcome: 'appended', producer: { id: 'writer', epoch: 0, seq: 0 } })
    expect(await contents(path)).toEqual(['first', { n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }])
    expect(await repeat(1)).toMatchObject({ outcome: 'appended' }) // one like it stood there before
    expect(await contents(path)).toEqual(['first', { n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }, { n: 1 }])
    await otherProcess.close()
  })

  it('the repetition of an entry that closes finds it, and closes the stream that the crash left open (D13)', async () => {
    const path = await create()
    const before = await tailOf(path)
    await storeWithoutProducer(path, { n: 1 })

    const verdict = await store.append(path, { ...item({ n: 1 }, 0), close: true, mayHaveLandedAfter: before })

    expect(verdict).toMatchObject({ outcome: 'appended', tail: await tailOf(path), closed: true })
    expect(await contents(path)).toEqual(['first', { n: 1 }])
    expect(await store.head(path)).toMatchObject({ head: { closed: true } })
  })

  it('a repetition that nobody can tell from an equal entry is reported', async () => {
    const path = await create()
    const newcomer = httpStreamStore({
      url: `http://127.0.0.1:${proxy.port}/v1/stream`,
      attemptTimeoutMs,
      deadlineMs,
      knownConforming: true,
    })
    proxy.stall()
    await expect(newcomer.append(path, item({ n: 1 }, 0))).rejects.toMatchObject(unavailable)
    await storeWithoutProducer(path, { n: 1 })
    proxy.heal()

    await expect(newcomer.append(path, item({ n: 1 }, 0))).rejects.toMatchObject(unavailable)

    expect(await contents(path)).toEqual(['first', { n: 1 }])
    await newcomer.close()
  })

  it('killed under load, every acknowledged append is there once after its restart, and the others at most once', async () => {
    const paths = await Promise.all(Array.from({ length: 20 }, create))
    const acknowledged = new Set<string>()
    const writing = paths.map(async (path) => {
      for (let n = 0; n < 20; n += 1) {
        const request = { ...item(`${path} ${n}`), producer: { id: `${path} ${n}`, epoch: 0, seq: 0 } }
        await eventually(async () => (await store.append(path, request)).outcome !== 'refused', { withinMs: 20_000 })
        acknowledged.add(`${path} ${n}`)
      }
    })
    for (const share of [40, 160]) {
      await eventually(() => acknowledged.size >= share, { withinMs: 20_000, everyMs: 2 })
      await streams.restart()
    }
    await Promise.all(writing)

    for (const path of paths) expect(await contents(path)).toEqual(['first', ...Array.from({ length: 20 }, (_, n) => `${path} ${n}`)])
  })

  it('an SSE reader that leaves ends its request at the server', async () => {
    const path = await create()
    const leave = new AbortController()
    const { body } = await store.serveRead({ path, query: { offset: '-1', live: 'sse' }, offsetsGiven: 1, signal: leave.signal })
    if (body === null || Buffer.isBuffer(body)) throw new Error('not streamed')
    const chunks = body[Symbol.asyncIterator]()
    await chunks.next()

    leave.abort()

    await expect(async () => {
      while (!(await chunks.next()).done);
    }).rejects.toThrow()
  })

  async function storeWithoutProducer(path: StreamPath, value: unknown): Promise<void> {
    await fetch(`${streams.url}${path}`, { method: 'POST', headers: { 'content-type': jsonType }, body: JSON.stringify(value) })
  }

  async function directContents(path: StreamPath): Promise<unknown[]> {
    const answer = await fetch(`${streams.url}${path}?offset=-1`)
    return (await answer.json()) as unknown[]
  }
})
