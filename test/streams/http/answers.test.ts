/** What of a foreign server's answers is believed, and what is passed on. */
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { type StreamPath, zeroOffset } from '../../../src/domain/ids.js'
import { holds } from '../../../src/streams/http/content.js'
import { httpStreamStore } from '../../../src/streams/http/store.js'
import type { StreamStore } from '../../../src/streams/store.js'
import { eventually } from '../../support/eventually.js'
import { read } from '../reading.js'

/** Without an end where the body is null. */
type Said = readonly [status: number, headers?: Readonly<Record<string, string>>, body?: string | null]

/** Whether an answer without an end has begun. */
let hasBegun = false

/** A store whose server answers HEAD with a stream, and everything else with `said`. */
async function storeHearing([status, headers = {}, body = '']: Said): Promise<StreamStore> {
  const address = await listening((request, response) => {
    request.resume().on('end', () => {
      response.writeHead(request.method === 'HEAD' ? 200 : status, {
        'stream-next-offset': '0000000000000000_0000000000000001',
        ...headers,
      })
      if (body !== null) return response.end(body)
      response.flushHeaders()
      hasBegun = true
    })
  })
  const store = httpStreamStore({
    url: `http://${address}`,
    knownConforming: true,
    minAttempts: 1,
    holdMs: 0,
    sseConnectionMs: 4_000, // the answer begins within it, on a busy machine too
  })
  opened.push(() => store.close())
  return store
}

