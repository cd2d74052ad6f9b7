/** The same doors where streams live on a foreign Durable Streams server. */
import { Client, Connection } from '@temporalio/client'
import { close, fork, signal, spawn } from '../../src/client/index.js'
import { Wire } from '../support/wire.js'

let wire: Wire
let connection: Connection
let client: Client
beforeAll(async () => {
  wire = await Wire.start({ streams: 'http' })
  connection = await Connection.connect({ address: wire.house.temporalAddress })
  client = new Client({ connection, namespace: wire.house.namespace })
})
afterAll(async () => {
  await connection.close()
  await wire.stop()
})

const principal = 'user:sam'
const item = (url: string) => ({ url, principal })

describe('with a foreign stream server', () => {
  it('a service spawns, signals and closes, and HTTP reads it', async () => {
    await wire.register('sams', {}, principal)
    const { url } = await spawn(client, { url: '/sams/a', principal, initialMessage: { payload: 'hello' } })

    await signal(client, { url, principal, signal: 'SIGUSR' })
    await close(client, { url, principal })

    expect((await wire.events(url)).map(({ type }) => type)).toEqual(['entity_created', 'inbox', 'signal', 'signal'])
    expect((await wire.stream(url)).headers.get('stream-closed')).toBe('true')
    expect(await wire.statusOf(url)).toBe('killed')
  })

  it('a service forks, and HTTP reads it', async () => {
    await spawn(client, { url: '/sams/forked', principal, initialMessage: { payload: 'hello' } })

    const { url } = await fork(client, { source: '/sams/forked', principal, instanceId: 'copy', initialMessage: { payload: 'go on' } })

    expect((await wire.events(url)).map(({ type }) => type)).toEqual(['entity_created', 'inbox', 'entity_created', 'inbox'])
    expect(await wire.statusOf(url)).toBe('idle')
  })

  it('a service that asks again under the name of its operation is answered what it was answered the first time', async () => {
    const request = { ...item('/sams/again'), initialMessage: { payload: 'hello' } }
    const spawned = await spawn(client, request, { operationId: 'again' })
    const forks = ['x', 'y'].map((id) => ({ source: spawned.url, principal, url: `/sams/again-${id}`, instanceId: `again-${id}` }))
    const carryOut = async () =>
      await client.workflow.execute('forkSubtree', {
        workflowId: 'forks-by-hand',
        taskQueue: 'agents',
        args: [{ operationId: 'forks-again', items: forks }],
      })
    const forked = await carryOut()

    expect(await spawn(client, request, { operationId: 'again' })).toEqual(spawned)
    expect(await carryOut()).toEqual(forked)
    expect((await wire.events('/sams/again-x')).map(({ type }) => type)).toEqual(['entity_created', 'inbox', 'entity_created'])
  })

  it('what cannot be a URL is refused and does not fail the batch that it is in', async () => {
    const items = [item('/sams/b'), item('/sams/b\0'), item('/none/x'), item('/sams/b')]

    const verdicts = await client.workflow.execute('spawnEntities', {
      workflowId: 'by-hand',
      taskQueue: 'agents',
      args: [{ operationId: 'hand', items }],
    })

    expect((verdicts as { outcome: string; refusal?: { code: string } }[]).map(({ outcome, refusal }) => refusal?.code ?? outcome)).toEqual(
      ['spawned', 'INVALID_REQUEST', 'UNKNOWN_ENTITY_TYPE', 'DUPLICATE_URL'],
    )
  })
})
