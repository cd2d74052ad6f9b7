/** The breadth of entities: tags, pages of a long list, many live readers of one stream. */
import { ask, type Bench, inTurn, type Line, registerType, type Scenario } from '../scenario.js'
import { compare, entitiesOf } from './requests.js'

const readers = 64
const pageSize = 100

export const tag: Scenario = async (bench) => {
  await entitiesOf(bench, 'bench-tag')
  const load = { is: 'http', method: 'POST', keys: 64, body: JSON.stringify({ value: 'v{n}' }) } as const
  return await compare(bench, {
    name: 'tag',
    what: 'tag write (row, index and event); floor: parse, validate, answer',
    ours: { ...load, origin: bench.parts.url, path: '/_electric/entities/bench-tag/e{k}/tags/color' },
    shell: { ...load, origin: bench.parts.shellUrl, path: '/_electric/bench/bench-tag/e{k}/tags/color' },
    shellCallers: 64,
  })
}

/** The cursor of a page deep in the list. */
async function cursorAfter(bench: Bench, list: string, pages: number): Promise<string> {
  let cursor = ''
  for (let page = 0; page < pages; page += 1) {
    const response = await fetch(`${bench.parts.url}${list}&limit=1000${cursor === '' ? '' : `&cursor=${cursor}`}`)
    await response.arrayBuffer()
    cursor = response.headers.get('electric-next-cursor') ?? ''
    if (cursor === '') throw new Error(`the list ends on page ${page + 1}`)
  }
  return cursor
}

export const list: Scenario = async (bench) => {
  const { generator, floors, url } = bench.parts
  const type = 'bench-list'
  await registerType(url, type)
  const spawning = { is: 'http', method: 'PUT', origin: url, path: `/_electric/entities/${type}/e{n}`, body: '{}' } as const
  await generator.run({ load: spawning, callers: 256, count: bench.manyEntities })
  const path = `/_electric/entities?type=${type}`
  const deep = await cursorAfter(bench, path, Math.floor(bench.manyEntities / 2_000))
  const page = (cursor: string) => ({ is: 'http', method: 'GET', origin: url, path: `${path}&limit=${pageSize}${cursor}` }) as const
  const forMs = bench.roundMs
  const numbers = await inTurn(bench, {
    select: () => floors.run({ load: { is: 'page', type, rows: pageSize }, callers: 1, forMs }),
    first: () => generator.run({ load: page(''), callers: 1, forMs }),
    deep: () => generator.run({ load: page(`&cursor=${deep}`), callers: 1, forMs }),
    crowd: () => generator.run({ load: page(`&cursor=${deep}`), callers: 16, forMs }),
  })
  const what = (which: string) => `${which} page of ${pageSize} among ${bench.manyEntities} entities; floor: bare SELECT, no HTTP`
  const lines: Line[] = [
    { what: what('first'), callers: 1, numbers: numbers.first, floor: numbers.select },
    { what: what('middle'), callers: 1, numbers: numbers.deep, floor: numbers.select },
    { what: what('middle'), callers: 16, numbers: numbers.crowd, floor: numbers.select },
  ]
  const errors = numbers.first.errors + numbers.deep.errors + numbers.crowd.errors
  return {
    name: 'list',
    lines,
    aims: [
      { what: 'a page in the middle against the first: p50', bound: { atMost: 1.5 }, measured: numbers.deep.p50Ms / numbers.first.p50Ms },
      { what: 'errors', bound: { atMost: 0 }, measured: errors },
    ],
  }
}

export const live: Scenario = async (bench) => {
  const { generator, shellUrl, url } = bench.parts
  const path = '/bench/live'
  await ask(url, 'PUT', path)
  const ours = { is: 'fanout', origin: url, path, query: '?offset=now&live=sse', readers } as const
  const floor = { is: 'fanout', origin: shellUrl, path: '/_electric/bench/fan', query: '', readers } as const
  const forMs = bench.roundMs
  const numbers = await inTurn(bench, {
    floor: () => generator.run({ load: floor, callers: 1, forMs }),
    ours: () => generator.run({ load: ours, callers: 1, forMs }),
  })
  return {
    name: 'live',
    lines: [
      {
        what: `append until the last of ${readers} SSE readers has it; floor: the same bytes passed on by a route, nothing stored`,
        callers: 1,
        numbers: numbers.ours,
        floor: numbers.floor,
      },
    ],
    aims: [{ what: 'errors', bound: { atMost: 0 }, measured: numbers.ours.errors }],
  }
}
