import { Turns } from '../../src/domain/turns.js'

/** Turns, and who has begun so far. */
function observed(patienceMs: number) {
  const turns = new Turns(patienceMs)
  const begun: string[] = []
  const ends = new Map<string, () => void>()
  const heard = new Map<string, () => void>()
  const take = (name: string) =>
    turns.take((over) => {
      begun.push(name)
      ends.set(name, over)
      heard.get(name)?.()
    })
  /** To be asked before it is taken. */
  const beginning = (name: string) => new Promise<void>((resolve) => heard.set(name, resolve))
  return { begun, take, beginning, end: (name: string) => ends.get(name)?.() }
}

const patient = 60_000

describe('turns', () => {
  it("U1: begin at once while it is nobody's turn", () => {
    const { begun, take, end } = observed(patient)

    take('a')
    expect(begun).toEqual(['a'])
    end('a')
    take('b')

    expect(begun).toEqual(['a', 'b'])
  })

  it('U3: come in the order in which they were asked for, one after the other', () => {
    const { begun, take, end } = observed(patient)
    for (const name of ['a', 'b', 'c']) take(name)
    expect(begun).toEqual(['a'])

    end('a')
    expect(begun).toEqual(['a', 'b'])
    end('b')

    expect(begun).toEqual(['a', 'b', 'c'])
  })

  it('U2: come to those who have waited long enough, though the turn before goes on', async () => {
    const { begun, take, beginning } = observed(1)
    const others = Promise.all(['b', 'c'].map(beginning))
    for (const name of ['a', 'b', 'c']) take(name)

    await others

    expect(begun).toEqual(['a', 'b', 'c'])
  })

  it('do not end with the end of one that was over already', async () => {
    const { begun, take, beginning, end } = observed(1)
    const second = beginning('b')
    for (const name of ['a', 'b']) take(name)
    await second

    end('a') // overtaken by b
    take('c')
    expect(begun).toEqual(['a', 'b'])
    end('b')

    expect(begun).toEqual(['a', 'b', 'c'])
  })

  it('end once, however often it is said', () => {
    const { begun, take, end } = observed(patient)
    for (const name of ['a', 'b', 'c']) take(name)

    end('a')
    end('a')

    expect(begun).toEqual(['a', 'b'])
  })
})
