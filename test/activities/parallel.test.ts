import { inParallel } from '../../src/activities/parallel.js'

/** Work whose ends are held by hand. */
function held() {
  const begun: number[] = []
  const ends: { readonly resolve: () => void; readonly reject: (failure: Error) => void }[] = []
  const work = async (_: unknown, index: number) => {
    begun.push(index)
    await new Promise<void>((resolve, reject) => ends.push({ resolve, reject }))
    return index
  }
  return { begun, ends, work }
}

const turn = async () => await new Promise((resolve) => setImmediate(resolve))

describe('requests in parallel', () => {
  it('are bounded, and their results come in the order of the items', async () => {
    const { begun, ends, work } = held()
    const all = inParallel(Array.from({ length: 20 }), work)

    expect(begun).toHaveLength(16)
    for (let index = 15; index >= 0; index -= 1) ends[index]?.resolve()
    await turn()
    for (const { resolve } of ends.slice(16)) resolve()
    expect(await all).toEqual(Array.from({ length: 20 }, (_, index) => index))
  })

  it('fail when the last of them has ended, and nothing more is begun: who undoes them finds nothing under way', async () => {
    const { begun, ends, work } = held()
    let isOver = false
    const all = inParallel(Array.from({ length: 20 }), work).finally(() => {
      isOver = true
    })
    all.catch(() => undefined)

    ends[3]?.reject(new Error('the third'))
    ends[4]?.resolve()
    await turn()
    expect(begun).toHaveLength(16)
    expect(isOver).toBe(false)
    for (const { resolve } of ends) resolve()
    await expect(all).rejects.toThrow('the third')
  })
})
