import { AsyncLocalStorage } from 'node:async_hooks'
import { setImmediate as tick } from 'node:timers/promises'
import { restWhenEmpty } from '../src/resting-storage.js'

/** Symbols that hooks of the process put on a new promise: none where no storage is enabled. */
const marksOfPromises = () => Object.getOwnPropertySymbols(new Promise(() => undefined)).length

const storages: AsyncLocalStorage<string>[] = []
function restingStorage(): AsyncLocalStorage<string> {
  const storage = new AsyncLocalStorage<string>()
  restWhenEmpty(storage)
  storages.push(storage)
  return storage
}
afterEach(() => {
  for (const storage of storages.splice(0)) storage.disable()
})

it('S1: who is inside finds its store after everything it awaits, beside others who come and go', async () => {
  const storage = restingStorage()
  const visit = async (name: string, ticks: number) =>
    await storage.run(name, async () => {
      const seen: unknown[] = []
      for (let count = 0; count < ticks; count += 1) {
        seen.push(storage.getStore())
        await tick()
      }
      return seen
    })
  const [short, long] = await Promise.all([visit('short', 1), visit('long', 5)])
  expect(short).toEqual(['short'])
  expect(long).toEqual(['long', 'long', 'long', 'long', 'long'])
  expect(await visit('again', 2)).toEqual(['again', 'again'])
})

it('S1: one inside of another', async () => {
  const storage = restingStorage()
  const inner = async () => await storage.run('inner', async () => [await tick(storage.getStore()), storage.getStore()])
  const seen = await storage.run('outer', async () => [...(await inner()), storage.getStore()])
  expect(seen).toEqual(['inner', 'inner', 'outer'])
})

it('S2: promises of the process bear no mark of it when the last has left, and did before', async () => {
  const unmarked = marksOfPromises()
  const other = new AsyncLocalStorage<string>()
  await other.run('stays', async () => await tick())
  const marked = marksOfPromises()
  other.disable()

  const storage = restingStorage()
  const within = await storage.run('here', async () => {
    await tick()
    return marksOfPromises()
  })
  await tick()
  expect(within).toBe(marked)
  expect(marksOfPromises()).toBe(unmarked)
})

it.each([
  [
    'throws',
    () => {
      throw new Error('refused')
    },
  ],
  ['rejects', async () => await Promise.reject(new Error('refused'))],
])('S2: also after a body that %s, whose failure is passed on', async (_, body: () => unknown) => {
  const storage = restingStorage()
  await expect(async () => await storage.run('here', body)).rejects.toThrow('refused')
  await tick()
  expect(storage.getStore()).toBeUndefined()
  const unmarked = marksOfPromises()
  storage.disable()
  expect(marksOfPromises()).toBe(unmarked)
})

it('passes on arguments and answers', () => {
  expect(restingStorage().run('here', (one: number, two: number) => one + two, 1, 2)).toBe(3)
})
