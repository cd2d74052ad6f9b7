/** Every row of the table of stream forks (spec/04 §15, spec/14 §3.1), with status, text and what stands afterwards. */
import { eventually } from '../../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'
import { created, get, type Headers, head, items, json, newPath, post, put, remove, text } from './protocol-client.js'

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
const from = (source: string, cut: Headers = {}): Headers => ({ 'stream-forked-from': source, ...cut })
const at = (place: number, sub?: number | string): Headers => ({
  'stream-fork-offset': offset(place),
  ...(sub === undefined ? {} : { 'stream-fork-sub-offset': String(sub) }),
})

/** Two entries, of one item and of three. */
async function sourceStream(headers: Headers = {}): Promise<string> {
  const source = await created(app.url, newPath('source'), { ...json, ...headers }, '["a"]')
  expect((await post(app.url, source, json, '["b","c","d"]')).status).toBe(204)
  return source
}

describe('a stream is made as a fork', () => {
  it.each([
    ['at the tail, where no offset is given', {}, ['a', 'b', 'c', 'd'], 2],
    ['at an offset', at(1), ['a'], 1],
    ['at the start', at(0), [], 0],
    ['at the start and into the first entry', at(0, 1), ['a'], 1],
    ['inside of an entry', at(1, 2), ['a', 'b', 'c'], 2],
    ['at all items of an entry', at(1, 3), ['a', 'b', 'c', 'd'], 2],
    ['with a sub-offset of none', at(1, 0), ['a'], 1],
  ])('%s: 201 with its place and its tail', async (_, cut, contents, tail) => {
    const source = await sourceStream()
    const path = newPath('fork')

    const made = await put(app.url, path, from(source, cut))

    expect([made.status, made.headers.get('location')?.endsWith(path)]).toEqual([201, true])
    expect(made.headers.get('stream-next-offset')).toBe(offset(tail))
    expect(made.headers.get('content-type')).toMatch(/^application\/json/) // inherited
    expect(await items(app.url, path)).toEqual(contents)
    expect((await post(app.url, path, json, '"own"')).headers.get('stream-next-offset')).toBe(offset(tail + 1)) // numbers go on
    expect(await items(app.url, source)).toEqual(['a', 'b', 'c', 'd'])
  })

  it('of bytes, whose sub-offsets count bytes', async () => {
    const source = await created(app.url, newPath('source'), text, 'hello')
    const path = await created(app.url, newPath('fork'), from(source, at(0, 3)))

    const response = await get(app.url, path)

    expect([await response.text(), response.headers.get('content-type')]).toEqual(['hel', 'text/plain'])
  })

  it('again with the same configuration: 200', async () => {
    const [source, path] = [await sourceStream(), newPath('fork')]
    await created(app.url, path, from(source, at(1, 2)))

    expect((await put(app.url, path, from(source, at(1, 2)))).status).toBe(200)
    expect(await items(app.url, path)).toEqual(['a', 'b', 'c'])
  })

  it('open, although its source is closed; without its producers and its sequence', async () => {
    const source = await sourceStream()
    const producer = { 'producer-id': 'p', 'producer-epoch': '3', 'producer-seq': '0', 'stream-seq': '9', 'stream-closed': 'true' }
    expect((await post(app.url, source, { ...json, ...producer }, '"last"')).ok).toBe(true)
    const path = await created(app.url, newPath('fork'), from(source))

    expect((await head(app.url, path)).headers.get('stream-closed')).toBeNull()
    const first = { ...json, 'producer-id': 'p', 'producer-epoch': '0', 'producer-seq': '0', 'stream-seq': '1' }
    expect((await post(app.url, path, first, '"own"')).ok).toBe(true)
    expect(await items(app.url, path)).toEqual(['a', 'b', 'c', 'd', 'last', 'own'])
  })

  it('whose reader does not hear of what its source gets', async () => {
    const source = await sourceStream()
    const path = await created(app.url, newPath('fork'), from(source))
    const waiting = get(app.url, path, `offset=${offset(2)}&live=long-poll`)

    expect((await post(app.url, source, json, '"theirs"')).status).toBe(204)
    expect((await post(app.url, path, json, '"own"')).status).toBe(204)

    expect(await (await waiting).json()).toEqual(['own'])
  })
})

