/** Catch-up, conditional and live reads (spec/14 §2.4–2.7). */
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'
import { created, get, head, items, json, newPath, post, put, remove, type SseEvent, sse, text } from './protocol-client.js'

let fresh: FreshDatabase
let app: StreamApp

beforeAll(async () => {
  fresh = await freshDatabase()
  app = await startStreamApp(fresh.url, { longPollTimeoutMs: 1_500, sseKeepAliveMs: 400, sseConnectionMs: 4_000 })
})

afterAll(async () => {
  await app.stop()
  await fresh.drop()
})

const offset = (position: number) => `0000000000000000_${String(position).padStart(16, '0')}`

async function take(events: AsyncGenerator<SseEvent>, count: number): Promise<SseEvent[]> {
  const taken: SseEvent[] = []
  while (taken.length < count) {
    const next = await events.next()
    if (next.done === true) break
    taken.push(next.value)
  }
  return taken
}

const controlOf = (event: SseEvent | undefined) => JSON.parse(event?.data ?? '{}') as Record<string, unknown>

describe('a catch-up read', () => {
  it('returns all of a stream of many chunks in one response, in order, and says up-to-date', async () => {
    const path = await created(app.url, newPath('large'))
    const filler = 'é'.repeat(2_000)
    for (let batch = 0; batch < 20; batch += 1) {
      const appends = Array.from({ length: 500 }, (_, n) =>
        app.streams.append(path as never, {
          contentType: 'application/json',
          body: Buffer.from(JSON.stringify({ n: batch * 500 + n, ...(n % 10 === 0 ? { filler } : {}) })),
        }),
      )
      await Promise.all(appends)
    }

    const response = await get(app.url, path, 'offset=-1')

    const read = (await response.json()) as { n: number }[]
    expect(read.map(({ n }) => n)).toEqual(Array.from({ length: 10_000 }, (_, n) => n))
    expect(response.headers.get('stream-up-to-date')).toBe('true')
    expect(response.headers.get('stream-next-offset')).toBe(offset(10_000))
  })

  it('starts behind the offset that an append answered, which is the offset in its events', async () => {
    const path = await created(app.url, newPath())
    const event = (key: string) => ({ type: 't', key, headers: { operation: 'insert', offset: 'forged', txid: '1' } })
    const first = await post(app.url, path, json, JSON.stringify([event('a'), event('b')]))
    await post(app.url, path, json, JSON.stringify(event('c')))

    const all = (await items(app.url, path)) as { headers: { offset: string } }[]
    const rest = (await (await get(app.url, path, `offset=${first.headers.get('stream-next-offset')}`)).json()) as { key: string }[]

    expect(all.map(({ headers }) => headers.offset)).toEqual([offset(1), offset(1), offset(2)])
    expect(first.headers.get('stream-next-offset')).toBe(offset(1))
    expect(rest.map(({ key }) => key)).toEqual(['c'])
  })

  it('stamps objects with a string operation or control, in place if the member is there, and nothing else', async () => {
    const path = await created(app.url, newPath())
    const plain = [
      { headers: { operation: 1 } },
      { headers: [] },
      { headers: 'operation' },
      [{ headers: { operation: 'x' } }],
      null,
      1,
      'text',
    ]
    await post(
      app.url,
      path,
      json,
      JSON.stringify([{ headers: { offset: 1, control: 'reset' } }, { headers: { operation: 'x' } }, ...plain]),
    )

    const read = await (await get(app.url, path)).text()

    expect(read).toBe(
      `[{"headers":{"offset":"${offset(1)}","control":"reset"}},{"headers":{"operation":"x","offset":"${offset(1)}"}},${JSON.stringify(plain).slice(1)}`,
    )
  })

  it('keeps member order, \\u0000, lone surrogates and prototype keys', async () => {
    const path = await created(app.url, newPath())
    const body = '{"z":1,"a":"\\u0000","lone":"\\ud800","__proto__":{"x":1},"constructor":null,"é":"😀"}'
    await post(app.url, path, json, body)

    expect(await (await get(app.url, path)).text()).toBe(`[${body}]`)
  })

  it.each([
    ['application/json', Buffer.from('[1]')],
    ['application/json', Buffer.from('[]')],
    ['application/vnd.house+json', Buffer.from('{"a":1}')],
    ['text/plain', Buffer.from('é')],
    ['text/plain', Buffer.alloc(20_000, 'x')],
    ['application/octet-stream', Buffer.from([0xff, 0xfe])],
  ])('is answered in the type of its stream, with nothing added: %s', async (type, sent) => {
    const path = await created(app.url, newPath(), { 'content-type': type }, sent)

    const response = await get(app.url, path)

    const bytes = Buffer.from(await response.arrayBuffer())
    expect([response.headers.get('content-type'), bytes.equals(sent)]).toEqual([type, true])
    expect(response.headers.get('content-length')).toBe(String(bytes.length))
  })

  it('of bytes returns exactly what was appended, with 10 MB in one entry', async () => {
    const path = await created(app.url, newPath(), { 'content-type': 'image/png' }, Buffer.from([0, 255, 10, 13]))
    const large = Buffer.alloc(10 * 1024 * 1024, 'abcdefg\u0000')
    const appended = await post(app.url, path, { 'content-type': 'image/png' }, large)

    const read = Buffer.from(await (await get(app.url, path)).arrayBuffer())

    expect(appended.status).toBe(204)
    expect(read.equals(Buffer.concat([Buffer.from([0, 255, 10, 13]), large]))).toBe(true)
  })

  it('answers 304 to the current ETag, and another ETag once the stream was closed', async () => {
    const path = await created(app.url, newPath(), json, '[1]')
    const etag = (await get(app.url, path)).headers.get('etag') ?? ''

    const same = await get(app.url, path, '', { 'if-none-match': `"other", W/${etag}` })
    await post(app.url, path, { 'stream-closed': 'true' })
    const closed = await get(app.url, path, '', { 'if-none-match': etag })

    expect([same.status, same.headers.get('access-control-allow-origin')]).toEqual([304, '*'])
    expect([closed.status, closed.headers.get('stream-closed')]).toEqual([200, 'true'])
  })

  it.each([
    ['offset=', 'Empty offset parameter'],
    ['offset=-1&offset=-1', 'Multiple offset parameters not allowed'],
    ['offset=0_3', 'Invalid offset format'],
    ['live=long-poll', 'Long-poll requires offset parameter'],
    ['live=sse', 'SSE requires offset parameter'],
  ])('refuses %s, but only of a stream that exists', async (query, reason) => {
    const path = await created(app.url, newPath())

    const refused = await get(app.url, path, query)

    expect([refused.status, await refused.text()]).toEqual([400, reason])
    expect(refused.headers.get('access-control-expose-headers')).toBe('*')
    expect((await get(app.url, newPath(), query)).status).toBe(404)
  })

  it('beyond the tail is empty and names the tail', async () => {
    const path = await created(app.url, newPath(), json, '[1]')

    const response = await get(app.url, path, `offset=${offset(500)}&live=long-poll`)

    expect([response.status, await response.text(), response.headers.get('stream-next-offset')]).toEqual([200, '[]', offset(1)])
  })
})

