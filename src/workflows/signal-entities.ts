import { ActivityCancellationType, CancellationScope, proxyActivities, proxyLocalActivities } from '@temporalio/workflow'
import type { SignalActivities } from '../activities/signals.js'
import type { SignalBatch, SignalVerdict } from '../domain/operations.js'
import { conclude, refuseMalformed } from './answers.js'

// Closing only goes forward: both steps are repeated until they have succeeded.
const local = proxyLocalActivities<SignalActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '50ms', backoffCoefficient: 2, maximumInterval: '10s' },
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
})
const elsewhere = proxyActivities<SignalActivities>({
  startToCloseTimeout: '60s',
  heartbeatTimeout: '5s', // a dead process's step goes to another one
  retry: { initialInterval: '100ms', backoffCoefficient: 2, maximumInterval: '30s' },
  cancellationType: ActivityCancellationType.TRY_CANCEL,
})

/**
 * Ends a batch of entities (SIGKILL, SIGTERM): terminal row, signal event and closed stream together; a verdict per entity, in order.
 * A batch of one that is refused fails with the refusal (spec/05).
 */
export async function closeEntities(batch: SignalBatch): Promise<readonly SignalVerdict[]> {
  return await CancellationScope.nonCancellable(() => signalled(batch))
}

/** The other signals, for services that have a Temporal client and no HTTP: the same pass, the same verdicts. */
export async function signalEntities(batch: SignalBatch): Promise<readonly SignalVerdict[]> {
  return await CancellationScope.nonCancellable(() => signalled(batch))
}

async function signalled(batch: SignalBatch): Promise<readonly SignalVerdict[]> {
  refuseMalformed(batch)
  const begun = await local.applySignals(batch)
  if (begun.state === 'done') return conclude(begun.verdicts)
  return conclude(await elsewhere.landSignals({ operationId: batch.operationId }))
}
