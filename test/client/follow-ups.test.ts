import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client'
import { FollowUps } from '../../src/client/follow-ups.js'
import { FollowUpQueue } from '../../src/dispatch/follow-up-queue.js'
import type { EntityUrl } from '../../src/domain/ids.js'
import type { StartedWake } from '../../src/registry/deliveries.js'

const url = '/chat/a' as EntityUrl
const wake: StartedWake = {
  wakeId: 'w_1',
  subscriptionId: 'entity:/chat/a',
  type: 'webhook',
  generation: 1,
  attempts: 1,
  webhookUrl: null,
  entityUrl: url,
}

/** Whether a wake was handed over, and what was said, where every start of a workflow fails with `failure`. */
async function whereStartsFailWith(failure: Error) {
  const warned: unknown[] = []
  const queue = new FollowUpQueue((...warning) => warned.push(warning))
  const start = async () => await Promise.reject(failure)
  queue.tells(new FollowUps({ client: {} as never, start, taskQueue: 'agents', attributeBytes: null, graceMs: 1 })) // nothing but starts is asked for
  queue.stopping([url])
  const isHandedOver = await queue.deliver(wake, 1_000)
  await queue.drained()
  return { isHandedOver, warned }
}

it.each([
  ['agents', 'stop:/chat/a'],
  ['agents:b', 'agents:b:stop:/chat/a'],
])('tenants in one namespace stop the same URL independently: %s', async (taskQueue, workflowId) => {
  const ids: unknown[] = []
  const start = async (_type: string, options: { workflowId: string }) => ids.push(options.workflowId)
  const signal = async () => ids.push('signalled')
  const getHandle = (id: string) => {
    ids.push(id)
    return { signal }
  }
  const followUps = new FollowUps({ client: { workflow: { getHandle } } as never, start, taskQueue, attributeBytes: null, graceMs: 1 })

  await followUps.stop(url)
  await followUps.stopped(url)

  expect(ids).toEqual([workflowId, workflowId, 'signalled'])
})

it('a workflow that could not be started is said to be: its row is found by its deadline', async () => {
  const failure = new Error('away')
  const warning = [failure, 'the workflow service could not be told; its row is found without it']

  expect(await whereStartsFailWith(failure)).toEqual({ isHandedOver: false, warned: [warning, warning] })
})

it('a workflow that has been started already is there, and nothing is amiss', async () => {
  const failure = new WorkflowExecutionAlreadyStartedError('there', 'stop:/chat/a', 'stopEntity')

  expect(await whereStartsFailWith(failure)).toEqual({ isHandedOver: true, warned: [] })
})
