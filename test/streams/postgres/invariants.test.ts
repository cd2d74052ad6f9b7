/** The invariants of spec/14 §6.3, with two stores (each with its own pool, listener and server) on one database. */
import type { StreamPath } from '../../../src/domain/ids.js'
import { eventually } from '../../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'
import { created, get, type Headers, head, items, json, newPath, post, producer, put, remove, sse } from './protocol-client.js'

let fresh: FreshDatabase
let apps: readonly [StreamApp, StreamApp]

beforeAll(async () => {
  fresh = await freshDatabase({ poolMax: 4 })
  apps = [await startStreamApp(fresh.url), await startStreamApp(fresh.url)]
})

afterAll(async () => {
  await Promise.all(apps.map((app) => app.stop()))
  await fresh.drop()
})

const urlOf = (turn: number): string => apps[turn % 2 === 0 ? 0 : 1].url

async function parallel<Result>(count: number, work: (index: number) => Promise<Result>): Promise<Result[]> {
  return await Promise.all(Array.from({ length: count }, (_, index) => work(index)))
}

interface Event {
  readonly n: number
  readonly headers: { readonly offset: string }
}

const event = (n: number): string => JSON.stringify({ n, headers: { operation: 'insert' } })

/** Reads on at each next offset until the stream ends. */
async function followByLongPoll(turn: () => number, path: string, from = '-1'): Promise<unknown[]> {
  const seen: unknown[] = []
  let offset = from
  while (true) {
    const response = await get(urlOf(turn()), path, `offset=${offset}&live=long-poll`)
    if (response.status === 200) seen.push(...((await response.json()) as unknown[]))
    else if (response.status !== 204) throw new Error(`long-poll: ${response.status}`)
    offset = response.headers.get('stream-next-offset') ?? offset
    if (response.headers.get('stream-closed') === 'true') return seen
  }
}

async function followBySse(url: string, path: string): Promise<unknown[]> {
  const seen: unknown[] = []
  for await (const { event: kind, data } of sse(url, path, 'offset=-1&live=sse'))
    if (kind === 'data') seen.push(...(JSON.parse(data) as unknown[]))
  return seen
}

