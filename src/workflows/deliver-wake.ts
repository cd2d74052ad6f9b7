import { ActivityCancellationType, continueAsNew, proxyActivities, setCurrentDetails, sleep, workflowInfo } from '@temporalio/workflow'
import type { WakeActivities } from '../activities/wakes.js'
import type { DeliverWake } from '../domain/operations.js'

const { redeliverWake } = proxyActivities<WakeActivities>({
  startToCloseTimeout: '660s', // the longest that a delivery may be allowed to take
  heartbeatTimeout: '5s', // a dead process's attempt goes to another one
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '60s' },
  cancellationType: ActivityCancellationType.TRY_CANCEL,
})

/**
 * Delivers a wake whose first delivery has failed, again and again, as late as its handler asks for or the back-off says, until it is taken, fenced,
 * or a dead letter (spec/06 §4). What has become of the wake is decided by its row: this workflow only waits.
 */
export async function deliverWake({ wakeId, retryInMs }: DeliverWake): Promise<void> {
  let delayMs = retryInMs
  for (;;) {
    setCurrentDetails(`the next delivery begins about ${Math.round(delayMs / 1_000)} s after the last one`)
    await sleep(delayMs, { summary: 'back-off' })
    const verdict = await redeliverWake({ wakeId })
    if (verdict.state === 'over') return
    delayMs = verdict.retryInMs
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof deliverWake>({ wakeId, retryInMs: delayMs })
  }
}
