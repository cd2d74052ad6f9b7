/** How steps of operations on a foreign stream server are carried out: regular activities, so that attempts, last failure and pause are seen in the UI. */
import {
  ActivityCancellationType,
  type ActivityInterfaceFor,
  type ActivityOptions,
  CancellationScope,
  patched,
  proxyActivities,
  type UntypedActivities,
} from '@temporalio/workflow'
import type { OutcomeActivities } from '../activities/outcomes.js'
import type { OperationId } from '../domain/ids.js'
import type { Verdict } from '../domain/operations.js'

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

const always = proxyActivities<OutcomeActivities>(untilDone)

/**
 * After the compensations of an operation that failed or was cancelled: its last step may have been carried out before it heard of that. Then there was
 * nothing to undo, and the operation answers what it has done; otherwise `failure` is thrown.
 */
export async function doneAnyway<Answer extends Verdict>(operationId: OperationId, failure: unknown): Promise<readonly Answer[]> {
  if (!patched('what is done is answered')) throw failure
  const verdicts = await CancellationScope.nonCancellable(() => always.findVerdicts({ operationId }))
  if (verdicts === null) throw failure
  return verdicts as readonly Answer[] // an operation of this kind has this kind's verdicts
}
