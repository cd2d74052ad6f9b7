/** The defects of the original stream server (spec/14 §5), each with the promise that holds here. D2, D7–D10 stand beside the reads and rules. */
import { eventually } from '../../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'
import { created, get, head, items, json, newPath, post, put, remove } from './protocol-client.js'

let fresh: FreshDatabase
let app: StreamApp

beforeAll(async () => {
  fresh = await freshDatabase()
  app = await startStreamApp(fresh.url)
})

afterAll(async () => {
  await app.stop()
  await fresh.drop()
})

const offset = (position: number) => `0000000000000000_${String(position).padStart(16, '0')}`

async function inParallel<Result>(callers: number, count: number, work: (index: number) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = []
  let next = 0
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (next < count) {
        const index = next++
        results[index] = await work(index)
      }
    }),
  )
  return results
}

describe('a stream', () => {
  it('keeps its first body, of 1,000 created by 64 callers, none fails or is empty (D1)', async () => {
    const paths = Array.from({ length: 1_000 }, () => newPath('d1'))

    const statuses = await inParallel(
      64,
      paths.length,
      async (index) => (await put(app.url, paths[index] ?? '', json, JSON.stringify({ index }))).status,
    )
    const contents = await inParallel(16, paths.length, async (index) => JSON.stringify(await items(app.url, paths[index] ?? '')))

    expect(new Set(statuses)).toEqual(new Set([201]))
    expect(contents).toEqual(paths.map((_, index) => JSON.stringify([{ index }])))
  })

  it('answers the same tail to an append, a HEAD and a GET, however many append (D1b, D1c)', async () => {
    const path = await created(app.url, newPath())

    const offsets = await inParallel(32, 320, async (index) =>
      (await post(app.url, path, json, String(index))).headers.get('stream-next-offset'),
    )

    const tail = offsets.toSorted().at(-1)
    expect((await head(app.url, path)).headers.get('stream-next-offset')).toBe(tail)
    expect((await get(app.url, path)).headers.get('stream-next-offset')).toBe(tail)
    expect(await items(app.url, path)).toHaveLength(320)
  })

  it('stays closed, and its forks stay referenced, while appends are in flight (D3)', async () => {
    const path = await created(app.url, newPath(), json, '[0]')
    const fork = newPath('fork')

    const appends = inParallel(16, 64, async (index) => (await post(app.url, path, json, String(index))).status)
    const [forked, closed] = await Promise.all([
      put(app.url, fork, { 'stream-forked-from': path }),
      post(app.url, path, { 'stream-closed': 'true' }),
    ])
    await appends
    const later = await post(app.url, path, json, '1')
    await remove(app.url, path)

    expect([forked.status, closed.status, later.status]).toEqual([201, 204, 409])
    expect((await get(app.url, path)).status).toBe(410)
    expect((await get(app.url, fork)).status).toBe(200)
  })

  it('answers every append that meets a delete, and is free again at once (D3a)', async () => {
    const path = await created(app.url, newPath())

    const appends = inParallel(16, 64, async (index) => (await post(app.url, path, json, String(index))).status)
    await remove(app.url, path)
    const again = await put(app.url, path, json, '["new"]')
    const statuses = await appends

    expect(again.status).toBe(201)
    expect(statuses.filter((status) => status !== 204 && status !== 404)).toEqual([])
    expect(((await items(app.url, path)) as unknown[])[0]).toBe('new')
  })

  it.each([{}, { fork: true }])('does not exist after a create with invalid JSON (D4) %o', async ({ fork = false }) => {
    const path = newPath()
    const source = await created(app.url, newPath(), json, '[1]')

    const refused = await put(app.url, path, { ...json, ...(fork ? { 'stream-forked-from': source } : {}) }, '{"a":')

    expect([refused.status, (await head(app.url, path)).status]).toEqual([400, 404])
    await remove(app.url, source)
    expect((await head(app.url, source)).status).toBe(404) // no reference was taken
  })

  it('that was appended to with invalid UTF-8 is unchanged', async () => {
    const path = await created(app.url, newPath())

    const refused = await post(app.url, path, json, Buffer.from([0x22, 0xff, 0x22]))

    expect([refused.status, await items(app.url, path)]).toEqual([400, []])
  })
})

describe('a fork', () => {
  it.each(['/q/..', '?x=1', '#x', '//'])('has a source by its plain path only, not by one with %s', async (odd) => {
    const source = await created(app.url, newPath())
    const spelled = odd.startsWith('/') ? `${odd}${source}` : `${source}${odd}`

    const refused = await Promise.all([spelled, source.slice(1)].map((from) => put(app.url, newPath(), { 'stream-forked-from': from })))

    for (const answer of refused) expect([answer.status, await answer.text()]).toEqual([404, 'Source stream not found'])
  })

  it('never reads another stream at the path of its expired source: the path stays taken (D5)', async () => {
    const source = await created(app.url, newPath(), { ...json, 'stream-expires-at': new Date(Date.now() + 400).toISOString() }, '["mine"]')
    const fork = await created(app.url, newPath(), { 'stream-forked-from': source, 'stream-ttl': '600' })
    await eventually(async () => (await head(app.url, source)).status === 410)

    const again = await put(app.url, source, json, '["foreign"]')

    expect([again.status, await items(app.url, fork)]).toEqual([409, ['mine']])
  })

  it.each([
    ['as it was', {}, async () => undefined],
    ['with its type', json, async () => undefined],
    ['after the source grew', {}, async (source: string) => await post(app.url, source, json, '5')],
    ['after the source was deleted', {}, async (source: string) => await remove(app.url, source)],
  ])('can be requested again %s (D6)', async (_case, headers, meanwhile) => {
    const source = await created(app.url, newPath(), { ...json, 'stream-ttl': '900' }, '[1]')
    const path = await created(app.url, newPath(), { ...headers, 'stream-forked-from': source })
    await meanwhile(source)

    const again = await put(app.url, path, { ...headers, 'stream-forked-from': source })

    expect([again.status, again.headers.get('stream-next-offset')]).toEqual([200, offset(1)])
    expect((await put(app.url, path, json)).status).toBe(409)
  })

  it('and its type parameters are no conflict for a repeated create (D6)', async () => {
    const path = await created(app.url, newPath())

    expect((await put(app.url, path, { 'content-type': 'application/json; charset=utf-8' })).status).toBe(200)
  })

  it('cut inside an entry shows that part with an offset of its own, inherited items keep theirs', async () => {
    const event = (key: string) => ({ key, headers: { operation: 'insert' } })
    const source = await created(app.url, newPath(), json, JSON.stringify([event('a')]))
    await post(app.url, source, json, JSON.stringify([event('b'), event('c'), event('d')]))
    const fork = await created(
      app.url,
      newPath(),
      { ...json, 'stream-forked-from': source, 'stream-fork-offset': offset(1), 'stream-fork-sub-offset': '2' },
      JSON.stringify(event('own')),
    )

    const read = (await items(app.url, fork)) as { key: string; headers: { offset: string } }[]

    expect(read.map(({ key, headers }) => [key, headers.offset])).toEqual([
      ['a', offset(1)],
      ['b', offset(2)],
      ['c', offset(2)],
      ['own', offset(3)],
    ])
  })
})
