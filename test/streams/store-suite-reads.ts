import { type Offset, type StreamPath, zeroOffset } from '../../src/domain/ids.js'
import type { StoredEvents } from '../../src/streams/store.js'
import { isRefused } from '../../src/streams/store.js'
import { controlsIn, read, readSse } from './reading.js'
import { freshPath, json, jsonType, type Suite } from './suite.js'

const event = (n: number) => ({ type: 'note', key: String(n), value: { n }, headers: { operation: 'insert' } })

export function describeReads({ store, otherStore, rule }: Suite): void {
  const create = async (...entries: readonly unknown[]): Promise<StreamPath> => {
    const path = freshPath<StreamPath>()
    await store().create(path, { contentType: jsonType })
    for (const entry of entries) await append(path, entry)
    return path
  }
  const append = async (path: StreamPath, entry: unknown, close = false): Promise<Offset> => {
    const verdict = await store().append(path, { contentType: jsonType, body: json(entry), close })
    if (isRefused(verdict) || verdict.tail === undefined) throw new Error('not appended')
    return verdict.tail
  }
  const close = async (path: StreamPath): Promise<void> => {
    await store().append(path, { contentType: jsonType, body: Buffer.alloc(0), close: true })
  }

  describe('a catch-up read', () => {
    it('returns all items up to the tail and says so', async () => {
      const path = await create({ n: 1 }, [{ n: 2 }, { n: 3 }])

      const seen = await read(otherStore(), path, { offset: '-1' })

      expect(seen).toMatchObject({ status: 200, headers: { 'content-type': jsonType, 'stream-up-to-date': 'true' } })
      expect(JSON.parse(seen.text)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }])
      expect(seen.headers['stream-closed']).toBeUndefined()
    })

    it('from the tail of a closed stream is empty and says both', async () => {
      const path = await create()
      const tail = await append(path, 1, true)

      const seen = await read(store(), path, { offset: tail })

      expect(seen).toMatchObject({
        status: 200,
        text: '[]',
        headers: { 'stream-up-to-date': 'true', 'stream-closed': 'true', 'stream-next-offset': tail },
      })
    })

    it('of now is empty, at the tail, and never stored by caches', async () => {
      const path = await create()
      const tail = await append(path, 1)

      const seen = await read(store(), path, { offset: 'now' })

      expect(seen).toMatchObject({ status: 200, text: '[]', headers: { 'stream-next-offset': tail, 'cache-control': 'no-store' } })
      expect(seen.headers.etag).toBeUndefined()
    })

    it('is answered with 304 for the tag it gave, until something changes', async () => {
      const path = await create(1)
      const { headers } = await read(store(), path)
      const ifNoneMatch = headers.etag ?? 'no tag'

      expect(await read(store(), path, { ifNoneMatch })).toMatchObject({ status: 304, text: '', headers: { etag: ifNoneMatch } })
      await close(path)
      expect((await read(store(), path, { ifNoneMatch })).status).toBe(200)
    })

    it('puts the offset of its entry on every item with an operation, and on no other', async () => {
      const path = await create()
      const first = await append(path, [event(1), { headers: {}, plain: true }])

      expect(JSON.parse((await read(store(), path)).text)).toEqual([
        { ...event(1), headers: { operation: 'insert', offset: first } },
        { headers: {}, plain: true },
      ])
    })

    it.each([
      ['an empty offset', { offset: '' }],
      ['an offset of another form', { offset: 'tail' }],
      ['two offsets', { offset: '-1', offsetsGiven: 2 }],
      ['a long-poll without offset', { live: 'long-poll' }],
      ['an SSE read without offset', { live: 'sse' }],
    ])('with %s is refused with 400', async (_, query) => {
      expect((await read(store(), await create(), query)).status).toBe(400)
    })

    it('of a missing stream is refused with 404 before its parameters are looked at', async () => {
      expect((await read(store(), freshPath(), { offset: '' })).status).toBe(404)
    })

    it('shows no header of a server behind it', async () => {
      const seen = await read(store(), await create('x'.repeat(5_000)))

      for (const name of [
        'access-control-allow-origin',
        'content-encoding',
        'content-length',
        'transfer-encoding',
        'connection',
        'location',
        'date',
      ])
        expect(seen.headers[name]).toBeUndefined()
    })

    it('hands a large stream over chunk by chunk', async () => {
      const path = await create()
      for (let n = 0; n < 8; n += 1) await append(path, 'x'.repeat(1_000_000))
      const { body } = await store().serveRead({ path, query: { offset: '-1' }, offsetsGiven: 1, signal: new AbortController().signal })
      if (body === null || Buffer.isBuffer(body)) throw new Error('not streamed')

      let largest = 0
      let total = 0
      for await (const chunk of body) {
        largest = Math.max(largest, chunk.length)
        total += chunk.length
      }

      expect(total).toBeGreaterThan(8_000_000)
      expect(largest).toBeLessThan(4_500_000)
    })
  })

  describe('a long-poll', () => {
    it('at the tail waits for the next append, whichever store takes it', async () => {
      const path = await create(1)
      const tail = (await read(store(), path)).headers['stream-next-offset'] ?? ''
      const waiting = read(otherStore(), path, { offset: tail, live: 'long-poll' })

      const next = await append(path, 2)

      const seen = await waiting
      expect(seen).toMatchObject({ status: 200, headers: { 'stream-next-offset': next, 'stream-up-to-date': 'true' } })
      expect(JSON.parse(seen.text)).toEqual([2])
      expect(Number(seen.headers['stream-cursor'])).toBeGreaterThan(0)
    })

    it('that hears nothing ends with 204 at the tail', async () => {
      const path = await create()
      const tail = await append(path, 1)

      const seen = await read(store(), path, { offset: 'now', live: 'long-poll' })

      expect(seen).toMatchObject({ status: 204, text: '', headers: { 'stream-next-offset': tail, 'stream-up-to-date': 'true' } })
    })

    it('of a closed stream ends at once', async () => {
      const path = await create()
      const tail = await append(path, 1, true)

      expect(await read(store(), path, { offset: tail, live: 'long-poll' })).toMatchObject({
        status: 204,
        headers: { 'stream-closed': 'true' },
      })
    })

    it('gets the last entry of an append that closes', async () => {
      const path = await create(1)
      const tail = (await read(store(), path)).headers['stream-next-offset'] ?? ''
      const waiting = read(otherStore(), path, { offset: tail, live: 'long-poll' })
      const alsoWaiting = read(store(), path, { offset: tail, live: 'long-poll' })

      await append(path, 'last', true)

      for (const seen of [await waiting, await alsoWaiting]) {
        expect(seen).toMatchObject({ status: 200, headers: { 'stream-closed': 'true' } })
        expect(JSON.parse(seen.text)).toEqual(['last'])
      }
    })
  })

  describe('an SSE read', () => {
    it('delivers what is there, then what comes, then the end', async () => {
      const path = await create(event(1))
      const following = readSse(otherStore(), path, '-1', () => false)

      await append(path, event(2))
      const tail = await append(path, event(3), true)

      const { headers, frames, ended } = await following
      expect(headers).toMatchObject({ 'content-type': 'text/event-stream' })
      const items = frames.filter((frame) => frame.event === 'data').flatMap((frame) => JSON.parse(frame.data) as { key: string }[])
      expect(items.map((item) => item.key)).toEqual(['1', '2', '3'])
      expect(controlsIn(frames).at(-1)).toMatchObject({ streamNextOffset: tail, streamClosed: true })
      expect(ended).toBe(true)
    })

    it('of a silent stream says at once that it is up to date', async () => {
      const { frames } = await readSse(store(), await create(), '-1', (seen) => seen.length > 0)

      expect(controlsIn(frames)).toEqual([expect.objectContaining({ streamNextOffset: zeroOffset, upToDate: true })])
    })

    it('carries bytes as base64 and says so', async () => {
      const path = freshPath<StreamPath>()
      await store().create(path, { contentType: 'application/octet-stream', body: Buffer.from([0, 255, 10]), closed: true })

      const { headers, frames } = await readSse(store(), path, '-1', () => false)

      expect(headers).toMatchObject({ 'stream-sse-data-encoding': 'base64' })
      expect(frames[0]).toEqual({ event: 'data', data: Buffer.from([0, 255, 10]).toString('base64') })
    })

    rule('spec/14 §2.7: a control frame follows every data frame', 'has a control frame after every entry', async () => {
      const path = await create(1, 2, 3)

      const { frames } = await readSse(store(), path, '-1', (seen) => controlsIn(seen).some((control) => control.upToDate === true))

      expect(frames.map((frame) => frame.event)).toEqual(['data', 'control', 'data', 'control', 'data', 'control'])
    })

    rule('spec/14 §2.7: deleting a stream ends its SSE readers', 'ends when the stream is deleted', async () => {
      const path = await create(1)
      let deleting: Promise<unknown> | undefined

      const { ended } = await readSse(store(), path, '-1', (seen) => {
        if (seen.length > 0) deleting ??= store().delete(path)
        return false
      })

      await deleting
      expect(ended).toBe(true)
    })
  })

  describe('reading events', () => {
    const eventsOf = async (path: StreamPath, after: Offset, limit: number): Promise<StoredEvents> => {
      const batch = await otherStore().readEvents(path, after, limit)
      if (isRefused(batch as { outcome: string })) throw new Error('refused')
      return batch as StoredEvents
    }

    it('names the entry of each item and where to go on', async () => {
      const path = await create()
      const first = await append(path, [event(1), event(2)])
      const second = await append(path, event(3))

      const { events, next, upToDate, closed } = await eventsOf(path, zeroOffset, 100)

      expect(events.map(({ entry, item }) => [entry, (item as { key: string }).key])).toEqual([
        [first, '1'],
        [first, '2'],
        [second, '3'],
      ])
      expect({ next, upToDate, closed }).toEqual({ next: second, upToDate: true, closed: false })
    })

    it('in small batches sees every item once, in order', async () => {
      const path = await create()
      for (let n = 0; n < 10; n += 1) await append(path, event(n))
      await close(path)

      const keys: string[] = []
      let position: Offset = zeroOffset
      for (let batches = 0; batches < 20; batches += 1) {
        const batch = await eventsOf(path, position, 3)
        keys.push(...batch.events.map(({ item }) => (item as { key: string }).key))
        position = batch.next
        if (batch.upToDate && batch.closed) break
      }

      expect(keys).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
    })

    it('keeps strings with brackets, quotes, escapes and lone surrogates whole', async () => {
      const value = { text: '],["{\\"', nul: '\u0000', lone: '\ud800', nested: [[], [{}]] }
      const path = await create([value, value])

      expect((await eventsOf(path, zeroOffset, 10)).events.map(({ item }) => item)).toEqual([value, value])
    })

    it('of a missing stream is refused', async () => {
      expect(await store().readEvents(freshPath(), zeroOffset, 10)).toMatchObject({ outcome: 'refused', status: 404 })
    })
  })
}
