import { WriteLane } from '../../../src/streams/http/lane.js'

interface Held {
  readonly done: Promise<void>
  release(): void
}

const bounds = { maxWaiting: 2, maxWaitMs: 60_000 }

function hold(lane: WriteLane, running: Set<number>, name: number): Held {
  let release = (): void => undefined
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const done = lane.run(async () => {
    running.add(name)
    await released
    running.delete(name)
  })
  return { done, release }
}

describe('the lane for writes', () => {
  it('never runs more than its width, and takes the others in order', async () => {
    const running = new Set<number>()
    const lane = new WriteLane({ width: 2, ...bounds })
    const [first, second, third, fourth] = [1, 2, 3, 4].map((name) => hold(lane, running, name)) as [Held, Held, Held, Held]
    await Promise.resolve()
    expect([...running]).toEqual([1, 2])

    first.release()
    await first.done
    await Promise.resolve()

    expect([...running]).toEqual([2, 3])
    for (const held of [second, third, fourth]) held.release()
    await Promise.all([second.done, third.done, fourth.done])
  })

  it('made narrow starts the next only when none runs', async () => {
    const running = new Set<number>()
    const lane = new WriteLane({ width: 2, ...bounds })
    const [first, second, third] = [1, 2, 3].map((name) => hold(lane, running, name)) as [Held, Held, Held]

    lane.narrow()
    first.release()
    await first.done
    expect([...running]).toEqual([2])

    second.release()
    await second.done
    await Promise.resolve()
    expect([...running]).toEqual([3])
    third.release()
    await third.done
  })

  it('refuses beyond its queue', async () => {
    const running = new Set<number>()
    const lane = new WriteLane({ width: 1, ...bounds })
    const held = [1, 2, 3].map((name) => hold(lane, running, name))

    await expect(lane.run(async () => undefined)).rejects.toMatchObject({ refusal: { code: 'OVERLOADED' } })

    for (const { release } of held) release()
    await Promise.all(held.map(({ done }) => done))
  })

  it('refuses who has waited too long, and goes on', async () => {
    const running = new Set<number>()
    const lane = new WriteLane({ width: 1, maxWaiting: 2, maxWaitMs: 20 })
    const first = hold(lane, running, 1)

    await expect(lane.run(async () => undefined)).rejects.toMatchObject({ refusal: { code: 'STREAM_SERVICE_UNAVAILABLE' } })

    first.release()
    await first.done
    expect(await lane.run(async () => 'next')).toBe('next')
  })
})
