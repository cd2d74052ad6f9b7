/**
 * `npm run histories`: carries out every operation in every way that its history can look, on real parts, and writes test/histories/*.json.
 * To be run when a workflow gets a new path. Files of workflows that have changed under running ones are kept: they must still replay.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { Client, Connection, type WorkflowHandle } from '@temporalio/client'
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js'
import { eventually } from '../support/eventually.js'
import type { HouseOptions } from '../support/house.js'
import { textOf } from '../support/wake.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { Wire } from '../support/wire.js'
import { historiesFolder } from './histories.js'

const principal = 'system:dev-local'
const mostMs = 120_000
const item = (url: string, more: object = {}) => ({ url, principal, ...more })
const forkOf = (source: string, instanceId: string, more: object = {}) => item(`/chat/${instanceId}`, { source, instanceId, ...more })
const killOf = (url: string) => item(url, { signal: 'SIGKILL', permission: 'signal' })

class Recorder {
  readonly wire: Wire
  readonly #client: Client
  readonly #connection: Connection

  private constructor(wire: Wire, connection: Connection) {
    this.wire = wire
    this.#connection = connection
    this.#client = new Client({ connection, namespace: wire.house.namespace })
  }

  static async start(options: HouseOptions): Promise<Recorder> {
    const wire = await Wire.start({ replicas: 1, ...options })
    return new Recorder(wire, await Connection.connect({ address: wire.house.temporalAddress }))
  }

  async stop(): Promise<void> {
    await this.#connection.close()
    await this.wire.stop()
  }

  /** Starts a workflow under the name of its case. */
  async begin(workflow: string, name: string, items: readonly object[]): Promise<WorkflowHandle> {
    const workflowId = `${workflow}-${name}`
    return await this.#client.workflow.start(workflow, { workflowId, taskQueue: 'agents', args: [{ operationId: workflowId, items }] })
  }

  /** Writes the history of a workflow that has ended, however it ended. */
  async keep(handle: WorkflowHandle): Promise<void> {
    await handle.result().catch(() => undefined)
    await this.#write(handle.workflowId, handle)
  }

  async run(workflow: string, name: string, items: readonly object[]): Promise<void> {
    await this.keep(await this.begin(workflow, name, items))
  }

  /** Writes the history of an operation that came over HTTP: started eagerly, in a batch. */
  async keepFound(workflow: string, name: string, query = `ExecutionTime > '2000-01-01T00:00:00Z'`): Promise<void> {
    const found = await eventually(async () => {
      for await (const execution of this.#client.workflow.list({
        query: `WorkflowType = '${workflow}' AND ExecutionStatus = 'Completed' AND ${query}`,
      }))
        return execution
      return undefined
    })
    await this.#write(`${workflow}-${name}`, this.#client.workflow.getHandle(found.workflowId, found.runId))
  }

  /** Waits until an activity of `handle` has failed at least once. */
  async retried(handle: WorkflowHandle): Promise<void> {
    await eventually(
      async () => {
        const { raw } = await handle.describe()
        return (raw.pendingActivities ?? []).some(({ attempt }) => (attempt ?? 0) > 1)
      },
      { withinMs: 30_000 },
    )
  }

  async #write(name: string, handle: WorkflowHandle): Promise<void> {
    await mkdir(historiesFolder, { recursive: true })
    await writeFile(new URL(`${name}.json`, historiesFolder), `${historyToJSON(await handle.fetchHistory())}\n`)
  }
}

/** A test that records in a house of its own. */
const recording = (options: HouseOptions, record: (recorder: Recorder) => Promise<void>) => async (): Promise<void> => {
  const recorder = await Recorder.start(options)
  try {
    await record(recorder)
  } finally {
    await recorder.stop()
  }
}

