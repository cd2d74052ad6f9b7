/** How steps of operations on a foreign stream server are carried out: regular activities, so that attempts, last failure and pause are seen in the UI. */
import {
  ActivityCancellationType,
  type ActivityInterfaceFor,
  type ActivityOptions,
  patched,
  proxyActivities,
  type UntypedActivities,
} from '@temporalio/workflow'

/** Once everything stands an operation only goes forward, and a compensation is repeated until it has succeeded. */
export const untilDone = {
  startToCloseTimeout: '60s',
  heartbeatTimeout: '5s', // a dead process's step goes to another one
  retry: { initialInterval: '200ms', backoffCoefficient: 2, maximumInterval: '30s' },
  cancellationType: ActivityCancellationType.TRY_CANCEL,
} as const satisfies ActivityOptions

/**
 * Steps that make streams. A cancelled one makes them until it hears of it: nothing is undone before it has ended, or it would make what was just
 * removed. To be asked for inside of the workflow: those that were begun before they waited for that go on as they began.
 */
export function endingBeforeUndone<Activities = UntypedActivities>(options: ActivityOptions): () => ActivityInterfaceFor<Activities> {
  const ending = proxyActivities<Activities>({ ...options, cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED })
  const formerly = proxyActivities<Activities>({ ...options, cancellationType: ActivityCancellationType.TRY_CANCEL })
  return () => (patched('a step ends before it is undone') ? ending : formerly)
}
