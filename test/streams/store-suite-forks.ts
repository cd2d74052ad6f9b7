import type { Offset, StreamPath } from '../../src/domain/ids.js'
import { isRefused } from '../../src/streams/store.js'
import { eventually } from '../support/eventually.js'
import { read } from './reading.js'
import { freshPath, json, jsonType, type Suite } from './suite.js'

export function describeForks({ store, otherStore, rule }: Suite): void {
  const source = async (
    entries: readonly unknown[],
    life: { readonly ttlS?: number } = {},
  ): Promise<{ readonly path: StreamPath; readonly tails: readonly Offset[] }> => {
    const path = freshPath<StreamPath>('source')
    await store().create(path, { contentType: jsonType, ...life })
    const tails: Offset[] = []
    for (const entry of entries) {
      const verdict = await store().append(path, { contentType: jsonType, body: json(entry) })
      if (!isRefused(verdict) && verdict.tail !== undefined) tails.push(verdict.tail)
    }
    return { path, tails }
  }
  const contents = async (path: StreamPath): Promise<unknown> => JSON.parse((await read(otherStore(), path)).text)

  describe('a fork', () => {
    it('begins as its source was, goes on alone, and may hold a first entry of its own', async () => {
      const { path: from, tails } = await source(['a', 'b', 'c'])
      const path = freshPath<StreamPath>('fork')

      const verdict = await store().create(path, { fork: { from, offset: tails[1] ?? '' }, contentType: jsonType, body: json(['own']) })
      await store().append(from, { contentType: jsonType, body: json('later') })
      await store().append(path, { contentType: jsonType, body: json('more') })

      expect(verdict).toMatchObject({ outcome: 'created', head: { contentType: jsonType } })
      expect(await contents(path)).toEqual(['a', 'b', 'own', 'more'])
      expect(await contents(from)).toEqual(['a', 'b', 'c', 'later'])
    })

    it('without an offset begins at the tail, and repeated says that it exists, also when its source has grown', async () => {
      const { path: from, tails } = await source(['a'])
      const path = freshPath<StreamPath>('fork')

      expect(await store().create(path, { fork: { from } })).toMatchObject({ outcome: 'created', head: { tail: tails[0] } })
      await store().append(from, { contentType: jsonType, body: json('later') })

      expect(await store().create(path, { fork: { from } })).toMatchObject({ outcome: 'exists' })
    })

    it('cuts an entry at a sub-offset', async () => {
      const { path: from, tails } = await source(['a', ['b', 'c', 'd']])
      const path = freshPath<StreamPath>('fork')

      await store().create(path, { fork: { from, offset: tails[0] ?? '', subOffset: 2 } })

      expect(await contents(path)).toEqual(['a', 'b', 'c'])
    })

    it.each([
      ['a missing source', { from: '/suite/nowhere' }, 404],
      ['an offset beyond the source', { offset: '9999999999999999_9999999999999999' }, 400],
      ['a sub-offset beyond the entry', { subOffset: 9 }, 400],
    ])('of %s is refused and leaves no stream behind', async (_, wrong, status) => {
      const { path: from } = await source(['a'])
      const path = freshPath<StreamPath>('fork')

      expect(await store().create(path, { fork: { from, ...wrong } })).toMatchObject({ outcome: 'refused', status, because: 'fork' })

      expect(await store().head(path)).toMatchObject({ outcome: 'refused', because: 'missing' })
    })

    it('of another type is refused', async () => {
      const { path: from } = await source(['a'])

      expect(await store().create(freshPath('fork'), { contentType: 'text/plain', fork: { from } })).toMatchObject({
        outcome: 'refused',
        status: 409,
      })
    })

    it('keeps reading a deleted source, whose path is gone until the fork is deleted', async () => {
      const { path: from } = await source(['a'])
      const path = freshPath<StreamPath>('fork')
      await store().create(path, { fork: { from } })

      expect(await store().delete(from)).toEqual({ outcome: 'deleted' })

      expect(await contents(path)).toEqual(['a'])
      expect(await store().head(from)).toMatchObject({ outcome: 'refused', status: 410, because: 'gone' })
      expect(await store().append(from, { contentType: jsonType, body: Buffer.alloc(0), close: true })).toMatchObject({
        outcome: 'refused',
        status: 410,
      })
      expect(await store().create(from, { contentType: jsonType })).toMatchObject({ outcome: 'refused', status: 409 })
      await store().delete(path)
      await eventually(async () => {
        const verdict = await store().head(from)
        return isRefused(verdict) && verdict.because === 'missing'
      })
    })

    rule(
      'spec/14 §3.4: the path of an expired source with forks is not free',
      'is not touched by a stream made at its expired source’s path',
      async () => {
        const { path: from } = await source(['a'], { ttlS: 1 })
        const path = freshPath<StreamPath>('fork')
        await store().create(path, { fork: { from }, ttlS: 60 })
        await eventually(async () => isRefused(await store().head(from)), { withinMs: 4_000 })

        await store().create(from, { contentType: jsonType, body: json(['foreign']) })

        expect(await contents(path)).toEqual(['a'])
      },
    )
  })
}