describe('a fork of a stream is refused, and makes none', () => {
  it.each<[string, Headers, number, string]>([
    ['a malformed offset', { 'stream-fork-offset': '12' }, 400, 'Invalid Stream-Fork-Offset format'],
    ['an empty offset', { 'stream-fork-offset': '' }, 400, 'Invalid Stream-Fork-Offset format'],
    ['an offset beyond the tail', at(3), 400, 'Fork offset beyond source stream length'],
    ['a malformed sub-offset', at(1, '01'), 400, 'Invalid Stream-Fork-Sub-Offset format'],
    ['a signed sub-offset', at(1, '+1'), 400, 'Invalid Stream-Fork-Sub-Offset format'],
    ['a broken sub-offset', at(1, '1.5'), 400, 'Invalid Stream-Fork-Sub-Offset format'],
    ['an empty sub-offset', at(1, ''), 400, 'Invalid Stream-Fork-Sub-Offset format'],
    ['a sub-offset beyond the entry', at(1, 4), 400, 'Invalid fork sub-offset'],
    ['a huge sub-offset', at(1, Number.MAX_SAFE_INTEGER), 400, 'Invalid fork sub-offset'],
    ['a sub-offset that no number holds', at(1, '9'.repeat(40)), 400, 'Invalid Stream-Fork-Sub-Offset format'],
    ['a sub-offset with nothing behind', at(2, 1), 400, 'Invalid fork sub-offset'],
    ['a sub-offset without an offset', { 'stream-fork-sub-offset': '1' }, 400, 'Invalid fork sub-offset'],
    ['another type', { 'content-type': 'text/plain' }, 409, 'Content type mismatch with source stream'],
  ])('%s', async (_, wrong, status, reason) => {
    const [source, path] = [await sourceStream(), newPath('fork')]

    const refused = await put(app.url, path, from(source, wrong))

    expect([refused.status, await refused.text()]).toEqual([status, reason])
    expect((await head(app.url, path)).status).toBe(404)
    expect((await remove(app.url, source)).status).toBe(204)
    expect((await head(app.url, source)).status).toBe(404) // no reference was taken
  })

  it('a sub-offset without a source', async () => {
    const refused = await put(app.url, newPath('fork'), { ...json, 'stream-fork-sub-offset': '0' })

    expect([refused.status, await refused.text()]).toEqual([400, 'Stream-Fork-Sub-Offset requires Stream-Forked-From'])
  })

  it('a source that is missing, or has expired', async () => {
    const expired = await created(app.url, newPath('source'), { ...json, 'stream-expires-at': new Date(Date.now() - 1_000).toISOString() })

    for (const source of [newPath('none'), expired]) {
      const refused = await put(app.url, newPath('fork'), from(source))
      expect([refused.status, await refused.text()]).toEqual([404, 'Source stream not found'])
    }
  })

  it('a source that was deleted while others hold it; which nobody reads, writes or makes anew until they are gone', async () => {
    const source = await sourceStream()
    const fork = await created(app.url, newPath('fork'), from(source))
    expect((await remove(app.url, source)).status).toBe(204)

    const refused = await put(app.url, newPath('fork'), from(source))
    expect([refused.status, await refused.text()]).toEqual([409, 'source stream was deleted but still has active forks'])
    const asked = [
      await get(app.url, source),
      await head(app.url, source),
      await post(app.url, source, json, '1'),
      await remove(app.url, source),
    ]
    expect(asked.map(({ status }) => status)).toEqual([410, 410, 410, 410])
    const again = await put(app.url, source, json)
    expect([again.status, await again.text()]).toEqual([
      409,
      'stream was deleted but still has active forks — path cannot be reused until all forks are removed',
    ])
    expect(await items(app.url, fork)).toEqual(['a', 'b', 'c', 'd'])
    await remove(app.url, fork)
    await eventually(async () => (await head(app.url, source)).status === 404)
    await created(app.url, source)
  })

  it.each<[string, Headers]>([
    ['another source', {}],
    ['another offset', at(0)],
    ['another sub-offset', at(1, 1)],
    ['another type', { ...at(1, 2), ...text }],
    ['another lifetime', { ...at(1, 2), 'stream-ttl': '77' }],
    ['another end', { ...at(1, 2), 'stream-closed': 'true' }],
  ])('a path where a stream with another configuration stands: %s', async (what, configuration) => {
    const [source, path] = [await sourceStream(), newPath('fork')]
    await created(app.url, path, from(source, at(1, 2)))
    const other = what === 'another source' ? from(await sourceStream(), at(1, 2)) : from(source, configuration)

    const refused = await put(app.url, path, other)

    expect([refused.status, await items(app.url, path)]).toEqual([409, ['a', 'b', 'c']])
    if (what !== 'another type') expect(await refused.text()).toBe('Stream already exists with different configuration')
  })
})
