/** Readers share the statements that open their streams (opening.ts). The database is real; a gate before it holds and counts statements. */
import { offsetOf } from '../../../src/domain/ids.js'
import { defaultLimits } from '../../../src/domain/limits.js'
import { sql } from '../../../src/registry/database.js'
import { Opening, type OpeningLimits, type ReadDatabase } from '../../../src/streams/postgres/opening.js'
import type { OpenedStream } from '../../../src/streams/postgres/reading.js'
import { eventually } from '../../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'
import { created, get, head, items, json, newPath, post, remove, text } from './protocol-client.js'

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

interface Gated {
  readonly opening: Opening
  /** The streams of each statement that was asked for. */
  readonly asked: (readonly string[])[]
  /** Behind which of their entries. */
  readonly behind: (readonly number[])[]
  /** From now on statements wait until they are let go. */
  hold(): void
  letGo(): void
  /** As a Postgres that has crashed. */
  beginAnew(): void
}

function gated(limits: Partial<OpeningLimits> = {}, refuses: (paths: readonly string[]) => boolean = () => false): Gated {
  const asked: (readonly string[])[] = []
  const behind: (readonly number[])[] = []
  let waiting: (() => void)[] | null = null
  let era = 1
  const database: ReadDatabase = {
    tenant: fresh.database.tenant,
    get era() {
      return era
    },
    query: async (statement, options) => {
      const paths = statement.values[0] as readonly string[]
      asked.push(paths)
      behind.push(statement.values[1] as readonly number[])
      const answer = fresh.database.query(statement, options) // sent at once; its answer is what waits
      answer.catch(() => undefined)
      if (waiting !== null) await new Promise<void>((go) => waiting?.push(go))
      if (refuses(paths)) throw new Error('this page is broken')
      return await answer
    },
  }
  return {
    opening: new Opening(database, { ...defaultLimits, ...limits }),
    asked,
    behind,
    hold: () => {
      waiting = []
    },
    letGo: () => {
      const held = waiting ?? []
      waiting = null
      for (const go of held) go()
    },
    beginAnew: () => {
      era += 1
    },
  }
}

/** As a read from the start does it: what was opened is kept. */
async function readFrom(opening: Opening, path: string): Promise<string | null> {
  const opened = await opening.open(path, 0)
  if (typeof opened !== 'string' && opened.chunk !== null) opening.keep(path, opened, opened.chunk)
  return dataOf(opened)
}

const tailOf = (opened: OpenedStream) => (typeof opened === 'string' ? opened : opened.view.tail)
const dataOf = (opened: OpenedStream) => (typeof opened === 'string' ? opened : (opened.chunk?.data.toString() ?? null))

