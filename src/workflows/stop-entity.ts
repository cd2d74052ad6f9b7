import { ActivityCancellationType, CancellationScope, condition, defineSignal, proxyActivities, setHandler } from '@temporalio/workflow'
import type { WakeActivities } from '../activities/wakes.js'
import type { StopEntity } from '../domain/operations.js'

const { stopWithoutHandler } = proxyActivities<WakeActivities>({
  startToCloseTimeout: '30s',
  heartbeatTimeout: '5s',
  retry: { initialInterval: '200ms', backoffCoefficient: 2, maximumInterval: '30s' },
  cancellationType: ActivityCancellationType.TRY_CANCEL,
})

/** The handler's wake is over, and its entity has stopped. */
export const stopped = defineSignal('stopped')

/**
 * SIGTERM on an entity that is worked on: waits for its handler's `done`, which stops it, or for the end of the grace period; then it is stopped
 * without its handler, whose claim is fenced (spec/05 §6). Stopping only goes forward.
 */
export async function stopEntity({ url, graceMs }: StopEntity): Promise<void> {
  await CancellationScope.nonCancellable(async () => {
    let hasStopped = false
    setHandler(stopped, () => {
      hasStopped = true
    })
    if (!(await condition(() => hasStopped, graceMs, { summary: 'grace period' }))) await stopWithoutHandler({ url })
  })
}
