import { request } from 'undici'
import { type StreamPath, zeroOffset } from '../../../src/domain/ids.js'
import { httpStreamStore } from '../../../src/streams/http/store.js'
import type { StreamStore } from '../../../src/streams/store.js'
import { type ForeignStreams, startForeignStreams } from '../../support/foreign-streams.js'

const contentType = 'application/json'
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

async function withCallers<Item>(callers: number, items: readonly Item[], task: (item: Item) => Promise<void>): Promise<void> {
  const rest = items[Symbol.iterator]()
  await Promise.all(
    Array.from({ length: callers }, async () => {
      for (const item of rest) await task(item)
    }),
  )
}

async function contents(streams: ForeignStreams, path: string): Promise<unknown> {
  const answer = await request(`${streams.url}${path}?offset=-1`)
  return await answer.body.json()
}

describe('against the reference server, which loses writes under concurrency', () => {
  let streams: ForeignStreams
  const opened: StreamStore[] = []
  const open = (options: { readonly preflight: 'as it is' | 'conforming' }): StreamStore => {
    const store = httpStreamStore({ url: streams.url, ...(options.preflight === 'conforming' && { knownConforming: true }) })
    opened.push(store)
    return store
  }

  beforeAll(async () => {
    streams = await startForeignStreams()
  })
  afterAll(async () => {
    for (const store of opened) await store.close()
    await streams.stop()
  })

  it('every acknowledged create and append of 64 callers on 320 streams is there exactly once, also after a kill', async () => {
    const store = open({ preflight: 'as it is' })
    const paths = Array.from({ length: 320 }, (_, nth) => `/careful/${nth}` as StreamPath)

    await withCallers(64, paths, async (path) => {
      const created = await store.create(path, { contentType, body: json([{ first: path }]) })
      expect(created).toMatchObject({ outcome: 'created' })
    })
    await withCallers(64, [...paths, ...paths], async (path) => {
      const appended = await store.append(path, {
        contentType,
        body: json({ next: path }),
        producer: { id: `${path}${Math.random()}`, epoch: 0, seq: 0 },
      })
      expect(appended).toMatchObject({ outcome: 'appended' })
    })

    const expected = (path: string) => [{ first: path }, { next: path }, { next: path }]
    for (const path of paths) expect(await contents(streams, path)).toEqual(expected(path))
    await streams.restart()
    for (const path of paths) expect(await contents(streams, path)).toEqual(expected(path))
  })

  it('lost first entries are made good before they are acknowledged (D1, D1a)', async () => {
    const store = open({ preflight: 'conforming' })
    const paths = Array.from({ length: 400 }, (_, nth) => `/lossy-creates/${nth}` as StreamPath)

    await withCallers(64, paths, async (path) => {
      const created = await store.create(path, { contentType, body: json([{ first: path }]) })
      expect(created).toMatchObject({ outcome: 'created' })
    })

    for (const path of paths) expect(await contents(streams, path)).toEqual([{ first: path }])
    await streams.restart()
    for (const path of paths) expect(await contents(streams, path)).toEqual([{ first: path }])
  })

  it('lost appends are reported, never acknowledged and never stored twice by their repetition (D1b)', async () => {
    const store = open({ preflight: 'conforming' })
    const paths = Array.from({ length: 400 }, (_, nth) => `/lossy-appends/${nth}` as StreamPath)
    await withCallers(1, paths, async (path) => {
      await store.create(path, { contentType, body: json([{ first: path }]) })
    })
    const acknowledged = new Set<string>()
    const append = async (path: StreamPath) => {
      try {
        const verdict = await store.append(path, { contentType, body: json({ next: path }), producer: { id: path, epoch: 0, seq: 0 } })
        if (verdict.outcome !== 'refused') acknowledged.add(path)
      } catch (failure) {
        expect(failure).toMatchObject({ refusal: { code: 'STREAM_SERVICE_UNAVAILABLE' } })
      }
    }

    await withCallers(64, paths, append)
    const reported = paths.filter((path) => !acknowledged.has(path))
    await withCallers(8, reported, append)
    const acknowledgedBeforeRestart = acknowledged.size
    await streams.restart()
    await withCallers(8, reported, append)

    console.log(
      `D1b: ${reported.length} of ${paths.length} appends reported; ${paths.length - acknowledgedBeforeRestart} still open before the restart, ${paths.length - acknowledged.size} after`,
    )
    expect(acknowledged.size).toBe(paths.length)
    for (const path of paths) expect(await contents(streams, path)).toEqual([{ first: path }, { next: path }])
  })

  it('a lost first append to an empty stream is made good', async () => {
    const store = open({ preflight: 'conforming' })
    const paths = Array.from({ length: 400 }, (_, nth) => `/lossy-firsts/${nth}` as StreamPath)
    await withCallers(64, paths, async (path) => {
      expect(await store.create(path, { contentType })).toMatchObject({ outcome: 'created' })
    })

    await withCallers(64, paths, async (path) => {
      const verdict = await store.append(path, { contentType, body: json({ next: path }), producer: { id: path, epoch: 0, seq: 0 } })
      expect(verdict).toEqual(expect.objectContaining({ outcome: 'appended' }))
    })

    for (const path of paths) expect(await contents(streams, path)).toEqual([{ next: path }])
  })

  it('an invalid first entry leaves no stream behind (D4)', async () => {
    const store = open({ preflight: 'as it is' })
    const path = '/invalid' as StreamPath

    expect(await store.create(path, { contentType, body: Buffer.from('{') })).toMatchObject({ outcome: 'refused', status: 400 })

    expect(await store.head(path)).toMatchObject({ outcome: 'refused', because: 'missing' })
  })

  it('an invalid first entry of a fork leaves no fork behind, whether or not it names its type (D4)', async () => {
    const store = open({ preflight: 'as it is' })
    await store.create('/source' as StreamPath, { contentType, body: json([1]) })

    for (const [path, typed] of [['/fork', {}] as const, ['/typed-fork', { contentType }] as const]) {
      const fork = { ...typed, fork: { from: '/source' }, body: Buffer.from('{') }
      expect(await store.create(path as StreamPath, fork)).toMatchObject({ outcome: 'refused', status: 400, because: 'body' })
      expect(await store.head(path as StreamPath)).toMatchObject({ outcome: 'refused', because: 'missing' })
    }
  })

  it('an entry that is no UTF-8 is refused, and changes nothing', async () => {
    const store = open({ preflight: 'as it is' })
    const path = '/no-utf8' as StreamPath
    await store.create(path, { contentType, body: json([1]) })

    const verdict = await store.append(path, { contentType, body: Buffer.from([0x22, 0xff, 0x22]) })

    expect(verdict).toMatchObject({ outcome: 'refused', status: 400, reason: 'Invalid JSON' })
    expect(await contents(streams, path)).toEqual([1])
  })

  it('a path that no server holds is refused, not tried again', async () => {
    const store = open({ preflight: 'as it is' })

    expect(await store.create(`/${'x'.repeat(3_000)}` as StreamPath, { contentType })).toMatchObject({ outcome: 'refused', status: 400 })
  })

  it('a repeated creation finds its own first entry, a stranger’s does not', async () => {
    const store = open({ preflight: 'as it is' })
    const path = '/repeated' as StreamPath
    const creation = { contentType, body: json([{ headers: { operation: 'insert' }, mine: 1 }]), operation: 'spawn-1' }
    await store.create(path, creation)

    expect(await store.create(path, creation)).toMatchObject({ outcome: 'created' })
    expect(await store.create(path, { ...creation, body: json([{ other: 1 }]) })).toMatchObject({ outcome: 'exists' })
  })

  it('a creation that an earlier attempt left empty is completed by its repetition', async () => {
    const store = open({ preflight: 'as it is' })
    const path = '/left-empty' as StreamPath
    await store.create(path, { contentType })

    const again = await store.create(path, { contentType, body: json([{ first: 1 }]), operation: 'spawn-2' })

    expect(again).toMatchObject({ outcome: 'created' })
    expect(await contents(streams, path)).toEqual([{ first: 1 }])
    expect(again).not.toMatchObject({ head: { tail: zeroOffset } })
  })
})
