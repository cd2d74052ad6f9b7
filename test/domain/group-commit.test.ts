import { jest } from '@jest/globals'
import { GroupCommit, type GroupCommitOptions } from '../../src/domain/group-commit.js'
import { Turns } from '../../src/domain/turns.js'

interface HeldBatch {
  readonly items: readonly string[]
  answer(verdicts?: readonly string[]): void
  fail(failure: Error): void
}

/** A group commit whose batches end when the test says so. */
function held(options: Partial<GroupCommitOptions<string>> = {}) {
  const batches: HeldBatch[] = []
  const commit = new GroupCommit<string, string>(
    (items) =>
      new Promise((resolve, reject) => {
        batches.push({ items, answer: (verdicts = items.map((item) => `${item}!`)) => resolve(verdicts), fail: reject })
      }),
    { maxBatch: 100, maxWaiting: 100, overloaded: () => new Error('overloaded'), ...options },
  )
  const begun = () => batches.map(({ items }) => items.join(''))
  return { commit, batches, begun }
}

const settled = async () => {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve()
}

describe('a group commit', () => {
  it('G1: settles each item once, with its own verdict', async () => {
    const { commit, batches } = held()
    const first = commit.add('a')
    const others = ['b', 'c'].map((item) => commit.add(item))

    batches[0]?.answer()
    await settled()
    batches[1]?.answer()

    expect(await Promise.all([first, ...others])).toEqual(['a!', 'b!', 'c!'])
  })

  it('G1: rejects all items of a batch that fails, and only those', async () => {
    const { commit, batches } = held()
    const first = commit.add('a')
    const second = commit.add('b')

    batches[0]?.fail(new Error('broken'))
    await expect(first).rejects.toThrow('broken')
    await settled()
    batches[1]?.answer()

    expect(await second).toBe('b!')
  })

  it('G1: rejects a batch that answered too few verdicts', async () => {
    const { commit, batches } = held()
    const only = commit.add('a')

    batches[0]?.answer([])

    await expect(only).rejects.toThrow('a batch of 1 answered 0 verdicts')
  })

  it('G2: begins in the tick in which a lone item arrives', () => {
    const { commit, begun } = held()

    commit.add('a').catch(() => undefined)

    expect(begun()).toEqual(['a'])
  })

  it('G2: with `gathers` begins when that tick ends, with all that was asked in it', async () => {
    const { commit, begun } = held({ gathers: true })

    for (const item of ['a', 'b']) commit.add(item).catch(() => undefined)
    expect(begun()).toEqual([])
    await new Promise((resolve) => process.nextTick(resolve))

    expect(begun()).toEqual(['ab'])
  })

  it('begins when its turn comes, with all that has come until then, and waits for the next one behind the others', async () => {
    const turns = new Turns(60_000)
    const [one, other] = [held({ turns }), held({ turns })]
    const first = one.commit.add('a')
    const waiting = [other.commit.add('x'), other.commit.add('y'), one.commit.add('b')]
    expect([one.begun(), other.begun()]).toEqual([['a'], []])

    one.batches[0]?.answer()
    await first
    await settled()
    expect([one.begun(), other.begun()]).toEqual([['a'], ['xy']])
    other.batches[0]?.answer()
    await settled()
    one.batches[1]?.answer()

    expect(await Promise.all(waiting)).toEqual(['x!', 'y!', 'b!'])
    await Promise.all([one.commit.drained(), other.commit.drained()])
  })

  it('G3: refuses what waits beyond the bound, and takes again what fits', async () => {
    const { commit, batches } = held({ maxWaiting: 2 })
    const taken = ['a', 'b', 'c'].map((item) => commit.add(item))

    await expect(commit.add('d')).rejects.toThrow('overloaded')
    batches[0]?.answer()
    await settled()
    const later = commit.add('e')
    batches[1]?.answer()
    await settled()
    batches[2]?.answer()

    expect(await Promise.all([...taken, later])).toEqual(['a!', 'b!', 'c!', 'e!'])
  })

  it('G4: bounds a batch in items', async () => {
    const { commit, batches, begun } = held({ maxBatch: 2 })
    for (const item of 'abcd') commit.add(item).catch(() => undefined)

    batches[0]?.answer()
    await settled()
    batches[1]?.answer()
    await settled()

    expect(begun()).toEqual(['a', 'bc', 'd'])
  })

  it('G4: bounds a batch in weight; what is heavier than the bound travels alone', async () => {
    const { commit, batches, begun } = held({ maxWeight: 3, weigh: (item) => item.length })
    for (const item of ['.', 'aa', 'b', 'cccccc', 'd']) commit.add(item).catch(() => undefined)

    for (let batch = 0; batch < 4; batch += 1) {
      batches[batch]?.answer()
      await settled()
    }

    expect(begun()).toEqual(['.', 'aab', 'cccccc', 'd'])
  })

  it('G5: carries items in the order in which they came, also past a thousand', async () => {
    const { commit, batches } = held({ maxBatch: 300, maxWaiting: 5_000 })
    const items = Array.from({ length: 2_500 }, (_, index) => `${index}`)
    const verdicts = Promise.all(items.map((item) => commit.add(item)))

    for (let batch = 0; batch < 12; batch += 1) {
      batches[batch]?.answer()
      await settled()
    }

    expect(await verdicts).toHaveLength(2_500)
    expect(batches.flatMap((batch) => batch.items)).toEqual(items)
  })

  it('has as many batches in flight as it has lanes', () => {
    const { commit, begun } = held({ lanes: 2 })

    for (const item of 'abc') commit.add(item).catch(() => undefined)

    expect(begun()).toEqual(['a', 'b'])
    expect(commit.waiting).toBe(1)
  })

  describe('whose batch takes long (G6)', () => {
    const overtaking = { afterMs: 100, most: 2, about: (item: string) => item.slice(0, 1) }
    beforeEach(() => {
      jest.useFakeTimers({ doNotFake: ['queueMicrotask', 'nextTick'] })
    })
    afterEach(() => {
      jest.useRealTimers()
    })

    it('lets pass what is about something else, and keeps the order of the rest', async () => {
      const { commit, batches, begun } = held({ overtaking })
      const slow = commit.add('a1')
      const others = ['a2', 'b1', 'a3'].map((item) => commit.add(item))
      expect(begun()).toEqual(['a1'])

      jest.advanceTimersByTime(100)
      expect([begun(), commit.waiting]).toEqual([['a1', 'b1'], 2])
      const late = ['b2', 'c1', 'a4'].map((item) => commit.add(item))
      batches[1]?.answer()
      await settled()
      expect(begun()).toEqual(['a1', 'b1', 'b2c1'])
      batches[0]?.answer()
      batches[2]?.answer()
      await settled()
      expect(begun()).toEqual(['a1', 'b1', 'b2c1', 'a2a3a4'])
      batches[3]?.answer()
      expect(await Promise.all([slow, ...others, ...late])).toEqual(['a1!', 'a2!', 'b1!', 'a3!', 'b2!', 'c1!', 'a4!'])
      expect(commit.waiting).toBe(0)
    })

    it('lets so many pass, and no more; one that ends takes its lane along', async () => {
      const { commit, batches, begun } = held({ overtaking })
      for (const item of ['a', 'b', 'c', 'd']) {
        commit.add(item).catch(() => undefined)
        jest.advanceTimersByTime(100)
      }
      expect(begun()).toEqual(['a', 'b', 'c'])

      batches[0]?.answer()
      await settled()
      jest.advanceTimersByTime(100)
      expect(begun()).toEqual(['a', 'b', 'c', 'd'])
      for (const item of ['e', 'f']) commit.add(item).catch(() => undefined)
      for (const nth of [1, 2, 3]) batches[nth]?.answer()
      await settled()
      expect(begun()).toEqual(['a', 'b', 'c', 'd', 'ef'])
    })

    it('is not overtaken before', () => {
      const { commit, begun } = held({ overtaking })
      for (const item of ['a', 'b']) commit.add(item).catch(() => undefined)
      jest.advanceTimersByTime(99)

      expect(begun()).toEqual(['a'])
    })

    it('counts what it keeps waiting (G3), and is drained when that is done (G1)', async () => {
      const { commit, batches } = held({ overtaking, maxWaiting: 2 })
      const items = ['a1', 'a2', 'a3'].map((item) => commit.add(item))
      jest.advanceTimersByTime(100)
      await expect(commit.add('b')).rejects.toThrow('overloaded')
      let isDrained = false
      const drained = commit.drained().then(() => {
        isDrained = true
      })

      batches[0]?.answer()
      await settled()
      expect(isDrained).toBe(false)
      batches[1]?.answer()
      await Promise.all([...items, drained])
    })
  })

  it('is drained when nothing waits and nothing is in flight', async () => {
    const { commit, batches } = held()
    await commit.drained()
    const work = Promise.all([commit.add('a'), commit.add('b')])
    let drained = false
    const draining = commit.drained().then(() => {
      drained = true
    })

    batches[0]?.answer()
    await settled()
    expect(drained).toBe(false)
    batches[1]?.answer()
    await Promise.all([work, draining])

    expect(drained).toBe(true)
  })
})