it(
  'histories with streams in Postgres are recorded',
  recording({}, async (recorder) => {
    const { wire } = recorder
    await wire.spawned('/chat/http', { initialMessage: 'hello' })
    await recorder.keepFound('spawnEntities', 'http', `EntityUrls = '/chat/http'`)
    await recorder.run('spawnEntities', 'one', [item('/chat/one', { initialMessage: { payload: 'hello' } })])
    await recorder.run('spawnEntities', 'refused', [item('/chat/one')])
    await recorder.run('spawnEntities', 'batch', [item('/chat/a'), item('/chat/b'), item('/chat/one'), item('/none/x')])
    await recorder.run('signalEntities', 'one', [item('/chat/a', { signal: 'SIGSTOP', permission: 'signal' })])
    await recorder.run('signalEntities', 'refused', [item('/chat/none', { signal: 'SIGSTOP', permission: 'signal' })])
    await recorder.run('closeEntities', 'batch', [killOf('/chat/a'), killOf('/chat/none')])
    await recorder.run('closeEntities', 'refused', [killOf('/chat/a')])
    await wire.kill('/chat/http')
    await recorder.keepFound('closeEntities', 'http', `EntityUrls = '/chat/http'`)
    await recorder.keepFound('sweep', 'postgres')
  }),
  mostMs,
)

it(
  'histories with a foreign stream server are recorded',
  recording({ streams: 'http' }, async (recorder) => {
    const { house } = recorder.wire
    await recorder.run('spawnEntities', 'foreign', [item('/chat/a', { initialMessage: { payload: 'hello' } }), item('/chat/b')])
    await recorder.run('spawnEntities', 'foreign-refused', [item('/chat/a')])

    await house.kill('streams')
    const [retried, cancelled, closing] = await Promise.all([
      recorder.begin('spawnEntities', 'foreign-retried', [item('/chat/c', { initialMessage: { payload: 'hello' } })]),
      recorder.begin('spawnEntities', 'foreign-late-cancelled', [item('/chat/d')]),
      recorder.begin('closeEntities', 'foreign-retried', [killOf('/chat/b')]),
    ])
    await Promise.all([retried, cancelled, closing].map(async (handle) => await recorder.retried(handle)))
    await cancelled.cancel()
    await house.restart('streams')
    for (const handle of [retried, cancelled, closing]) await recorder.keep(handle)

    await recorder.run('closeEntities', 'foreign', [killOf('/chat/a')])
    await recorder.run('signalEntities', 'foreign', [item('/chat/c', { signal: 'SIGUSR', permission: 'signal' })])
    await recorder.keepFound('sweep', 'foreign')
  }),
  mostMs,
)

/** A root with children, of which the first is at work if `status` says so. */
async function subtree({ wire }: Recorder, root: string, children: number, status = 'idle'): Promise<string> {
  await wire.spawned(root)
  const kids = Array.from({ length: children }, (_, nth) => `${root}-kid-${nth}`)
  for (const kid of kids) await wire.spawned(kid, { parent: root })
  await wire.putInto(status, kids[0] ?? '')
  return kids[0] ?? ''
}

it(
  'histories of forks with streams in Postgres are recorded',
  recording({}, async (recorder) => {
    const { wire } = recorder
    await subtree(recorder, '/chat/root', 2)
    const busy = await subtree(recorder, '/chat/busy', 1, 'running')
    const untilWaiting = async (name: string) =>
      await eventually(async () => (await wire.sql('SELECT FROM waiters WHERE workflow_id = $1', `forkSubtree-${name}`)).length > 0)
    await wire.ask('POST', '/_electric/entities/chat/root/fork', { instance_id: 'http' })
    await recorder.keepFound('forkSubtree', 'http', `EntityUrls = '/chat/http'`)
    await recorder.run('forkSubtree', 'one', [forkOf('/chat/root', 'one', { initialMessage: { payload: 'hello' } })])
    await recorder.run('forkSubtree', 'refused', [forkOf('/chat/root', 'one')])
    await recorder.run('forkSubtree', 'batch', [
      forkOf('/chat/root', 'a'),
      forkOf('/chat/root', 'one'),
      forkOf('/chat/busy', 'b'),
      forkOf('/chat/none', 'c'),
    ])
    await recorder.run('forkSubtree', 'late-refused', [forkOf('/chat/busy', 'late', { waitTimeoutMs: 300 })])
    const cancelled = await recorder.begin('forkSubtree', 'cancelled', [forkOf('/chat/busy', 'cancelled')])
    await untilWaiting('cancelled')
    await cancelled.cancel()
    await recorder.keep(cancelled)
    const waited = await recorder.begin('forkSubtree', 'waited', [forkOf('/chat/busy', 'waited')])
    await untilWaiting('waited')
    await wire.signal(busy, { signal: 'SIGSTOP' })
    await recorder.keep(waited)
  }),
  mostMs,
)

