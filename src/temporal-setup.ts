/** What a namespace must know before work begins: search attributes, and the Schedule of the sweep. */
import { type Client, ScheduleAlreadyRunning, ScheduleOverlapPolicy } from '@temporalio/client'
import type { NativeConnection } from '@temporalio/worker'
import type { Logger } from 'pino'
import { searchAttributes, sweepScheduleId } from './client/starts.js'
import { StartFailure } from './process.js'

const sweepEvery = '10s'
const setupLimitMs = 10_000

/** Registers the search attributes that are missing. False where the namespace refuses them: operations then run without. */
export async function ensureSearchAttributes(connection: NativeConnection, namespace: string, log: Logger): Promise<boolean> {
  try {
    return await connection.withDeadline(Date.now() + setupLimitMs, async () => {
      const known = await connection.operatorService.listSearchAttributes({ namespace })
      const missing = Object.entries(searchAttributes).filter(([name]) => known.customAttributes?.[name] === undefined)
      if (missing.length === 0) return true
      await connection.operatorService.addSearchAttributes({
        namespace,
        searchAttributes: Object.fromEntries(missing.map(([name, type]) => [name, valueTypes[type]])),
      })
      return true
    })
  } catch (failure) {
    log.warn(
      { reason: failure instanceof Error ? failure.message : String(failure) },
      'no search attributes: operations cannot be found by entity URL',
    )
    return false
  }
}

/** `temporal.api.enums.v1.IndexedValueType`. */
const valueTypes = { Keyword: 2, KeywordList: 7 } as const

/** The Schedule `sweep`, one per task queue; a repeated start finds it there. */
export async function ensureSweep(client: Client, taskQueue: string, log: Logger): Promise<void> {
  const scheduleId = sweepScheduleId(taskQueue)
  try {
    await client.schedule.create({
      scheduleId,
      spec: { intervals: [{ every: sweepEvery }] },
      policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '10s' },
      action: {
        type: 'startWorkflow',
        workflowType: 'sweep',
        workflowId: scheduleId,
        taskQueue,
        args: [],
        staticSummary: 'what dead processes left behind',
      },
    })
    log.info({ scheduleId, every: sweepEvery }, 'sweep scheduled')
  } catch (failure) {
    if (failure instanceof ScheduleAlreadyRunning) return
    throw new StartFailure(
      `Temporal does not take the Schedule of task queue "${taskQueue}"`,
      failure,
      'Correct the queue or the namespace.',
    )
  }
}