describe('opening streams', () => {
  it('O1: sees what was acknowledged before it was asked, also while a statement is under way', async () => {
    const path = await created(app.url, newPath(), json, '[1]')
    const { opening, asked, hold, letGo } = gated()
    hold()
    const early = opening.open(path, 0)
    await eventually(() => asked.length === 1)
    await post(app.url, path, json, '2')
    const late = opening.open(path, 0)
    letGo()

    expect([tailOf(await late), dataOf(await late)]).toEqual([2, '1,2'])
    expect(tailOf(await early)).toBeGreaterThanOrEqual(1)
    expect(asked).toEqual([[path], [path]])
  })

  it('O2: asks at once for a lone reader, and once for all who wait', async () => {
    const paths = await Promise.all(Array.from({ length: 5 }, () => created(app.url, newPath(), json, '[1]')))
    const [first = '', ...others] = paths
    const { opening, asked } = gated()

    const opened = await Promise.all([first, ...others].map((path) => opening.open(path, 0)))

    expect(asked).toEqual([[first], others])
    expect(opened.map(dataOf)).toEqual(['1', '1', '1', '1', '1'])
  })

  it('answers each reader what it asked for: its offset, its stream, whether there is one', async () => {
    const [array, bytes] = [await created(app.url, newPath(), json, '[1,2]'), await created(app.url, newPath(), text, 'abc')]
    await post(app.url, array, json, '3')
    await post(app.url, bytes, text, 'def')
    const { opening, asked } = gated()

    const opened = await Promise.all(
      [
        [array, 0],
        [bytes, 1],
        [newPath(), 0],
        [array, 1],
        [array, 2],
        [bytes, 0],
      ].map(([path, after]) => opening.open(String(path), Number(after))),
    )

    expect(opened.map(dataOf)).toEqual(['1,2,3', 'def', 'missing', '3', null, 'abcdef'])
    expect([asked.length, await opening.open('/a\0b', 0)]).toEqual([2, 'missing'])
  })

  it('O3: brings no more than the bound, in equal shares, and whole entries', async () => {
    const [small, large] = [await created(app.url, newPath(), text, 'small'), await created(app.url, newPath(), text, 'x'.repeat(600))]
    await post(app.url, large, text, 'y'.repeat(600))
    const { opening, hold, letGo, asked } = gated({ maxStreamReadBatchBytes: 2_000, maxStreamReadBatch: 3 })
    hold()
    const alone = opening.open(large, 0)
    await eventually(() => asked.length === 1)
    const together = [large, small, large, small].map((path) => opening.open(path, 0))
    letGo()

    const lengths = (await Promise.all(together)).map((opened) => dataOf(opened)?.length)
    expect(dataOf(await alone)?.length).toBe(1_200)
    expect(lengths).toEqual([600, 5, 600, 5]) // 666 bytes each, then all of it
    expect(asked.map((paths) => paths.length)).toEqual([1, 3, 1])
  })

  it('O4: a stream that cannot be read fails its own reader alone', async () => {
    const [whole, broken] = [await created(app.url, newPath(), json, '[1]'), await created(app.url, newPath(), json, '[2]')]
    const { opening } = gated({}, (paths) => paths.includes(broken))

    const opened = await Promise.allSettled([whole, whole, broken, whole].map((path) => opening.open(path, 0)))

    expect(opened.map((one) => (one.status === 'fulfilled' ? dataOf(one.value) : String(one.reason)))).toEqual([
      '1',
      '1',
      'Error: this page is broken',
      '1',
    ])
  })

  it('refuses readers beyond those who may wait', async () => {
    const { opening } = gated({ maxWaitingReads: 1 })
    const path = await created(app.url, newPath())

    const opened = await Promise.allSettled([path, path, path].map((one) => opening.open(one, 0)))

    expect(opened.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected'])
  })
})

describe('what a stream begins with', () => {
  it('is brought once, and after that what follows it', async () => {
    const [array, bytes] = [await created(app.url, newPath(), json, '[1,2]'), await created(app.url, newPath(), text, 'abc')]
    const { opening, behind } = gated()
    const read = async () => [await readFrom(opening, array), await readFrom(opening, bytes)]

    expect([await read(), await read()]).toEqual([
      ['1,2', 'abc'],
      ['1,2', 'abc'],
    ])
    await post(app.url, array, json, '3')
    await post(app.url, bytes, text, 'def')
    expect([await read(), await read()]).toEqual([
      ['1,2,3', 'abcdef'],
      ['1,2,3', 'abcdef'],
    ])
    expect(dataOf(await opening.open(array, 1))).toBe('3') // who resumes asks for what he wants
    expect(behind.flat()).toEqual([0, 0, 1, 1, 1, 1, 2, 2, 1])
  })

  it('is brought each time where it has no room, or is not all of the stream', async () => {
    const [small, large] = [await created(app.url, newPath(), text, 'small'), await created(app.url, newPath(), text, 'x'.repeat(600))]
    await post(app.url, large, text, 'y'.repeat(600))
    const [narrow, short] = [gated({ keptReadBytes: 400 }), gated({ maxStreamReadBatchBytes: 1_000 })]

    for (let time = 0; time < 2; time += 1) {
      expect(await readFrom(narrow.opening, small)).toBe('small')
      expect(await readFrom(short.opening, large)).toBe('x'.repeat(600))
    }
    expect([narrow.behind, short.behind]).toEqual([
      [[0], [0]],
      [[0], [0]],
    ])
  })

  it('is read again when Postgres has begun anew: it may have lost what was read', async () => {
    const path = await created(app.url, newPath(), text, 'lost')
    const { opening, beginAnew, hold, letGo, behind } = gated()
    const replace = async (bytes: string) =>
      await fresh.database.query(sql`
        UPDATE stream_entries SET data = ${Buffer.from(bytes)} WHERE stream_id = (SELECT id FROM streams WHERE path = ${path})`)
    expect([await readFrom(opening, path), await readFrom(opening, path)]).toEqual(['lost', 'lost'])

    await replace('other')
    beginAnew()
    expect([await readFrom(opening, path), await readFrom(opening, path)]).toEqual(['other', 'other'])

    hold()
    const under = readFrom(opening, path)
    await eventually(() => behind.length === 5)
    await replace('third')
    beginAnew()
    letGo()
    expect([await under, await readFrom(opening, path)]).toEqual([null, 'third']) // null: whoever serves it reads it for himself
    expect(behind.flat()).toEqual([0, 1, 0, 1, 1, 0])
  })

  it('is not that of another stream at its path, shorter, as long, or longer', async () => {
    const path = newPath()
    const seen: (readonly unknown[])[] = []
    for (const content of ['[1,2,3]', '[4]', '[5,6,7]', '[8,9,10]', '[]', '[11,12,13,14]']) {
      await created(app.url, path, json, content)
      seen.push(await items(app.url, path), await items(app.url, path))
      await post(app.url, path, json, '0')
      seen.push(await items(app.url, path))
      await remove(app.url, path)
    }

    const contents = [[1, 2, 3], [4], [5, 6, 7], [8, 9, 10], [], [11, 12, 13, 14]]
    expect(seen).toEqual(contents.flatMap((content) => [content, content, [...content, 0]]))
    expect((await get(app.url, path)).status).toBe(404)
  })

  it('is a fork’s own, and grows with it', async () => {
    const source = await created(app.url, newPath(), json, '1')
    for (const more of ['2', '3']) await post(app.url, source, json, more)
    const fork = await created(app.url, newPath(), {
      ...json,
      'stream-forked-from': source,
      'stream-fork-offset': offsetOf(2),
    })
    const read = async () => [await items(app.url, source), await items(app.url, fork)]

    expect([await read(), await read()]).toEqual([
      [
        [1, 2, 3],
        [1, 2],
      ],
      [
        [1, 2, 3],
        [1, 2],
      ],
    ])
    await post(app.url, fork, json, '"fork"')
    await post(app.url, source, json, '"source"')
    expect([await read(), await read()]).toEqual([
      [
        [1, 2, 3, 'source'],
        [1, 2, 'fork'],
      ],
      [
        [1, 2, 3, 'source'],
        [1, 2, 'fork'],
      ],
    ])
  })
})

describe('many readers at once', () => {
  it('each get all of their stream, however it compares with a share', async () => {
    const sizes = [1, 3, 40, 900, 5_000]
    const streams = await Promise.all(
      sizes.map(async (size) => {
        const path = await created(app.url, newPath())
        const appends = Array.from({ length: size }, (_, n) =>
          app.streams.append(path as never, {
            contentType: 'application/json',
            body: Buffer.from(JSON.stringify({ n, filler: 'é'.repeat(200) })),
          }),
        )
        await Promise.all(appends)
        return { path, size }
      }),
    )
    const entry = 'z'.repeat(3 * 1024 * 1024)
    const blob = await created(app.url, newPath(), text, entry)
    const fork = await created(app.url, newPath(), { 'stream-forked-from': streams[2]?.path ?? '' })
    const expected = [...streams, { path: fork, size: 40 }]

    const rounds = Array.from({ length: 20 }, () => expected).flat()
    const reads = await Promise.all([
      ...rounds.map(async ({ path }) => ((await (await get(app.url, path, 'offset=-1')).json()) as { n: number }[]).map(({ n }) => n)),
      ...Array.from({ length: 5 }, async () => (await (await get(app.url, blob, 'offset=-1')).text()) === entry),
      ...Array.from({ length: 5 }, async () => (await head(app.url, blob)).status),
    ])

    expect(reads.slice(0, rounds.length)).toEqual(rounds.map(({ size }) => Array.from({ length: size }, (_, n) => n)))
    expect(reads.slice(rounds.length)).toEqual([...Array(5).fill(true), ...Array(5).fill(200)])
  })

  it('see their own acknowledged appends through any process', async () => {
    const other = await startStreamApp(fresh.url)
    const urls = [app.url, other.url]
    const seen = await Promise.all(
      Array.from({ length: 32 }, async (_, reader) => {
        const path = await created(app.url, newPath())
        const tails: boolean[] = []
        for (let n = 1; n <= 10; n += 1) {
          const { headers } = await post(urls[(reader + n) % 2] ?? '', path, json, String(n))
          const read = await get(urls[n % 2] ?? '', path, 'offset=-1')
          const known = await head(urls[(n + 1) % 2] ?? '', path)
          tails.push(
            ((await read.json()) as number[]).length === n && known.headers.get('stream-next-offset') === headers.get('stream-next-offset'),
          )
        }
        return tails
      }),
    )
    await other.stop()

    expect(seen.flat()).toEqual(Array(320).fill(true))
  })
})