/** Host and port of a server that lives as long as the test. */
async function listening(answer: RequestListener): Promise<string> {
  const server = createServer(answer)
  await new Promise<void>((listens) => server.listen(0, '127.0.0.1', listens))
  opened.push(async () => {
    server.closeAllConnections()
    await new Promise((closed) => server.close(closed))
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const opened: (() => Promise<void>)[] = []

afterEach(async () => {
  await Promise.all(opened.splice(0).map((close) => close()))
})

const json = { 'content-type': 'application/json' }

it.each([
  ['public, max-age=60, stale-while-revalidate=300', undefined],
  ['no-store', 'no-store'],
])('a read that says "%s" says %s to caches', async (sent, passed) => {
  const store = await storeHearing([200, { ...json, 'cache-control': sent }, '[1]'])

  const { status, headers } = await read(store, '/guarded', { offset: '-1' })

  expect([status, headers['cache-control']]).toEqual([200, passed])
})

it.each([
  ['application/json; charset=utf-8', '[]'],
  ['text/plain', ''],
])('a read of %s from now on says "%s"', async (contentType, said) => {
  const store = await storeHearing([200, { 'content-type': contentType, 'stream-up-to-date': 'true' }])

  const { status, headers, text } = await read(store, '/typed', { offset: 'now' })

  expect([status, headers['content-type'], headers['stream-up-to-date'], text]).toEqual([200, contentType, 'true', said])
})

it('a client that has any version is told that nothing has changed', async () => {
  const store = await storeHearing([200, { ...json, etag: '"one"' }, '[1]'])

  const { status, text } = await read(store, '/known', { offset: '-1', ifNoneMatch: '*' })

  expect([status, text]).toEqual([304, ''])
})

it('an SSE connection ends with its life, also when memory is collected meanwhile', async () => {
  const store = await storeHearing([200, { 'content-type': 'text/event-stream' }, null])
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void

  const reading = read(store, '/silent', { offset: 'now', live: 'sse' })
  await eventually(() => hasBegun)
  collect()

  expect((await reading).text).toBe('')
})

it('a read that comes encoded is never passed on as it is', async () => {
  const store = await storeHearing([200, { ...json, 'content-encoding': 'gzip' }, 'no gzip'])

  const answers = await Promise.allSettled([
    read(store, '/encoded', { offset: '-1' }),
    store.readEvents('/encoded' as StreamPath, zeroOffset, 10),
  ])

  for (const answer of answers) expect(answer).toMatchObject(unavailable)
})

const unavailable = { status: 'rejected', reason: { refusal: { code: 'STREAM_SERVICE_UNAVAILABLE' } } }
const refusedAs = (status: number, because: string) => ({ status: 'fulfilled', value: { outcome: 'refused', status, because } })

it.each([
  [413, {}, refusedAs(413, 'size'), refusedAs(413, 'size')],
  [414, {}, unavailable, refusedAs(400, 'body')],
  [403, { 'producer-epoch': '7' }, refusedAs(403, 'producer'), unavailable],
  [401, {}, unavailable, unavailable],
  [403, {}, unavailable, unavailable],
  [405, {}, unavailable, unavailable],
  [415, {}, unavailable, unavailable],
])(
  'a write that is answered %i %j is refused for good only where that is about the request',
  async (status, headers, appended, created) => {
    const store = await storeHearing([status, headers])
    const request = { contentType: 'application/json', body: Buffer.from('[1]') }
    const producer = { id: 'writer', epoch: 0, seq: 0 }

    const verdicts = await Promise.allSettled([
      store.append('/written' as StreamPath, { ...request, producer }),
      store.create('/written' as StreamPath, request),
    ])

    expect(verdicts).toMatchObject([appended, created])
  },
)

it('a body that makes no entry is never taken for one that landed', () => {
  const stored = Buffer.from('[1,2]')

  const found = ['[2]', '{', '[]'].map((body) => holds('application/json', stored, Buffer.from(body)))

  expect(found).toEqual([true, false, false])
})

/** A server that answers everything alike, and what it was asked. */
async function serverSaying(headers: Readonly<Record<string, string>>, body: string) {
  const asked: string[] = []
  const address = await listening((request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.authorization ?? ''}`)
    request.resume().on('end', () => response.writeHead(200, headers).end(body))
  })
  return { address, asked }
}

function storeAt(url: string): StreamStore {
  const store = httpStreamStore({ url, bearer: 'secret', knownConforming: true, minAttempts: 1, holdMs: 0 })
  opened.push(() => store.close())
  return store
}

const path = '/a/b' as StreamPath
const entry = { contentType: 'application/json', body: Buffer.from('[1]') }
const away = { refusal: { code: 'STREAM_SERVICE_UNAVAILABLE' } }

it.each<[string, (store: StreamStore) => Promise<unknown>]>([
  ['HEAD', (store) => store.head(path)],
  ['a create', (store) => store.create(path, entry)],
  ['an append', (store) => store.append(path, entry)],
  ['an append of a producer', (store) => store.append(path, { ...entry, producer: { id: 'p', epoch: 0, seq: 0 } })],
  ['a close', (store) => store.append(path, { ...entry, body: Buffer.alloc(0), close: true })],
  ['a delete', (store) => store.delete(path)],
  ['a read of events', (store) => store.readEvents(path, zeroOffset, 10)],
  ['a read', (store) => read(store, path, { offset: '-1' })],
  ['a live read', (store) => read(store, path, { offset: '-1', live: 'sse' })],
])('a page that says 200 to %s, as a proxy shows it, is no answer of the stream server (X4)', async (_, ask) => {
  const { address } = await serverSaying({ 'content-type': 'text/html' }, '<h1>Back soon</h1>')

  await expect(ask(storeAt(`http://${address}`))).rejects.toMatchObject(away)
})

it('a read that brings nothing, and does not say that there is no more, is not asked again and again', async () => {
  const { address, asked } = await serverSaying({ ...json, 'stream-next-offset': zeroOffset }, '[]')

  await expect(storeAt(`http://${address}`).readEvents(path, zeroOffset, 10)).rejects.toMatchObject(away)
  expect(asked).toHaveLength(1)
})

it.each(['@', '-other/', '/../../', ':1/'])(
  'no path that begins with %s leaves the service, nor takes its bearer along (X5)',
  async (beginning) => {
    const [ours, stranger] = await Promise.all([serverSaying(json, ''), serverSaying(json, '')])
    const store = storeAt(`http://${ours.address}${beginning === '@' || beginning === ':1/' ? '' : '/v1/stream'}`)

    await expect(store.head(`${beginning}${stranger.address}/x` as StreamPath)).rejects.toThrow()
    expect([ours.asked, stranger.asked]).toEqual([[], []])
  },
)