describe('a waiting long-poll', () => {
  it('gets the entry of an append-and-close, then the end (D2)', async () => {
    const path = await created(app.url, newPath(), json, '[1]')
    const waiting = get(app.url, path, `offset=${offset(1)}&live=long-poll`)
    await post(app.url, path, { ...json, 'stream-closed': 'true' }, '{"last":true}')

    const response = await waiting

    expect([response.status, await response.json()]).toEqual([200, [{ last: true }]])
    expect([response.headers.get('stream-closed'), response.headers.get('stream-next-offset')]).toEqual(['true', offset(2)])
  })

  it('ends with 404 when its stream is deleted, with 410 while a fork holds the path', async () => {
    const lonely = await created(app.url, newPath())
    const forked = await created(app.url, newPath())
    await created(app.url, newPath(), { 'stream-forked-from': forked })
    const waiting = [lonely, forked].map(async (path) => (await get(app.url, path, 'offset=now&live=long-poll')).status)
    await Promise.all([remove(app.url, lonely), remove(app.url, forked)])

    expect(await Promise.all(waiting)).toEqual([404, 410])
  })

  it('answers 204 with tail and cursor when nothing comes', async () => {
    const path = await created(app.url, newPath())

    const response = await get(app.url, path, 'offset=now&live=long-poll')

    expect([response.status, response.headers.get('stream-next-offset'), response.headers.get('stream-up-to-date')]).toEqual([
      204,
      offset(0),
      'true',
    ])
    expect(response.headers.get('stream-cursor')).toMatch(/^\d+$/)
    expect(response.headers.get('content-type')).toBeNull()
  })
})

