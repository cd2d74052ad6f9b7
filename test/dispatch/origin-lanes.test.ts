import { jest } from '@jest/globals'
import { OriginLanes } from '../../src/dispatch/origin-lanes.js'

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] })
})
afterEach(() => {
  jest.useRealTimers()
})

/** Works that go on until they are told how they went, oldest first. */
class Works {
  readonly #ends: ((isInTime: boolean) => void)[] = []
  begun = 0

  readonly work = async (): Promise<boolean> => {
    this.begun += 1
    return await new Promise<boolean>((resolve) => this.#ends.push(resolve))
  }

  async end(isInTime: boolean, count = 1): Promise<void> {
    for (const resolve of this.#ends.splice(0, count)) resolve(isInTime)
    await new Promise(setImmediate)
  }
}

const lanesOf = (bounds: Partial<ConstructorParameters<typeof OriginLanes>[0]>) =>
  new OriginLanes({ perOrigin: 8, most: 100, maxWaiting: 100, ...bounds })

function fill(lanes: OriginLanes, count: number, origin = 'a'): Works {
  const works = new Works()
  for (let nth = 0; nth < count; nth += 1) lanes.add(origin, works.work)
  return works
}

it('a lane has its places, all lanes together have theirs, and what is free goes to whoever waits', async () => {
  const lanes = lanesOf({ perOrigin: 3, most: 4 })
  const [first, second] = [fill(lanes, 5, 'a'), fill(lanes, 5, 'b')]
  expect([first.begun, second.begun, lanes.running, lanes.waiting]).toEqual([3, 1, 4, 6])

  await first.end(true)
  expect([first.begun, second.begun, lanes.running]).toEqual([4, 1, 4])
  await first.end(true, 4)
  expect([first.begun, second.begun, lanes.running]).toEqual([5, 3, 4])
})

it('what is free goes to the lanes in turns: a few that have much to do keep nobody waiting (R0)', async () => {
  const lanes = lanesOf({ perOrigin: 3, most: 4 })
  const busy = [fill(lanes, 20, 'a'), fill(lanes, 20, 'b')] as const
  const other = fill(lanes, 2, 'c')

  for (const works of busy) await works.end(true)
  expect(other.begun).toBe(0)
  for (const works of busy) await works.end(true)
  expect(other.begun).toBe(1)
})

it('what waits is bounded', () => {
  const lanes = lanesOf({ perOrigin: 1, maxWaiting: 1 })
  const { work } = new Works()

  expect([lanes.add('a', work), lanes.add('a', work), lanes.add('a', work), lanes.add('b', work)]).toEqual([true, true, false, true])
})

it('a lane begins with few; each that ends in time leaves a credit besides its own place, up to the places of the lane', async () => {
  const works = fill(lanesOf({ fresh: 2 }), 30)
  expect(works.begun).toBe(2)

  await works.end(true)
  expect(works.begun).toBe(4)
  await works.end(true, 3)
  expect(works.begun).toBe(4 + 3 + 2) // a credit of each, the places of the two that had begun without one
  await works.end(true, 5)
  expect(works.begun).toBe(9 + 5 + 2)
  await works.end(true, 7)
  expect(works.begun).toBe(16 + 8) // 8 places
})

it('after each fresh one that runs out of time half as many may be fresh, but one; those that do not bring the others back', async () => {
  const works = fill(lanesOf({ fresh: 4 }), 30)
  expect(works.begun).toBe(4)

  await works.end(false, 3)
  expect(works.begun).toBe(4) // one may be fresh, and is
  await works.end(false)
  expect(works.begun).toBe(5)
  await works.end(true)
  expect(works.begun).toBe(5 + 1 + 2) // by its credit, and two may be fresh
})

it('where no bound is set for fresh ones, those that run out of time cost no place', async () => {
  const works = fill(lanesOf({}), 30)
  expect(works.begun).toBe(8)

  await works.end(false, 8)
  expect(works.begun).toBe(16)
})

it('a credit that nobody takes in time is lost', async () => {
  const lanes = lanesOf({ fresh: 2 })
  const first = fill(lanes, 2)
  await first.end(true)
  jest.advanceTimersByTime(1_001)

  expect(fill(lanes, 5).begun).toBe(1)
})

it('who has been under way for long is no longer fresh: works that hang fill their places by and by, and no more than these', async () => {
  const works = fill(lanesOf({ fresh: 3 }), 30)
  jest.advanceTimersByTime(4_999)
  expect(works.begun).toBe(3)

  jest.advanceTimersByTime(1)
  expect(works.begun).toBe(6)
  jest.advanceTimersByTime(5_000)
  expect(works.begun).toBe(8)
  await works.end(false)
  expect(works.begun).toBe(8)
  jest.advanceTimersByTime(5_000)
  expect(works.begun).toBe(9)
})

it('credits are those of their lane', async () => {
  const lanes = lanesOf({ fresh: 2 })
  await fill(lanes, 3, 'a').end(true, 2)

  expect(fill(lanes, 30, 'b').begun).toBe(2)
})
