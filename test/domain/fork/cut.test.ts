import fc from 'fast-check'
import { completesRun, cutBehind, isItemCount, type PlacedItem, PointerWalk } from '../../../src/domain/fork/cut.js'
import { keptItems } from '../../../src/domain/fork/snapshot.js'
import { type Offset, offsetOf, zeroOffset } from '../../../src/domain/ids.js'

/** Items of entries of these sizes: the k-th entry ends at `ends[k]`. */
function history(entries: readonly (readonly [number, number])[]): PlacedItem[] {
  return entries.flatMap(([end, items]) => Array.from({ length: items }, (_, nth) => ({ entry: offsetOf(end), item: `${end}/${nth}` })))
}

/** The cut of a pointer, and how many items a fork then keeps; the items come in pages of `page`. */
function cutAt(items: readonly PlacedItem[], after: Offset, count: number, page = 100) {
  const behind = items.filter(({ entry }) => entry > after)
  const walk = new PointerWalk(after, count)
  for (let at = 0; at < Math.max(behind.length, 1); at += page) {
    const cut = walk.take(behind.slice(at, at + page), at + page >= behind.length)
    if (cut !== null) return { cut, keeps: keptItems(items, cut).length }
  }
  return { cut: null, available: walk.seen }
}

/** The worked example of spec/04 §5. */
const example = history([
  [180, 2],
  [257, 1],
  [511, 3],
  [588, 1],
])

describe('a pointer into the worked example', () => {
  it.each([
    [257, 3, 6, { after: offsetOf(511), items: 0 }],
    [257, 2, 5, { after: offsetOf(257), items: 2 }],
    [0, 2, 2, { after: offsetOf(180), items: 0 }],
    [180, 1, 3, { after: offsetOf(257), items: 0 }],
    [511, 1, 7, { after: offsetOf(588), items: 0 }],
    [0, 3, 3, { after: offsetOf(257), items: 0 }], // crosses the border between A and B: translated
    [0, 1, 1, { after: zeroOffset, items: 1 }],
  ])('{%i,%i} keeps %i items', (offset, count, keeps, cut) => {
    expect(cutAt(example, offsetOf(offset), count)).toEqual({ cut, keeps })
  })

  it.each([
    [588, 1, 0],
    [257, 5, 4],
    [0, 8, 7],
  ])('{%i,%i} is out of range: %i are there', (offset, count, available) => {
    expect(cutAt(example, offsetOf(offset), count)).toEqual({ cut: null, available })
  })

  it.each([0, -1, 1.5, Number.NaN, 2 ** 53])('never counts %d items', (count) => {
    expect(isItemCount(count)).toBe(false)
  })
})

describe('every pointer', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 12 })

  it('keeps exactly the items that it counts, whatever the entries, and however they come in pages', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), fc.integer({ min: 1, max: 7 }), (entries, start, count, page) => {
        const items = history(entries.map((size, nth) => [nth + 1, size] as const))
        const after = start % (entries.length + 1)
        const before = items.filter(({ entry }) => entry <= offsetOf(after)).length
        const wanted = 1 + (count % (items.length + 2))

        const found = cutAt(items, offsetOf(after), wanted, page)

        if (before + wanted > items.length) expect(found).toEqual({ cut: null, available: items.length - before })
        else expect(found).toMatchObject({ keeps: before + wanted })
      }),
    )
  })

  it('never asks the stream layer to cross an entry', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), (entries, count) => {
        const items = history(entries.map((size, nth) => [nth + 1, size] as const))
        const { cut } = cutAt(items, zeroOffset, 1 + (count % items.length))
        const next = entries[Number(cut?.after.slice(17))] ?? 0

        expect(cut === null || cut === undefined || cut.items < Math.max(next, 1)).toBe(true)
      }),
    )
  })
})

describe('the anchor latest_completed_run', () => {
  const run = (status: unknown, operation: string) => ({ type: 'run', key: 'r', value: { status }, headers: { operation } })

  it.each([
    [run('completed', 'update'), true],
    [run('completed', 'insert'), true],
    [run('started', 'insert'), false],
    [run('failed', 'update'), false],
    [run('completed', 'delete'), false],
    [{ type: 'run', key: 'r', value: { status: 'completed' } }, true],
    [{ type: 'step', value: { status: 'completed' }, headers: { operation: 'update' } }, false],
    [{ type: 'run', value: 'completed', headers: {} }, false],
    [null, false],
    ['run', false],
  ])('looks for completed runs: %j', (item, expected) => {
    expect(completesRun(item)).toBe(expected)
  })

  it('cuts behind the run: inside of its entry, or behind all of it', () => {
    expect(cutBehind(0, 1, offsetOf(4), offsetOf(3))).toEqual({ after: offsetOf(4), items: 0 })
    expect(cutBehind(1, 3, offsetOf(4), offsetOf(3))).toEqual({ after: offsetOf(3), items: 2 })
  })
})
