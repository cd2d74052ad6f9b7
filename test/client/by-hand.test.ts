/** Workflows that are started by hand, with whatever JSON there is: each ends, with verdicts or with a refusal, and none is tried for ever. */
import { Client, Connection, WorkflowFailedError } from '@temporalio/client'
import { refusalOf } from '../../src/client/index.js'
import { Wire } from '../support/wire.js'

const types = ['spawnEntities', 'forkSubtree', 'closeEntities', 'signalEntities'] as const
type Type = (typeof types)[number]

const principal = 'system:dev-local'
const wholeItems: Readonly<Record<Type, object>> = {
  spawnEntities: { url: '/chat/made', principal },
  forkSubtree: { source: '/chat/there', url: '/chat/made', instanceId: 'made', principal },
  closeEntities: { url: '/chat/there', principal, signal: 'SIGKILL', permission: 'signal' },
  signalEntities: { url: '/chat/there', principal, signal: 'SIGSTOP', permission: 'signal' },
}

describe.each(['postgres', 'http'] as const)('with streams in %s', (streams) => {
  let wire: Wire
  let connection: Connection
  let client: Client
  beforeAll(async () => {
    wire = await Wire.start({ streams, replicas: 1 })
    connection = await Connection.connect({ address: wire.house.temporalAddress })
    client = new Client({ connection, namespace: wire.house.namespace })
    await wire.spawned('/chat/there')
    await wire.register('strict', { creation_schema: { type: 'object', additionalProperties: { type: 'string' } } })
  })
  afterAll(async () => {
    await connection.close()
    await wire.stop()
  })

  let started = 0
  const carryOut = async (type: Type, ...args: readonly unknown[]): Promise<unknown> => {
    started += 1
    return await client.workflow.execute(type, {
      workflowId: `by-hand-${started}`,
      taskQueue: 'agents',
      args: [...args],
      workflowExecutionTimeout: '20s', // it fails by itself long before
    })
  }
  const refusedBy = async (work: Promise<unknown>) => {
    const failure: unknown = await work.then(
      (value) => new Error(`not refused: ${JSON.stringify(value)}`),
      (reason: unknown) => reason,
    )
    return refusalOf(failure) ?? failure
  }

  it.each(types)('%s refuses what is no batch, and begins nothing', async (type) => {
    const whole = wholeItems[type]
    const [before] = await wire.sql('SELECT count(*) AS n, max(status) AS status FROM entities')
    const malformed = [
      ...[null, 7, 'x', [], {}, { operationId: 'x' }, { items: [whole] }],
      ...[null, 'x', {}, [null], [7], [whole, 'x'], [[]]].map((items) => ({ operationId: 'malformed', items })),
      ...[null, 7, '', {}, 'a\0', 'x'.repeat(901)].map((operationId) => ({ operationId, items: [whole] })),
      ...[null, 7, {}, '\0'].map((payloadId) => ({ operationId: 'malformed', items: [{ ...whole, payloadId }] })),
      ...['url', 'source'].map((name) => ({ operationId: 'malformed', items: [{ ...whole, [name]: 'x'.repeat(1_500_000) }] })),
      { operationId: 'malformed', items: Array.from({ length: 6_000 }, () => ({ url: '/chat/x' })) },
    ]

    const refused = { code: 'INVALID_REQUEST', status: 400, message: 'Request body does not match API schema', details: expect.anything() }
    expect(await Promise.all(malformed.map(async (batch) => await refusedBy(carryOut(type, batch))))).toEqual(malformed.map(() => refused))
    expect(await refusedBy(carryOut(type))).toEqual(refused)
    expect(await wire.sql('SELECT count(*) AS n, max(status) AS status FROM entities')).toEqual([before])
  })

  it.each(types)('%s refuses an item with a malformed caller', async (type) => {
    for (const wrong of [null, 7, {}])
      expect(
        await refusedBy(carryOut(type, { operationId: `caller-${type}`, items: [{ ...wholeItems[type], principal: wrong }] })),
      ).toMatchObject({
        code: 'INVALID_REQUEST',
      })
  })

  it.each(types)('%s fails where what its item waits for is not there', async (type) => {
    const failure = await refusedBy(carryOut(type, { operationId: `gone-${type}`, items: [{ ...wholeItems[type], payloadId: 'gone' }] }))

    expect(failure).toBeInstanceOf(WorkflowFailedError)
    expect((failure as WorkflowFailedError).cause).not.toMatchObject({ name: 'TimeoutFailure' })
    expect((await wire.get('/chat/made')).status).toBe(404)
    expect(await wire.statusOf('/chat/there')).toBe('idle')
  })

  it('a batch whose refusals say more than Temporal carries answers each without what does not fit', async () => {
    const args = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`a-member-that-is-no-text-${index}`, 7]))
    const items = Array.from({ length: 256 }, (_, index) => ({ url: `/strict/${index}`, principal, args }))

    const verdicts = (await carryOut('spawnEntities', { operationId: 'many-refusals', items })) as readonly { refusal: object }[]

    expect(verdicts).toHaveLength(items.length)
    expect(verdicts[0]?.refusal).toMatchObject({ code: 'SCHEMA_VALIDATION_FAILED', details: expect.anything() })
    expect(verdicts.at(-1)?.refusal).toEqual({ code: 'SCHEMA_VALIDATION_FAILED', status: 422, message: 'Validation failed' })
  })

  it('a refusal that quotes more than Temporal carries is cut', async () => {
    const item = {
      url: '/chat/quoting',
      principal,
      tags: Object.fromEntries(Array.from({ length: 90_000 }, (_, index) => [`t${index}`, 7])),
    }

    expect(await refusedBy(carryOut('spawnEntities', { operationId: 'quoting', items: [item] }))).toMatchObject({
      code: 'INVALID_REQUEST',
      details: { length: 100 },
    })
    const large = { url: `/${'q'.repeat(600_000)}/x`, principal, signal: 'SIGKILL', permission: 'signal' }
    expect(await refusedBy(carryOut('closeEntities', { operationId: 'large', items: [large] }))).toMatchObject({ status: 404 })
  })
})
