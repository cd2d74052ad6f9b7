import { type StreamPath, zeroOffset } from '../../src/domain/ids.js'
import { eventually } from '../support/eventually.js'
import { read } from './reading.js'
import { freshPath, json, jsonType, type Suite } from './suite.js'

export function describeCreates({ store, otherStore, rule }: Suite): void {
  describe('a create', () => {
    it('makes an empty stream that every store finds at the zero offset', async () => {
      const path = freshPath<StreamPath>()

      expect(await store().create(path, { contentType: jsonType })).toMatchObject({
        outcome: 'created',
        head: { contentType: jsonType, tail: zeroOffset, closed: false },
      })

      expect(await otherStore().head(path)).toMatchObject({ outcome: 'found', head: { tail: zeroOffset, closed: false } })
    })

    it('stores its first entry and its closed flag together', async () => {
      const path = freshPath<StreamPath>()

      const verdict = await store().create(path, { contentType: jsonType, body: json([{ a: 1 }, { a: 2 }]), closed: true })

      expect(verdict).toMatchObject({ outcome: 'created', head: { closed: true } })
      const seen = await read(otherStore(), path)
      expect(JSON.parse(seen.text)).toEqual([{ a: 1 }, { a: 2 }])
      expect(seen.headers).toMatchObject({ 'stream-closed': 'true' })
    })

    it('repeated with the same configuration says that it exists and stores nothing', async () => {
      const path = freshPath<StreamPath>()
      await store().create(path, { contentType: jsonType, body: json([{ first: 1 }]) })

      const again = await store().create(path, { contentType: 'Application/JSON; charset=utf-8', body: json([{ second: 1 }]) })

      expect(again).toMatchObject({ outcome: 'exists' })
      expect(JSON.parse((await read(store(), path)).text)).toEqual([{ first: 1 }])
    })

    it.each([
      ['type', { contentType: 'text/plain' }],
      ['closed flag', { contentType: jsonType, closed: true }],
      ['time to live', { contentType: jsonType, ttlS: 60 }],
      ['absent type', {}],
    ])('with another %s is refused with 409', async (_, other) => {
      const path = freshPath<StreamPath>()
      await store().create(path, { contentType: jsonType })

      expect(await store().create(path, other)).toMatchObject({ outcome: 'refused', status: 409, because: 'exists' })
    })

    it('with a body that is not JSON is refused and leaves no stream behind', async () => {
      const path = freshPath<StreamPath>()

      expect(await store().create(path, { contentType: jsonType, body: Buffer.from('{"a":') })).toMatchObject({
        outcome: 'refused',
        status: 400,
        because: 'body',
      })

      expect(await store().head(path)).toMatchObject({ outcome: 'refused', because: 'missing' })
    })

    it('with an empty array makes an empty stream', async () => {
      const path = freshPath<StreamPath>()

      expect(await store().create(path, { contentType: jsonType, body: json([]) })).toMatchObject({
        outcome: 'created',
        head: { tail: zeroOffset },
      })
    })

    it('of 16 concurrent creators succeeds once, and only the winner’s body is stored', async () => {
      const path = freshPath<StreamPath>()

      const verdicts = await Promise.all(
        Array.from({ length: 16 }, (_, nth) =>
          (nth % 2 ? store() : otherStore()).create(path, { contentType: jsonType, body: json([{ nth }]) }),
        ),
      )

      const winners = verdicts.flatMap((verdict, nth) => (verdict.outcome === 'created' ? [nth] : []))
      expect(winners).toHaveLength(1)
      expect(JSON.parse((await read(store(), path)).text)).toEqual([{ nth: winners[0] }])
    })

    it('echoes its life in the head', async () => {
      const sliding = freshPath<StreamPath>()
      const fixed = freshPath<StreamPath>()
      const expiresAt = new Date(Date.now() + 3_600_000).toISOString()

      await store().create(sliding, { ttlS: 3_600 })
      await store().create(fixed, { expiresAt })

      expect(await store().head(sliding)).toMatchObject({ head: { ttlS: 3_600, contentType: 'application/octet-stream' } })
      expect(await store().head(fixed)).toMatchObject({ head: { expiresAt } })
    })
  })

  describe('a stream with a life', () => {
    it('is missing when its time to live has passed, and its path is free', async () => {
      const path = freshPath<StreamPath>()
      await store().create(path, { contentType: jsonType, ttlS: 1 })

      await eventually(async () => (await store().head(path)).outcome === 'refused', { withinMs: 4_000 })

      expect(await store().create(path, { contentType: 'text/plain' })).toMatchObject({ outcome: 'created' })
    })

    it.each([
      ['a time to live of zero', { ttlS: 0 }],
      ['an expiry in the past', { expiresAt: '2001-01-01T00:00:00Z' }],
    ])('of %s is created and missing from then on', async (_, life) => {
      const path = freshPath<StreamPath>()

      expect(await store().create(path, { contentType: jsonType, ...life })).toMatchObject({ outcome: 'created' })

      expect(await store().head(path)).toMatchObject({ outcome: 'refused', because: 'missing' })
    })

    rule('spec/14 §1.5: offset=now renews the TTL', 'lives on while its tail is asked for', async () => {
      const path = freshPath<StreamPath>()
      await store().create(path, { contentType: jsonType, ttlS: 1 })
      const until = Date.now() + 1_800

      await eventually(
        async () => {
          expect((await read(store(), path, { offset: 'now' })).status).toBe(200)
          return Date.now() > until
        },
        { withinMs: 2_500, everyMs: 200 },
      )
    })
  })

  describe('a delete', () => {
    it('frees the path, and what is made there shows nothing of the old stream', async () => {
      const path = freshPath<StreamPath>()
      const producer = { id: 'p', epoch: 3, seq: 0 }
      await store().create(path, { contentType: jsonType })
      await store().append(path, { contentType: jsonType, body: json({ old: 1 }), producer, streamSeq: 'z' })

      expect(await store().delete(path)).toEqual({ outcome: 'deleted' })
      expect(await otherStore().head(path)).toMatchObject({ outcome: 'refused', status: 404 })
      await store().create(path, { contentType: jsonType })

      expect(
        await store().append(path, {
          contentType: jsonType,
          body: json({ young: 1 }),
          producer: { ...producer, epoch: 0 },
          streamSeq: 'a',
        }),
      ).toMatchObject({ outcome: 'appended' })
      expect(JSON.parse((await read(store(), path)).text)).toEqual([{ young: 1 }])
    })

    it('of a missing stream is refused', async () => {
      expect(await store().delete(freshPath())).toMatchObject({ outcome: 'refused', status: 404, because: 'missing' })
    })
  })
}