describe('invariant', () => {
  it('1, 3: parallel writers on two processes: entries = acknowledged appends, offsets strictly increase, answered offset = offset of the event = tail', async () => {
    const path = await created(urlOf(0), newPath())

    const answers = await parallel(40, async (writer) => {
      const answered: [number, string][] = []
      for (let seq = 0; seq < 10; seq += 1) {
        const n = writer * 100 + seq
        const headers: Headers = writer % 2 === 0 ? { ...json, ...producer(`w${writer}`, 0, seq) } : json
        const response = await post(urlOf(writer), path, headers, event(n))
        answered.push([n, response.headers.get('stream-next-offset') ?? ''])
      }
      return answered
    })

    const read = (await items(urlOf(0), path)) as Event[]
    const offsets = read.map(({ headers }) => headers.offset)
    expect(new Map(read.map(({ n, headers }) => [n, headers.offset]))).toEqual(new Map(answers.flat()))
    expect(offsets).toEqual([...new Set(offsets)].toSorted())
    expect((await head(urlOf(1), path)).headers.get('stream-next-offset')).toBe(offsets.at(-1))
  })

  it('2: live readers on both processes see each entry once and in order, also across killed listener connections', async () => {
    const path = await created(urlOf(0), newPath())
    let turn = 0
    const readers = [
      followByLongPoll(() => 0, path),
      followByLongPoll(() => turn++, path),
      followBySse(urlOf(0), path),
      followBySse(urlOf(1), path),
    ]
    const expected = Array.from({ length: 120 }, (_, n) => n)

    for (const n of expected) {
      if (n % 30 === 10) await killListeners()
      await post(urlOf(n), path, n === 119 ? { ...json, 'stream-closed': 'true' } : json, `[${n}]`)
    }

    for (const seen of await Promise.all(readers)) expect(seen).toEqual(expected)
  })

  it('2: a wake-up from another process comes with the notice, not with the safety poll', async () => {
    const path = await created(urlOf(0), newPath())
    const events = sse(urlOf(1), path, 'offset=now&live=sse')
    await events.next() // the first control frame: from now on it waits
    const delays: number[] = []
    for (let round = 0; round < 5; round += 1) {
      await post(urlOf(0), path, json, '1')
      const appended = Date.now()
      expect(await events.next()).toMatchObject({ value: { event: 'data', data: '[1]' } })
      delays.push(Date.now() - appended)
      await events.next()
    }
    await events.return(undefined)

    expect(delays.toSorted((a, b) => a - b)[2]).toBeLessThan(500) // the median: the poll takes 750 ms on average
  })

  it('4: one producer request sent ten times in parallel to two processes: one 200, nine 204, one entry', async () => {
    const path = await created(urlOf(0), newPath())

    const statuses = await parallel(10, async (n) => (await post(urlOf(n), path, { ...json, ...producer('p', 0, 0) }, event(1))).status)

    expect(statuses.toSorted()).toEqual([200, ...Array.from({ length: 9 }, () => 204)])
    expect(await items(urlOf(0), path)).toHaveLength(1)
  })

  it('5: a close against parallel appends: what was acknowledged is there, all else is 409, readers get the end', async () => {
    const path = await created(urlOf(0), newPath())
    const readers = [followByLongPoll(() => 1, path), followBySse(urlOf(1), path)]

    const appends = parallel(20, async (n) => ({ n, status: (await post(urlOf(n), path, json, `[${n}]`)).status }))
    const closed = await post(urlOf(1), path, { ...json, 'stream-closed': 'true' }, '["end"]')
    const results = await appends

    const read = await items(urlOf(0), path)
    expect(closed.status).toBe(204)
    expect(read.at(-1)).toBe('end')
    expect(new Set(read.slice(0, -1))).toEqual(new Set(results.filter(({ status }) => status === 204).map(({ n }) => n)))
    expect(results.filter(({ status }) => status !== 204 && status !== 409)).toEqual([])
    for (const seen of await Promise.all(readers)) expect(seen).toEqual(read)
  })

  it('6: forks against appends and the delete of the source: each is a prefix of the source, for ever', async () => {
    const path = await created(urlOf(0), newPath(), json, '[0]')
    const forks = Array.from({ length: 8 }, () => newPath('fork'))

    const appends = parallel(20, async (n) => await post(urlOf(n), path, json, `[${n + 1}]`))
    const statuses = await Promise.all(forks.map(async (fork, n) => (await put(urlOf(n), fork, { 'stream-forked-from': path })).status))
    await appends
    const whole = await items(urlOf(0), path)
    const contents = await Promise.all(forks.map(async (fork) => await items(urlOf(1), fork)))
    await remove(urlOf(0), path)

    expect(new Set(statuses)).toEqual(new Set([201]))
    for (const content of contents) expect(content).toEqual(whole.slice(0, content.length))
    expect(await Promise.all(forks.map(async (fork) => await items(urlOf(0), fork)))).toEqual(contents)
  })

  it('7: the leaf of a chain of five cut forks never changes, whatever becomes of the others', async () => {
    const rangesBefore = await countOf('stream_ranges')
    const root = await created(
      urlOf(0),
      newPath('root'),
      { ...json, 'stream-expires-at': new Date(Date.now() + 1_500).toISOString() },
      '["r1"]',
    )
    await post(urlOf(0), root, json, '["r2","r3"]')
    const chain = [root]
    for (let depth = 1; depth <= 5; depth += 1) {
      const sourcePath = chain[depth - 1] ?? ''
      const tail = (await head(urlOf(0), sourcePath)).headers.get('stream-next-offset') ?? ''
      const before = `0000000000000000_${String(Number(tail.slice(17)) - 1).padStart(16, '0')}`
      const fork = await created(urlOf(depth), newPath(`fork${depth}`), {
        ...json,
        'stream-forked-from': sourcePath,
        'stream-fork-offset': before,
        'stream-fork-sub-offset': '1',
        'stream-ttl': '600',
      })
      await post(urlOf(depth), fork, json, JSON.stringify([`own${depth}a`, `own${depth}b`]))
      chain.push(fork)
    }
    const leaf = chain[5] ?? ''
    const content = await items(urlOf(0), leaf)

    for (const middle of chain.slice(1, 5)) expect((await remove(urlOf(1), middle)).status).toBe(204)
    await eventually(async () => (await head(urlOf(0), root)).status !== 200)

    expect(content).toEqual(['r1', 'r2', 'own1a', 'own2a', 'own3a', 'own4a', 'own5a', 'own5b'])
    expect((await put(urlOf(0), root, json, '["foreign"]')).status).toBe(409)
    expect(await items(urlOf(1), leaf)).toEqual(content)
    await remove(urlOf(0), leaf)
    await eventually(async () => (await put(urlOf(0), root, json, '["new"]')).status === 201) // all references went with the leaf
    expect(await countOf('stream_ranges')).toBe(rangesBefore)
  })

  it('8: of 64 parallel creates of one path exactly one is 201, and the content is its body', async () => {
    const path = newPath()

    const statuses = await parallel(64, async (n) => (await put(urlOf(n), path, json, JSON.stringify([n]))).status)

    expect(statuses.filter((status) => status === 201)).toHaveLength(1)
    expect(statuses.filter((status) => status === 200)).toHaveLength(63)
    expect(await items(urlOf(0), path)).toEqual([statuses.indexOf(201)])
  })

  it('8: of 10,000 streams created by two processes with a body none fails and none is empty', async () => {
    const paths = Array.from({ length: 10_000 }, () => newPath('many') as StreamPath)

    const verdicts = await parallel(paths.length, async (n) => {
      const { streams } = apps[n % 2 === 0 ? 0 : 1]
      return await streams.create(paths[n] as StreamPath, { contentType: 'application/json', body: Buffer.from(JSON.stringify([n])) })
    })

    const { rows } = await fresh.database.query({
      name: 'all',
      text: `SELECT s.path, convert_from(e.data, 'UTF8') AS body FROM streams s JOIN stream_entries e ON e.stream_id = s.id WHERE s.path = ANY ($1)`,
      values: [paths],
    })
    expect(verdicts.filter(({ outcome }) => outcome !== 'created')).toEqual([])
    expect(Object.fromEntries(rows.map(({ path, body }) => [path, body]))).toEqual(
      Object.fromEntries(paths.map((path, n) => [path, String(n)])),
    )
    expect(rows).toHaveLength(10_000)
  })

  it('11: a thousand idle long-poll and SSE readers hold no database connection, and appends go on', async () => {
    const paths = await parallel(20, async (n) => await created(urlOf(n), newPath('idle')))
    const left = new AbortController()
    const idle = await parallel(1_000, async (n) => {
      const path = paths[n % paths.length] ?? ''
      if (n % 2 === 0) return fetch(`${urlOf(0)}${path}?offset=now&live=long-poll`, { signal: left.signal }).catch(() => undefined)
      const response = await fetch(`${urlOf(0)}${path}?offset=now&live=sse`, { signal: left.signal })
      return response.body
        ?.getReader()
        .read()
        .then(() => undefined)
    })

    const busy = await eventually(async () => {
      const { rows } = await fresh.database.query({
        name: 'busy',
        text: "SELECT count(*)::int AS busy FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()",
        values: [],
      })
      return rows[0]?.busy === 0
    })
    const appended = await post(urlOf(1), paths[0] ?? '', json, '1')

    expect([busy, appended.status]).toEqual([true, 204])
    left.abort()
    await Promise.allSettled(idle)
  })
})

async function countOf(table: 'stream_ranges'): Promise<number> {
  const { rows } = await fresh.database.query({ name: `count_${table}`, text: `SELECT count(*)::int AS count FROM ${table}`, values: [] })
  return rows[0]?.count as number
}

async function killListeners(): Promise<void> {
  await fresh.database.query({
    name: 'kill',
    text: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%listener' AND datname = current_database()",
    values: [],
  })
}
