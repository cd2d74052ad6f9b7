import type { StreamPath } from '../../src/domain/ids.js'
import type { AppendRequest, StreamHead } from '../../src/streams/store.js'
import { isRefused } from '../../src/streams/store.js'
import { read } from './reading.js'
import { freshPath, json, jsonType, type Suite } from './suite.js'

const item = (value: unknown, more: Partial<AppendRequest> = {}): AppendRequest => ({ contentType: jsonType, body: json(value), ...more })
const closing: AppendRequest = { contentType: jsonType, body: Buffer.alloc(0), close: true }
const from = (seq: number, epoch = 0) => ({ producer: { id: 'writer', epoch, seq } })

export function describeAppends({ store, otherStore }: Suite): void {
  const create = async (): Promise<StreamPath> => {
    const path = freshPath<StreamPath>()
    await store().create(path, { contentType: jsonType })
    return path
  }
  const headOf = async (path: StreamPath): Promise<StreamHead> => {
    const verdict = await otherStore().head(path)
    if (isRefused(verdict)) throw new Error(verdict.reason)
    return verdict.head
  }
  const contents = async (path: StreamPath): Promise<unknown> => JSON.parse((await read(otherStore(), path)).text)

  describe('an append', () => {
    it('is readable by every store when its verdict is given, at the offset that it names', async () => {
      const path = await create()

      const first = await store().append(path, item({ n: 1 }))
      const second = await store().append(path, item({ n: 2 }))

      if (isRefused(first) || isRefused(second)) throw new Error('refused')
      expect(second.tail && first.tail && second.tail > first.tail).toBe(true)
      expect(await headOf(path)).toMatchObject({ tail: second.tail })
      expect(JSON.parse((await read(otherStore(), path, { offset: first.tail ?? '' })).text)).toEqual([{ n: 2 }])
    })

    it('flattens an array one level, and refuses an empty one', async () => {
      const path = await create()

      await store().append(path, item([[1, 2], [3]]))

      expect(await store().append(path, item([]))).toMatchObject({ outcome: 'refused', status: 400, because: 'body' })
      expect(await contents(path)).toEqual([[1, 2], [3]])
    })

    it('keeps bytes exactly in a stream that is not JSON', async () => {
      const path = freshPath<StreamPath>()
      await store().create(path, { contentType: 'text/plain' })

      await store().append(path, { contentType: 'text/plain; charset=utf-8', body: Buffer.from('one\r\n') })
      await store().append(path, { contentType: 'text/plain', body: Buffer.from('zwei ü') })

      expect((await read(store(), path)).text).toBe('one\r\nzwei ü')
    })

    it.each([
      ['not JSON', { contentType: jsonType, body: Buffer.from('{') }, 400, 'body'],
      ['of another type', { contentType: 'text/plain', body: Buffer.from('x') }, 409, 'content-type'],
      ['empty', { contentType: jsonType, body: Buffer.alloc(0) }, 400, 'body'],
    ])('that is %s changes nothing', async (_, request, status, because) => {
      const path = await create()
      await store().append(path, item({ n: 1 }, from(0)))
      const before = await headOf(path)

      expect(await store().append(path, { ...request, ...from(1), streamSeq: 'b' })).toMatchObject({ outcome: 'refused', status, because })

      expect(await headOf(path)).toEqual(before)
      expect(await store().append(path, item({ n: 2 }, { ...from(1), streamSeq: 'a' }))).toMatchObject({ outcome: 'appended' })
    })

    it('to a missing stream is refused', async () => {
      expect(await store().append(freshPath(), item(1))).toMatchObject({ outcome: 'refused', status: 404, because: 'missing' })
    })

    it('whose sequence is not above the last one is refused', async () => {
      const path = await create()
      await store().append(path, item(1, { streamSeq: '2' }))

      expect(await store().append(path, item(2, { streamSeq: '10' }))).toMatchObject({
        outcome: 'refused',
        status: 409,
        because: 'sequence',
      })

      expect(await store().append(path, item(3, { streamSeq: 'B' }))).toMatchObject({ outcome: 'appended' })
      expect(await contents(path)).toEqual([1, 3])
    })

    it('keeps its order and is there once when 32 callers append at the same time', async () => {
      const path = await create()

      const verdicts = await Promise.all(Array.from({ length: 32 }, (_, n) => (n % 2 ? store() : otherStore()).append(path, item({ n }))))

      const order = verdicts
        .map((verdict, n) => ({ n, tail: isRefused(verdict) ? '' : (verdict.tail ?? '') }))
        .toSorted((a, b) => (a.tail < b.tail ? -1 : 1))
      expect(new Set(order.map(({ tail }) => tail)).size).toBe(32)
      expect(await contents(path)).toEqual(order.map(({ n }) => ({ n })))
    })
  })

  describe('a producer', () => {
    it('that repeats itself is told so and stores nothing', async () => {
      const path = await create()
      await store().append(path, item('a', from(0)))
      await store().append(path, item('b', from(1)))

      expect(await otherStore().append(path, item('a', from(0)))).toMatchObject({
        outcome: 'duplicate',
        closed: false,
        producer: { epoch: 0, seq: 1 },
      })

      expect(await contents(path)).toEqual(['a', 'b'])
    })

    it('that sends one tuple ten times at once gets one entry', async () => {
      const path = await create()

      const verdicts = await Promise.all(
        Array.from({ length: 10 }, (_, n) => (n % 2 ? store() : otherStore()).append(path, item('once', from(0)))),
      )

      expect(verdicts.map((verdict) => verdict.outcome).toSorted()).toEqual(['appended', ...Array.from({ length: 9 }, () => 'duplicate')])
      expect(await contents(path)).toEqual(['once'])
    })

    it('that leaves a gap is told what was expected', async () => {
      const path = await create()
      await store().append(path, item('a', from(0)))

      expect(await store().append(path, item('c', from(5)))).toMatchObject({
        outcome: 'refused',
        status: 409,
        because: 'producer',
        headers: { 'producer-expected-seq': '1', 'producer-received-seq': '5' },
      })
    })

    it('of a newer epoch fences the older one', async () => {
      const path = await create()
      await store().append(path, item('a', from(0)))

      expect(await store().append(path, item('x', from(1, 2)))).toMatchObject({ outcome: 'refused', status: 400, because: 'producer' })
      expect(await store().append(path, item('b', from(0, 2)))).toMatchObject({ outcome: 'appended' })
      expect(await store().append(path, item('x', from(1)))).toMatchObject({
        outcome: 'refused',
        status: 403,
        headers: { 'producer-epoch': '2' },
      })
    })

    it('gets calming headers with every 409', async () => {
      const path = await create()
      await store().append(path, item(1, { streamSeq: 'b' }))
      const calm = { 'producer-expected-seq': '0', 'producer-received-seq': '0' }

      expect(await store().append(path, item(2, { ...from(0), streamSeq: 'a' }))).toMatchObject({ status: 409, headers: calm })
      await store().append(path, closing)
      expect(await store().append(path, item(2, from(0)))).toMatchObject({ status: 409, because: 'closed', headers: calm })
    })
  })

  describe('a close', () => {
    it('with a last entry lets nothing follow', async () => {
      const path = await create()

      expect(await store().append(path, item('last', { close: true }))).toMatchObject({ outcome: 'appended', closed: true })

      const { tail } = await headOf(path)
      expect(await otherStore().append(path, item('late'))).toMatchObject({
        outcome: 'refused',
        status: 409,
        because: 'closed',
        headers: { 'stream-closed': 'true', 'stream-next-offset': tail },
      })
      expect(await contents(path)).toEqual(['last'])
    })

    it('alone moves no tail, and may be repeated', async () => {
      const path = await create()
      await store().append(path, item(1))
      const { tail } = await headOf(path)

      expect(await store().append(path, closing)).toEqual({ outcome: 'appended', tail, closed: true })
      expect(await otherStore().append(path, closing)).toEqual({ outcome: 'appended', tail, closed: true })
    })

    it('by a producer may be repeated by it alone', async () => {
      const path = await create()

      expect(await store().append(path, { ...closing, ...from(0) })).toMatchObject({ outcome: 'appended', closed: true })

      expect(await store().append(path, { ...closing, ...from(0) })).toMatchObject({ outcome: 'duplicate', closed: true })
      expect(await store().append(path, { ...closing, producer: { id: 'other', epoch: 0, seq: 0 } })).toMatchObject({
        status: 409,
        because: 'closed',
      })
    })

    it('that repeats a producer’s earlier append does not close', async () => {
      const path = await create()
      await store().append(path, item(1, from(0)))

      expect(await store().append(path, { ...closing, ...from(0) })).toMatchObject({ outcome: 'duplicate', closed: false })

      expect(await headOf(path)).toMatchObject({ closed: false })
    })

    it('among 20 concurrent appends has every acknowledged one before it', async () => {
      const path = await create()

      const verdicts = await Promise.all(
        Array.from({ length: 21 }, (_, n) => (n % 2 ? store() : otherStore()).append(path, n === 10 ? closing : item(n))),
      )

      const acknowledged = verdicts.flatMap((verdict, n) => (isRefused(verdict) || n === 10 ? [] : [n]))
      expect((await contents(path)) as number[]).toEqual(expect.arrayContaining(acknowledged))
      expect((await contents(path)) as number[]).toHaveLength(acknowledged.length)
      expect(await headOf(path)).toMatchObject({ closed: true })
    })

    it('of a missing stream is refused', async () => {
      expect(await store().append(freshPath(), closing)).toMatchObject({ outcome: 'refused', status: 404 })
    })
  })
}
