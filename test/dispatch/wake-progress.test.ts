/** What callbacks do to a wake: however many streams it is about, each is looked at as often as it is spoken of. */
import { type Callback, WakeProgress } from '../../src/dispatch/wake-progress.js'
import { errors } from '../../src/domain/errors.js'
import { offsetOf, type StreamPath } from '../../src/domain/ids.js'
import { nothingAcked } from '../../src/domain/subscriptions.js'
import type { LinkState } from '../../src/registry/subscriptions.js'
import type { LockedWake } from '../../src/registry/wakes.js'

const many = 1_000
const pathAt = (index: number) => `/s/${String(index).padStart(6, '0')}` as StreamPath
const wake = {
  id: 's',
  wake_id: 'w',
  generation: 1,
  wake_path: pathAt(0),
  wake_entity_url: null,
  claimed_attempt: null,
  lost_leases: 0,
} as unknown as LockedWake
const heartbeat: Callback = { wakeId: 'w', generation: 1, acks: [] }
const ackTo = (path: StreamPath, position: number) => ({ path, offset: offsetOf(position) })

/** A wake about `many` streams of two entries each, and how often one of its links was looked at. */
function watched() {
  const looks = { count: 0 }
  const links = Array.from({ length: many }, (_, index): LinkState => {
    const link: LinkState = {
      subscription_id: 's',
      path: pathAt(index),
      is_explicit: true,
      acked: nothingAcked,
      tail: offsetOf(2),
      entity_status: null,
    }
    return new Proxy(link, {
      get: (target, name) => {
        looks.count += 1
        return Reflect.get(target, name)
      },
    })
  })
  const progress = new WakeProgress(new Map([['w', wake]]), links, 3)
  return { progress, looks }
}

describe('of a wake about many streams', () => {
  it('a heartbeat looks at none', () => {
    const { progress, looks } = watched()
    const before = looks.count

    expect(progress.apply(heartbeat)).toEqual({ wake, acks: [], ends: null, next: null, losses: 0 })
    expect(looks.count).toBe(before)
  })

  it('all are acknowledged in one pass, and the next wake is about the first that is left', () => {
    const { progress, looks } = watched()
    const acks = Array.from({ length: many }, (_, index) => ackTo(pathAt(many - 1 - index), index === many - 1 ? 1 : 2))

    const effect = progress.apply({ ...heartbeat, acks, ends: 'done' })

    expect(effect).toMatchObject({ ends: 'wake', next: pathAt(0), losses: 0 })
    expect(looks.count).toBeLessThan(30 * many)
  })
})

describe('acks of one stream', () => {
  it('count by the furthest of a callback, whatever their order, and for the callbacks behind it', () => {
    const { progress } = watched()
    const path = pathAt(7)

    progress.apply({ ...heartbeat, acks: [ackTo(path, 2), ackTo(path, 1)] })

    expect(progress.apply({ ...heartbeat, acks: [ackTo(path, 1)] })).toEqual(
      errors.INVALID_OFFSET('Ack offset regresses the committed cursor'),
    )
    expect(progress.apply({ ...heartbeat, acks: [ackTo(path, 2)] })).toMatchObject({
      acks: [{ subscriptionId: 's', path, offset: offsetOf(2) }],
    })
  })
})
