/** A Temporal namespace of the test's own, on the server that the run started. */
import { randomBytes } from 'node:crypto'
import { Connection, ScheduleClient, ScheduleNotFoundError } from '@temporalio/client'
import { searchAttributes, sweepScheduleId } from '../../src/client/starts.js'
import { eventually } from './eventually.js'

const indexedValueTypes = { Keyword: 2, KeywordList: 7 } as const

/** Registers a namespace with our search attributes; returns its name when workflows can start in it. */
export async function ownNamespace(address = process.env.TEST_TEMPORAL_ADDRESS ?? ''): Promise<string> {
  const namespace = `test-${randomBytes(6).toString('hex')}`
  const connection = await Connection.connect({ address })
  try {
    await connection.workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod: { seconds: 24 * 3_600 } as never }) // a Long in types only
    await eventually(async () => {
      await connection.workflowService.listWorkflowExecutions({ namespace, pageSize: 1 })
      return true
    })
    const types = Object.entries(searchAttributes).map(([name, type]) => [name, indexedValueTypes[type]])
    await connection.operatorService.addSearchAttributes({ namespace, searchAttributes: Object.fromEntries(types) })
    await eventually(async () => {
      const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace })
      return Object.keys(searchAttributes).every((name) => name in customAttributes)
    })
    return namespace
  } finally {
    await connection.close()
  }
}

/** Ends what a namespace would go on with when its house is gone: a sweep every 10 s, for the rest of the run. */
export async function quietNamespace(address: string, namespace: string, taskQueue: string): Promise<void> {
  const connection = await Connection.connect({ address })
  try {
    await new ScheduleClient({ connection, namespace }).getHandle(sweepScheduleId(taskQueue)).delete()
  } catch (failure) {
    if (!(failure instanceof ScheduleNotFoundError)) throw failure // the house never started
  } finally {
    await connection.close()
  }
}
