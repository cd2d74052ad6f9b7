import { randomUUID } from 'node:crypto'
import { Client } from '@temporalio/client'
import { NativeConnection } from '@temporalio/worker'
import { WorkflowService } from '../../src/entities/workflow-service.js'
import { eventually } from '../support/eventually.js'
import { ownNamespace } from '../support/temporal.js'
import { TemporalProxy } from '../support/temporal-proxy.js'

/** As it is by default: shorter ones meet the pauses of a busy machine. */
const startLimitMs = 2_500
const busyLimitMs = 5_000
const unavailable = { refusal: { code: 'WORKFLOW_SERVICE_UNAVAILABLE', status: 503 } }

let namespace: string
let proxy: TemporalProxy
let connection: NativeConnection
let service: WorkflowService
let changes: string[]

beforeAll(async () => {
  namespace = await ownNamespace()
})

beforeEach(async () => {
  proxy = await TemporalProxy.start(process.env.TEST_TEMPORAL_ADDRESS ?? '')
  connection = await NativeConnection.connect({ address: proxy.address })
  changes = []
  service = new WorkflowService({
    connection,
    client: new Client({ connection, namespace }),
    startLimitMs,
    busyLimitMs,
    onChange: (state) => changes.push(state),
  })
})

afterEach(async () => {
  service.close()
  await connection.close()
  await proxy.stop()
})

const start = async () => {
  const workflowId = randomUUID()
  const handle = await service.start('nobodyRunsIt', { workflowId, taskQueue: 'nobody', args: [] })
  return { isTheOne: handle.workflowId === workflowId }
}

const after = async (ms: number) => await new Promise((come) => setTimeout(come, ms))

it('a start that takes longer than its limit is waited for where the service answers probes meanwhile', async () => {
  proxy.hold(after(1.5 * startLimitMs), 'StartWorkflowExecution')

  await expect(start()).resolves.toEqual({ isTheOne: true })
  expect([changes, service.isDown]).toEqual([[], false])
})

it('a start that is not acknowledged at all is refused when its time is over, also where probes are answered', async () => {
  proxy.hold(new Promise(() => undefined), 'StartWorkflowExecution')

  await expect(start()).rejects.toMatchObject(unavailable)
  expect(changes[0]).toBe('down')
})

it('where probes are not answered either the service is down after the limit, starts are refused at once, and recovers with it', async () => {
  let thaw: (value?: unknown) => void = () => undefined
  proxy.hold(
    new Promise((resolve) => {
      thaw = resolve
    }),
  )
  await expect(start()).rejects.toMatchObject(unavailable)
  expect([changes, service.isDown]).toEqual([['down'], true])
  await expect(start()).rejects.toMatchObject(unavailable)

  thaw()

  await eventually(() => !service.isDown)
  await expect(start()).resolves.toEqual({ isTheOne: true })
  expect(changes).toEqual(['down', 'up'])
})
