import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow'
import type { SweepActivities, SweepReport } from '../activities/sweep.js'

const activities = proxyActivities<SweepActivities>({
  startToCloseTimeout: '120s',
  heartbeatTimeout: '5s', // a dead process's step goes to another one
  retry: { initialInterval: '1s', maximumInterval: '10s', maximumAttempts: 3 }, // the Schedule comes again soon
  cancellationType: ActivityCancellationType.TRY_CANCEL,
})

/** The safety net, started by the Schedule of the same name. */
export async function sweep(): Promise<SweepReport> {
  return await activities.sweepLeftovers()
}
