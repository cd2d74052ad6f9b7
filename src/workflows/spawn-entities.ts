import { ActivityCancellationType, CancellationScope, proxyActivities, proxyLocalActivities, workflowInfo } from '@temporalio/workflow'
import type { ForeignSpawnActivities } from '../activities/foreign-streams.js'
import type { SpawnActivities } from '../activities/spawns.js'
import type { SpawnBatch, SpawnVerdict } from '../domain/operations.js'
import { conclude, refuseMalformed } from './answers.js'
import { Compensations } from './compensations.js'
import { doneAnyway, endingBeforeUndone, untilDone } from './steps.js'

// The one step that every spawn takes is local: it costs no hop. It is repeated in another process when this one dies.
const local = proxyLocalActivities<SpawnActivities>({
  startToCloseTimeout: '10s',
  scheduleToCloseTimeout: '60s',
  retry: { initialInterval: '50ms', backoffCoefficient: 2, maximumInterval: '2s', maximumAttempts: 12 },
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
})

const steps = endingBeforeUndone<ForeignSpawnActivities>({
  startToCloseTimeout: '30s',
  scheduleToCloseTimeout: '60s',
  heartbeatTimeout: '5s', // a dead process's step goes to another one
  retry: { initialInterval: '100ms', backoffCoefficient: 2, maximumInterval: '5s', maximumAttempts: 10 },
})
const always = proxyActivities<ForeignSpawnActivities>(untilDone)

/**
 * Spawns a batch of entities; a verdict per entity, in order. A batch of one that is refused fails with the refusal (spec/02 §6).
 * With streams in Postgres `createEntities` does everything in one transaction; with a foreign stream server it reserves.
 */
export async function spawnEntities(batch: SpawnBatch): Promise<readonly SpawnVerdict[]> {
  refuseMalformed(batch)
  const undo = new Compensations()
  const verdicts = await create(batch, undo).catch(async (failure: unknown) => {
    await undo.run()
    return await doneAnyway<SpawnVerdict>(batch.operationId, failure)
  })
  const landed = () => always.landAppends({ operationId: batch.operationId })
  return conclude(verdicts ?? (await CancellationScope.nonCancellable(landed)))
}

/** Up to the moment in which the entities exist. Null: their first messages are still to be landed. */
async function create(batch: SpawnBatch, undo: Compensations): Promise<readonly SpawnVerdict[] | null> {
  const { operationId } = batch
  const { runId: run } = workflowInfo()
  undo.add(() => always.dropReservations({ operationId, run }))
  const begun = await local.createEntities({ ...batch, run })
  if (begun.state === 'done') return begun.verdicts
  undo.add(() => always.dropStreams({ operationId }))
  const { createStreams, activateEntities } = steps()
  await activateEntities(await createStreams({ operationId }))
  return null
}
