import { Client, Connection, WorkflowFailedError } from '@temporalio/client'
import { AgentsError, close, type ForkRequest, fork, refusalOf, signal, spawn } from '../../src/client/index.js'
import { eventually } from '../support/eventually.js'
import { type Answer, Wire } from '../support/wire.js'

let wire: Wire
let connection: Connection
let client: Client
beforeAll(async () => {
  wire = await Wire.start()
  await wire.register('sams', {}, 'user:sam')
  await wire.register('strict', {
    creation_schema: { type: 'object', additionalProperties: { type: 'string' } },
    inbox_schemas: { query: { type: 'number' } },
  })
  connection = await Connection.connect({ address: wire.house.temporalAddress }) // plain grpc-js: all that a service has
  client = new Client({ connection, namespace: wire.house.namespace })
})
afterAll(async () => {
  await connection.close()
  await wire.stop()
})

const caller = 'system:dev-local'

/** What a service sees of a refusal. */
async function refusedBy(work: Promise<unknown>): Promise<object> {
  const failure: unknown = await work.then(
    (value) => new Error(`not refused: ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  if (!(failure instanceof AgentsError)) throw failure
  return failure.refusal
}

const refusedOverHttp = ({ status, body }: Answer): Readonly<Record<string, unknown>> => ({ status, ...(body as { error: object }).error })

describe('a spawn through Temporal', () => {
  it('is complete when it returns, and readable over HTTP', async () => {
    const request = { url: '/chat/a', principal: caller, args: { x: 1 }, tags: { b: '2', a: '1' }, initialMessage: { payload: 'hello' } }
    const { url, txid, createdAt } = await spawn(client, request)

    expect(url).toBe('/chat/a')
    expect((await wire.get(url)).body).toMatchObject({
      status: 'idle',
      spawn_args: { x: 1 },
      tags: { a: '1', b: '2' },
      created_at: createdAt,
    })
    expect((await wire.events(url)).map(({ type, value }) => [type, value?.payload])).toEqual([
      ['entity_created', undefined],
      ['inbox', 'hello'],
    ])
    expect(await wire.sql('SELECT xmin::text AS xmin FROM entities WHERE url = $1', url)).toEqual([{ xmin: String(txid) }])
  })

  it.each(['user:sam', '/principal/user%3Asam', '/principal/user:sam'])(
    'makes the entity of its caller, however it is spelled: %s',
    async (principal) => {
      await wire.sql(`DELETE FROM streams WHERE path LIKE '/principal/%'`)
      await wire.sql(`DELETE FROM entities WHERE type = 'principal'`)

      await spawn(client, { url: `/sams/${encodeURIComponent(principal)}`, principal })

      expect(await wire.sql(`SELECT url, created_by FROM entities WHERE type = 'principal'`)).toEqual([
        { url: '/principal/user%3Asam', created_by: '/principal/user%3Asam' },
      ])
    },
  )

  it('is an agent’s own, whom an embedding program calls by its path (spec/01 §3)', async () => {
    const agent = '/principal/agent%3Achat%2Fa'
    await wire.register('helpers', {}, 'user:sam')
    await wire.sql(`UPDATE entity_type_managers SET principal = '${agent}' WHERE entity_type = 'helpers'`)

    const spawned = await spawn(client, { url: '/helpers/1', principal: agent })
    const { urls } = await fork(client, { source: spawned.url, principal: agent, instanceId: '2' })

    expect(urls).toEqual(['/helpers/2'])
    expect(await wire.sql(`SELECT url, created_by FROM entities WHERE url IN ('${agent}', '/helpers/1') ORDER BY url`)).toEqual([
      { url: '/helpers/1', created_by: agent },
      { url: agent, created_by: agent },
    ])
  })

  it.each([
    ['a reserved type', '/_chat/x', {}],
    ['a principal', '/principal/user:kim', {}],
    ['an impossible URL', '/chat/a*', {}],
    ['an unknown type', '/none/x', {}],
    ['a missing parent', '/chat/x', { parent: '/chat/none' }],
    ['an unknown runner', '/chat/x', { dispatch_policy: { targets: [{ type: 'runner', runnerId: 'r1' }] } }],
    ['a bad webhook', '/chat/x', { dispatch_policy: { targets: [{ type: 'webhook', url: 'nonsense' }] } }],
    ['invalid arguments', '/strict/x', { args: { topic: 7 } }],
    ['an unknown message type', '/strict/x', { initialMessage: 1, initialMessageType: 'other' }],
    ['an invalid message', '/strict/x', { initialMessage: 'x', initialMessageType: 'query' }],
    ['U+0000 in the arguments', '/chat/x', { args: { text: '\0' } }],
  ])('is refused like one over HTTP: %s', async (_, url, body: Readonly<Record<string, unknown>>) => {
    const { dispatch_policy, initialMessage, initialMessageType, ...rest } = body
    const request = {
      ...rest,
      url,
      principal: caller,
      ...(dispatch_policy === undefined ? {} : { dispatchPolicy: dispatch_policy as never }), // malformed on purpose
      ...(initialMessage === undefined ? {} : { initialMessage: { payload: initialMessage as string, type: String(initialMessageType) } }),
    }

    expect(await refusedBy(spawn(client, request))).toEqual(refusedOverHttp(await wire.spawn(url, body)))
  })

  it('is refused at a taken URL with code, status and message of HTTP; the entity itself is for readers to read', async () => {
    await wire.spawn('/chat/taken')
    const { details: _entity, ...refusal } = refusedOverHttp(await wire.spawn('/chat/taken'))

    expect(await refusedBy(spawn(client, { url: '/chat/taken', principal: caller }))).toEqual(refusal)
  })

  it('needs permission, like one over HTTP', async () => {
    expect(await refusedBy(spawn(client, { url: '/sams/x', principal: 'user:kim' }))).toEqual(
      refusedOverHttp(await wire.spawn('/sams/x', {}, 'user:kim')),
    )
  })

  it('that is malformed is refused at once, and not tried again and again', async () => {
    const malformed = { url: '/chat/malformed', principal: caller, tags: { a: 7 }, args: 'text' } as never

    expect(await refusedBy(spawn(client, malformed))).toMatchObject({
      status: 400,
      code: 'INVALID_REQUEST',
      message: 'Request body does not match API schema',
      details: [{ path: '/args' }, { path: '/tags/a' }],
    })
    expect(await refusedBy(spawn(client, { url: '/chat/x', principal: 'nobody' }))).toMatchObject({
      status: 400,
      message: 'Invalid principal identifier',
    })
  })

  it('whose refusal quotes what Postgres cannot hold is refused, not tried again and again', async () => {
    expect(await refusedBy(spawn(client, { url: '/strict/quoted', principal: caller, args: { 'a\0': 7 } }))).toMatchObject({
      code: 'SCHEMA_VALIDATION_FAILED',
    })
  })

  it('too large to travel is refused before anything is started', async () => {
    const request = { url: '/chat/large', principal: caller, args: { text: 'a'.repeat(300 * 1024) } }

    expect(await refusedBy(spawn(client, request))).toMatchObject({ status: 413 })
    expect((await wire.get('/chat/large')).status).toBe(404)
  })

  it('has one winner among ten at once, through both doors', async () => {
    const doors = Array.from({ length: 10 }, async (_, index) =>
      index % 2 === 0
        ? await spawn(client, { url: '/chat/contested', principal: caller, args: { index } }).then(
            () => 201,
            (failure: unknown) => (failure instanceof AgentsError ? failure.refusal.status : String(failure)),
          )
        : (await wire.spawn('/chat/contested', { args: { index } })).status,
    )

    expect((await Promise.all(doors)).sort()).toEqual([201, ...Array.from({ length: 9 }, () => 409)])
    expect(await wire.events('/chat/contested')).toHaveLength(1)
  })

  it('asked for again under its operation id answers what it answered the first time', async () => {
    const request = { url: '/chat/again', principal: caller }
    const first = await spawn(client, request, { operationId: 'nightly-7' })

    expect(await spawn(client, request, { operationId: 'nightly-7' })).toEqual(first)
    expect(await refusedBy(spawn(client, request))).toMatchObject({ code: 'DUPLICATE_URL' })
  })

  it('asked for under an operation id that has granted something else is told so, and nothing happens', async () => {
    const operationId = 'granted'
    const { url } = await spawn(client, { url: '/chat/granted', principal: caller }, { operationId })

    for (const work of [
      spawn(client, { url: '/chat/not-granted', principal: caller }, { operationId }),
      close(client, { url, principal: caller }, { operationId }),
      fork(client, { source: url, principal: caller, instanceId: 'not-granted' }, { operationId }),
    ])
      expect(await refusedBy(work)).toMatchObject({ status: 422, code: 'IDEMPOTENCY_KEY_REUSED' })
    expect((await wire.get('/chat/not-granted')).status).toBe(404)
    expect(await wire.statusOf(url)).toBe('idle')
  })

  it.each(['', 'a\0', 'x'.repeat(901), 7 as never])(
    'under an impossible operation id is refused before anything is started',
    async (operationId) => {
      expect(await refusedBy(spawn(client, { url: '/chat/impossible', principal: caller }, { operationId }))).toMatchObject({
        status: 400,
        code: 'INVALID_REQUEST',
        message: expect.stringContaining('operationId'),
      })
    },
  )
})

describe('a fork through Temporal', () => {
  const source = '/chat/forked'
  beforeAll(async () => {
    await wire.spawned(source, { args: { x: 1 }, tags: { a: '1' }, initialMessage: 'hello' })
    await wire.spawned('/chat/forked-kid', { parent: source })
    await wire.spawned('/sams/forked', {}, 'user:sam')
    await wire.spawned('/chat/forked-ended')
    await wire.kill('/chat/forked-ended')
    await wire.get('/principal/user:sam', 'user:sam')
  })

  it('is complete when it returns, with everything below it, and readable over HTTP', async () => {
    const request = { source, principal: caller, instanceId: 'copied', tags: { b: '2' }, initialMessage: { payload: 'go on' } }
    const forked = await fork(client, request)

    expect(forked).toMatchObject({ outcome: 'forked', url: '/chat/copied', entities: 2 })
    expect(forked.urls).toEqual(['/chat/copied', expect.stringMatching(/^\/chat\/forked-kid-fork-[0-9a-f]{8}$/)])
    expect((await wire.get('/chat/copied')).body).toMatchObject({ status: 'idle', spawn_args: { x: 1 }, tags: { a: '1', b: '2' } })
    expect((await wire.events('/chat/copied')).map(({ type, value }) => [type, value?.payload])).toEqual([
      ['entity_created', undefined],
      ['inbox', 'hello'],
      ['entity_created', undefined],
      ['inbox', 'go on'],
    ])
    expect(await wire.sql('SELECT xmin::text AS xmin FROM entities WHERE url = $1', forked.url)).toEqual([{ xmin: String(forked.txid) }])
  })

  it('at a pointer, or below a parent, is what it is over HTTP', async () => {
    const early = await fork(client, { source, principal: caller, pointer: { offset: null, subOffset: 1 } })
    const { url: parent } = await spawn(client, { url: '/chat/forked-parent', principal: caller })
    const below = await fork(client, { source, principal: caller, parent })

    expect(early).toMatchObject({ url: expect.stringMatching(/^\/chat\/forked-fork-/), entities: 1 })
    expect((await wire.events(early.url)).map(({ type }) => type)).toEqual(['entity_created', 'entity_created'])
    expect((await wire.get(below.url)).body).toMatchObject({ parent })
  })

  const long = 'x'.repeat(1_001)
  it.each<[what: string, request: Partial<Omit<ForkRequest, 'source'>> & { source?: string }, body: object, as?: string]>([
    ['a missing entity', { source: '/chat/none' }, {}],
    ['an unknown type', { source: '/none/x' }, {}],
    ['a principal', { source: '/principal/user%3Asam' }, {}],
    ['an entity that has ended', { source: '/chat/forked-ended' }, {}],
    ['a child', { source: '/chat/forked-kid' }, {}],
    ['without permission', { source: '/sams/forked' }, {}, 'user:kim'],
    [
      'two cuts',
      { pointer: { offset: null, subOffset: 1 }, anchor: 'latest_completed_run' },
      { fork_pointer: { offset: null, sub_offset: 1 }, anchor: 'latest_completed_run' },
    ],
    ['no completed run', { anchor: 'latest_completed_run' }, { anchor: 'latest_completed_run' }],
    ['an unknown offset', { pointer: { offset: 'x', subOffset: 1 } }, { fork_pointer: { offset: 'x', sub_offset: 1 } }],
    ['a pointer out of range', { pointer: { offset: null, subOffset: 99 } }, { fork_pointer: { offset: null, sub_offset: 99 } }],
    ['a missing parent', { parent: '/chat/none' }, { parent: '/chat/none' }],
    ['an empty id', { instanceId: '' }, { instance_id: '' }],
    ['an id with a slash', { instanceId: 'a/b' }, { instance_id: 'a/b' }],
    ['an id that is too long', { instanceId: long }, { instance_id: long }],
    ['a taken id', { instanceId: 'forked' }, { instance_id: 'forked' }],
    ['a negative wait', { waitTimeoutMs: -1 }, { waitTimeoutMs: -1 }],
  ])('is refused like one over HTTP: %s', async (_, request, body, as = caller) => {
    const at = request.source ?? source
    const overHttp = await wire.ask('POST', `/_electric/entities${at}/fork`, body, { as })

    expect(await refusedBy(fork(client, { source, principal: as, ...request }))).toEqual(refusedOverHttp(overHttp))
  })

  it('of what is at work waits for it, or is refused where nobody is to wait', async () => {
    await wire.spawned('/chat/forked-busy')
    await wire.putInto('running', '/chat/forked-busy')
    const request = { source: '/chat/forked-busy', principal: caller }

    expect(await refusedBy(fork(client, { ...request, waitTimeoutMs: 0 }))).toMatchObject({
      status: 409,
      code: 'FORK_WAIT_TIMEOUT',
      details: { active: ['/chat/forked-busy'] },
    })
    const waiting = fork(client, request)
    await eventually(async () => (await wire.sql('SELECT FROM waiters')).length > 0)
    await wire.signal('/chat/forked-busy', { signal: 'SIGSTOP' })
    expect(await waiting).toMatchObject({ outcome: 'forked', entities: 1 })
  })

  it('that is malformed is refused at once', async () => {
    for (const wrong of [
      { instanceId: 7 },
      { pointer: { offset: 1, subOffset: '1' } },
      { anchor: 'x' },
      { tags: [] },
      { waitTimeoutMs: 'x' },
    ])
      expect(await refusedBy(fork(client, { source, principal: caller, ...wrong } as never))).toMatchObject({
        status: 400,
        message: 'Request body does not match API schema',
      })
  })

  it('asked for again under its operation id answers what it answered the first time', async () => {
    const request = { source, principal: caller, instanceId: 'nightly' }
    const first = await fork(client, request, { operationId: 'nightly-fork' })

    expect(await fork(client, request, { operationId: 'nightly-fork' })).toEqual(first)
    expect(await refusedBy(fork(client, request))).toMatchObject({ code: 'DUPLICATE_URL' })
  })
})

describe('signals and closes through Temporal', () => {
  const spawned = async (url: string): Promise<string> => (await spawn(client, { url, principal: caller })).url

  it('are the events that HTTP would write', async () => {
    const url = await spawned('/chat/signalled')
    const paused = await signal(client, { url, principal: caller, signal: 'SIGSTOP', reason: 'r', payload: { x: 1 } })
    const [, event] = await wire.events(url)

    expect(paused).toMatchObject({ url, signal: 'SIGSTOP', previousStatus: 'idle', newStatus: 'paused' })
    expect(event).toMatchObject({
      type: 'signal',
      value: {
        signal: 'SIGSTOP',
        status: 'handled',
        outcome: 'transitioned',
        reason: 'r',
        payload: { x: 1 },
        previous_state: 'idle',
        new_state: 'paused',
      },
      headers: { txid: String(paused.txid) },
    })
    expect(await wire.statusOf(url)).toBe('paused')
  })

  it.each([
    ['SIGKILL', 'killed'],
    ['SIGTERM', 'stopped'],
    [undefined, 'killed'],
  ] as const)('end an entity and close its stream: %s', async (given, status) => {
    const url = await spawned(`/chat/closed-by-${given}`)
    const closed = await close(client, { url, principal: caller, ...(given === undefined ? {} : { signal: given }) })

    expect(closed.newStatus).toBe(status)
    expect((await wire.stream(url)).headers.get('stream-closed')).toBe('true')
    expect((await wire.send(url, { payload: 1 })).status).toBe(409)
  })

  it('are refused like those over HTTP', async () => {
    const url = await spawned('/chat/ended')
    await close(client, { url, principal: caller })
    await wire.get('/principal/user:sam', 'user:sam')

    for (const [at, as] of [
      [url, caller],
      ['/chat/none', caller],
      ['/none/x', caller],
      ['/chat/a', 'user:kim'],
      ['/principal/user%3Asam', caller],
    ] as const)
      for (const sent of ['SIGKILL', 'SIGUSR'] as const)
        expect(await refusedBy(signal(client, { url: at, principal: as, signal: sent }))).toEqual(
          refusedOverHttp(await wire.signal(at, { signal: sent }, as)),
        )
  })

  it('that are no signals are refused at once', async () => {
    const url = await spawned('/chat/no-signal')

    expect(await refusedBy(signal(client, { url, principal: caller, signal: 'SIGX' as never }))).toMatchObject({
      status: 400,
      code: 'INVALID_REQUEST',
    })
  })
})

describe('operations in Temporal', () => {
  it.each([
    ['spawn', 'spawnEntities'],
    ['close', 'closeEntities'],
  ] as const)('are found by the URL of their entity: %s', async (kind, workflowType) => {
    const url = `/chat/found-by-${kind}`
    await wire.spawned(url)
    if (kind === 'close') await wire.kill(url)

    const execution = await eventually(async () => {
      const query = `EntityUrls = '${url}' AND EntityType = 'chat' AND WorkflowType = '${workflowType}'`
      for await (const found of client.workflow.list({ query })) if (found.status.name === 'COMPLETED') return found
      return undefined
    })

    expect(execution.workflowId).toBe(`${kind}:${url}`)
    expect(execution.typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value])).toEqual(
      expect.arrayContaining([
        ['EntityUrls', [url]],
        ['EntityType', 'chat'],
        ['OperationId', expect.stringMatching(new RegExp(`^${kind}-`))],
      ]),
    )
    const description = await client.workflow.getHandle(execution.workflowId).describe()
    expect(await description.staticSummary()).toBe(`${kind} ${url}`)
  })

  it('a fork is found by what is made and by what is copied', async () => {
    await wire.spawned('/chat/original')
    await fork(client, { source: '/chat/original', principal: caller, instanceId: 'made' })
    expect((await wire.ask('POST', '/_electric/entities/chat/original/fork', { instance_id: 'made-over-http' })).status).toBe(201)

    for (const id of ['made', 'made-over-http'])
      await eventually(async () => {
        const query = `EntityUrls = '/chat/original' AND EntityUrls = '/chat/${id}' AND EntityType = 'chat'`
        for await (const { workflowId } of client.workflow.list({ query })) return workflowId === `fork:/chat/${id}`
        return false
      })
  })

  it('started by hand fail with the refusal of the catalogue, and a batch answers a verdict per entity', async () => {
    const item = (url: string) => ({ url, principal: caller })
    const start = { workflowId: 'by-hand', taskQueue: 'agents' }
    const failure: unknown = await client.workflow
      .execute('spawnEntities', { ...start, args: [{ operationId: 'hand-1', items: [item('/none/x')] }] })
      .catch((reason: unknown) => reason)

    expect(failure).toBeInstanceOf(WorkflowFailedError)
    expect(refusalOf(failure)).toEqual({ code: 'UNKNOWN_ENTITY_TYPE', status: 404, message: 'Entity type "none" not found' })
    const verdicts = await client.workflow.execute('spawnEntities', {
      ...start,
      args: [{ operationId: 'hand-2', items: [item('/chat/hand'), item('/none/x'), item('/chat/hand'), item('/chat/a\0')] }],
    })
    expect((verdicts as { outcome: string; refusal?: { code: string } }[]).map(({ outcome, refusal }) => refusal?.code ?? outcome)).toEqual(
      ['spawned', 'UNKNOWN_ENTITY_TYPE', 'DUPLICATE_URL', 'INVALID_REQUEST'],
    )
  })
})

describe('a namespace without our search attributes', () => {
  it('takes operations that are told so', async () => {
    expect(await spawn(client, { url: '/chat/unfindable', principal: caller }, { searchAttributes: false })).toMatchObject({
      outcome: 'spawned',
    })
  })
})

describe('a workflow service that is away', () => {
  it('is WORKFLOW_SERVICE_UNAVAILABLE, as over HTTP', async () => {
    const nowhere = Connection.lazy({ address: '127.0.0.1:1', connectTimeout: '500ms' })
    const lost = new Client({ connection: nowhere, namespace: 'default' })

    const work = nowhere.withDeadline(Date.now() + 1_000, async () => await refusedBy(spawn(lost, { url: '/chat/x', principal: caller })))

    expect(await work).toMatchObject({ status: 503, code: 'WORKFLOW_SERVICE_UNAVAILABLE' })
    await nowhere.close()
  })
})