it(
  'histories of forks with a foreign stream server are recorded',
  recording({ streams: 'http' }, async (recorder) => {
    const { wire } = recorder
    const { house } = wire
    await subtree(recorder, '/chat/root', 2)
    await subtree(recorder, '/chat/large', 40)
    await recorder.run('forkSubtree', 'foreign', [
      forkOf('/chat/root', 'one', { initialMessage: { payload: 'hello' } }),
      forkOf('/chat/root', 'two'),
    ])
    await recorder.run('forkSubtree', 'foreign-refused', [forkOf('/chat/root', 'one')])

    const [retried, cancelled] = await Promise.all([
      recorder.begin('forkSubtree', 'foreign-retried', [forkOf('/chat/large', 'retried')]),
      recorder.begin('forkSubtree', 'foreign-late-cancelled', [forkOf('/chat/large', 'cancelled')]),
    ])
    await eventually(async () => (await wire.sql('SELECT DISTINCT reserved_by FROM entities WHERE reserved_by IS NOT NULL')).length === 2)
    await house.kill('streams') // while the streams of 41 entities are made
    await Promise.all([retried, cancelled].map(async (handle) => await recorder.retried(handle)))
    await cancelled.cancel()
    await house.restart('streams')
    for (const handle of [retried, cancelled]) await recorder.keep(handle)
  }),
  mostMs,
)

describe('histories of dispatch', () => {
  let recorder: Recorder
  let handler: WebhookHandler
  let mayEnd: () => void = () => undefined

  beforeAll(async () => {
    recorder = await Recorder.start({ env: { ELECTRIC_AGENTS_STOP_GRACE_MS: '2000' } })
    handler = await WebhookHandler.start({
      baseUrl: recorder.wire.url,
      handler: async ({ events }) => {
        if (events.some((event) => textOf(event) === 'wait')) await new Promise<void>((resolve) => (mayEnd = resolve))
      },
    })
    await recorder.wire.ask('POST', '/_electric/entity-types', {
      name: 'echo',
      description: 'echoes',
      default_dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] },
    })
  })
  afterAll(async () => {
    await handler.stop()
    await recorder.stop()
  })

  it('are recorded', async () => {
    const { wire } = recorder
    handler.order({ kind: 'status', status: 500 }, { times: 2 })
    await wire.spawned('/echo/late', { initialMessage: 'hello' })
    await eventually(() => handler.log.timesHandled('hello') === 1)
    await recorder.keepFound('deliverWake', 'retried', `EntityUrls = '/echo/late'`)

    await wire.spawned('/echo/done', { initialMessage: 'wait' })
    await eventually(async () => (await wire.statusOf('/echo/done')) === 'running' && handler.log.running().length === 1)
    await wire.signal('/echo/done', { signal: 'SIGTERM' })
    mayEnd()
    await recorder.keepFound('stopEntity', 'done', `EntityUrls = '/echo/done'`)

    handler.order({ kind: 'die', at: 'claimed' }, { times: 1 })
    await wire.spawned('/echo/lost', { initialMessage: 'hello' })
    await eventually(async () => (await wire.statusOf('/echo/lost')) === 'running')
    await wire.signal('/echo/lost', { signal: 'SIGTERM' })
    await recorder.keepFound('stopEntity', 'grace', `EntityUrls = '/echo/lost'`)
    expect(await wire.statusOf('/echo/lost')).toBe('stopped')
  })
})