describe('an SSE reader', () => {
  it('gets a control frame after each entry, up-to-date only at the tail', async () => {
    const path = await created(app.url, newPath(), json, '[1]')
    await post(app.url, path, json, '[2,3]')

    const events = await take(sse(app.url, path, 'offset=-1&live=sse'), 4)

    expect(events.map(({ event, data }) => (event === 'data' ? data : controlOf({ event, data }).streamNextOffset))).toEqual([
      '[1]',
      offset(1),
      '[2,3]',
      offset(2),
    ])
    expect([controlOf(events[1]).upToDate, controlOf(events[3]).upToDate]).toEqual([undefined, true])
  })

  it('is told the end as data, then control without cursor, then the end of the response', async () => {
    const path = await created(app.url, newPath())
    const events = sse(app.url, path, 'offset=now&live=sse')
    await take(events, 1)
    await post(app.url, path, { ...json, 'stream-closed': 'true' }, '9')

    expect(await take(events, 10)).toEqual([
      { event: 'data', data: '[9]' },
      { event: 'control', data: JSON.stringify({ streamNextOffset: offset(1), streamClosed: true }) },
    ])
  })

  it('ends when its stream is deleted (D10)', async () => {
    const path = await created(app.url, newPath())
    const events = sse(app.url, path, 'offset=now&live=sse')
    await take(events, 1)
    await remove(app.url, path)

    expect(await take(events, 100)).toEqual([])
  })

  it('gets one keep-alive an interval, and the end of its connection after its life (D10)', async () => {
    const path = await created(app.url, newPath())
    const began = Date.now()

    const events = await take(sse(app.url, path, 'offset=now&live=sse'), 100)

    const livedMs = Date.now() - began
    expect(livedMs).toBeGreaterThanOrEqual(3_900)
    expect(events.length).toBeLessThanOrEqual(1 + 4_000 / 400)
    expect(events.length).toBeGreaterThanOrEqual(4) // a busy machine is late with each of them
  })

  it('gets text with every kind of line break, and characters that are split between entries', async () => {
    const path = await created(app.url, newPath(), text, 'a\r\nb\rc\nd')
    const euro = Buffer.from('€')
    await post(app.url, path, text, euro.subarray(0, 1))
    await post(app.url, path, text, Buffer.concat([euro.subarray(1), Buffer.from('!')]))

    const data = (await take(sse(app.url, path, 'offset=-1&live=sse'), 6))
      .filter(({ event }) => event === 'data')
      .map((event) => event.data)

    expect(data).toEqual(['a\nb\nc\nd', '', '€!'])
  })

  it('resumes inside a character that is split between entries', async () => {
    const path = await created(app.url, newPath(), text, 'costs ')
    for (const byte of Buffer.from('€😀')) await post(app.url, path, text, Buffer.of(byte))
    const given = async (after: number, entries: number) =>
      (await take(sse(app.url, path, `offset=${offset(after)}&live=sse`), entries * 2))
        .filter(({ event }) => event === 'data')
        .map((event) => event.data)

    expect([await given(0, 2), await given(2, 1), await given(3, 1)]).toEqual([['costs ', ''], [''], ['€']])
    expect([await given(4, 3), await given(7, 1)]).toEqual([['', '', ''], ['😀']])
  })

  it('is given the bytes that wait for the rest of their character when the stream is closed without it', async () => {
    const path = await created(app.url, newPath(), text, Buffer.from([0x61, 0xe2, 0x82]))
    const events = sse(app.url, path, 'offset=-1&live=sse')
    const before = await take(events, 2)
    await post(app.url, path, { 'stream-closed': 'true' })

    expect(before.map(({ data }) => data)[0]).toBe('a')
    expect(await take(events, 10)).toEqual([
      { event: 'data', data: '\u{fffd}' },
      { event: 'control', data: JSON.stringify({ streamNextOffset: offset(1), streamClosed: true }) },
    ])
  })

  it('gets text with the spaces that it begins with', async () => {
    const path = await created(app.url, newPath(), text, 'Hello')
    await post(app.url, path, text, ' world')
    await post(app.url, path, text, '  def f():\n   pass')

    const events = await take(sse(app.url, path, 'offset=-1&live=sse'), 6)

    const data = events.filter(({ event }) => event === 'data').map((event) => event.data)
    expect(data).toEqual(['Hello', ' world', '  def f():\n   pass'])
  })

  it('gets bytes as base64, and a header that says so', async () => {
    const path = await created(app.url, newPath(), { 'content-type': 'application/pdf' }, Buffer.from([0, 200, 7]))
    const response = await fetch(`${app.url}${path}?offset=-1&live=sse`)
    await response.body?.cancel()

    const [data] = await take(sse(app.url, path, 'offset=-1&live=sse'), 1)

    expect(response.headers.get('stream-sse-data-encoding')).toBe('base64')
    expect(data?.data).toBe(Buffer.from([0, 200, 7]).toString('base64'))
  })
})

describe('expiry', () => {
  it('of 0 seconds or in the past: created, then missing (D7)', async () => {
    const [zero, past] = [newPath(), newPath()]

    const statuses = [
      (await put(app.url, zero, { ...json, 'stream-ttl': '0' })).status,
      (await put(app.url, past, { ...json, 'stream-expires-at': '2020-01-01T00:00:00Z' })).status,
    ]

    expect(statuses).toEqual([201, 201])
    expect([(await get(app.url, zero)).status, (await get(app.url, past)).status]).toEqual([404, 404])
  })

  it('does not pass while a reader is attached', async () => {
    const path = await created(app.url, newPath(), { ...json, 'stream-ttl': '1' })

    await (await get(app.url, path, 'offset=now&live=long-poll')).text() // 1.5 s

    expect((await head(app.url, path)).status).toBe(200)
  })
})
