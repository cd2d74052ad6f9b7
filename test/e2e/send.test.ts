import { expectStatus, refusal, sam, Wire } from '../support/wire.js'

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start()
  await wire.register('sams', {}, 'user:sam')
  await wire.register('typed', {
    inbox_schemas: { query: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] } },
  })
  await wire.register('closed', { inbox_schemas: {} })
  await wire.spawned('/chat/a')
  await wire.spawned('/typed/a')
  await wire.spawned('/closed/a')
  await wire.spawned('/sams/a', {}, 'user:sam')
})
afterAll(async () => await wire.stop())

let fresh = 0
const freshEntity = async (status = 'idle'): Promise<string> => {
  fresh += 1
  const url = `/chat/fresh-${fresh}`
  await wire.spawned(url)
  if (status !== 'idle') await wire.putInto(status, url)
  return url
}

describe('the checks of a send (spec/03 §2.2)', () => {
  it('1: the entity, the body, the permission, in this order', async () => {
    expect(await wire.send('/chat/none', '{', 'user:kim')).toMatchObject({
      status: 404,
      body: refusal('NOT_FOUND', 'Entity not found at /chat/none'),
    })
    expect(await wire.send('/none/a', '{', 'user:kim')).toMatchObject({
      status: 404,
      body: refusal('UNKNOWN_ENTITY_TYPE', 'Entity type "none" not found'),
    })
    expect(await wire.send('/chat/a', '{', 'user:kim')).toMatchObject({
      status: 400,
      body: refusal('INVALID_REQUEST', 'Invalid JSON body'),
    })
    expect(await wire.send('/chat/a', { payload: 1, from: 'x' }, 'user:kim')).toMatchObject({
      status: 401,
      body: refusal('UNAUTHORIZED', 'Principal is not allowed to write /chat/a'),
    })
  })

  it.each(['from', 'from_principal'])('2–3: %s is the caller, in its canonical spelling', async (field) => {
    for (const other of ['/principal/user%3Akim', '/principal/user:sam', 'user:sam', ''])
      expect(await wire.send('/sams/a', { payload: 1, [field]: other }, 'user:sam')).toMatchObject({
        status: 400,
        body: refusal('INVALID_REQUEST', `Request ${field} must match Electric-Principal`),
      })
    expectStatus(200, await wire.send('/sams/a', { payload: 1, [field]: sam }, 'user:sam'))
  })

  it.each([
    ['nobody vouches', 'user:sam', '/chat/a'],
    ['another agent', 'agent:b', '/a'],
    ['a user of that name', 'user:a', '/a'],
  ])('4: from_agent is the authenticated agent: %s', async (_, caller, from_agent) => {
    const url = `/sams/agent-${encodeURIComponent(caller)}`
    await wire.spawned(url)
    await wire.sql('UPDATE entities SET created_by = $1 WHERE url = $2', `/principal/${encodeURIComponent(caller)}`, url)

    const answer = await wire.send(url, { payload: 1, from_agent }, caller)

    expect(answer).toMatchObject({
      status: 400,
      body: refusal('INVALID_REQUEST', 'Request from_agent must match authenticated agent principal'),
    })
  })

  it.each(['/worker', 'http://host:1/worker'])(
    '4: an agent sends as itself; from_agent is stored as it was sent: %s',
    async (from_agent) => {
      const url = await freshEntity()
      await wire.sql(`UPDATE entities SET created_by = '/principal/agent%3Aworker' WHERE url = $1`, url)

      expectStatus(200, await wire.send(url, { payload: 1, from_agent }, 'agent:worker'))

      expect((await wire.events(url)).at(-1)?.value).toMatchObject({ from_agent, from_principal: '/principal/agent%3Aworker' })
    },
  )

  it('5: the caller’s own entity is made, also when the send is refused later', async () => {
    const url = await freshEntity('stopping')
    await wire.sql(`UPDATE entities SET created_by = '/principal/user%3Alee' WHERE url = $1`, url)

    expect((await wire.send(url, { payload: 1 }, 'user:lee')).status).toBe(409)

    expect((await wire.get('/principal/user:lee', 'user:lee')).body).toMatchObject({ url: '/principal/user%3Alee', status: 'idle' })
  })

  it('7: delayed sends come later and are not swallowed; zero and less mean now', async () => {
    expect(await wire.send('/chat/a', { payload: 1, afterMs: 5 })).toMatchObject({
      status: 501,
      body: refusal('NOT_IMPLEMENTED', 'Not implemented yet: delayed sends'),
    })
    expect((await wire.send('/chat/a', { payload: 1, afterMs: 0 })).status).toBe(200)
    expect((await wire.send('/chat/a', { payload: 1, afterMs: -5 })).status).toBe(200)
  })

  it.each(['stopping', 'stopped', 'killed'])('9: an entity that is %s takes no message, whatever else is wrong with it', async (status) => {
    const url = await freshEntity(status)
    const before = await wire.events(url)

    expect(await wire.send(url, { type: 'composer_input' })).toMatchObject({
      status: 409,
      body: refusal('NOT_RUNNING', 'Entity is not accepting writes'),
    })
    expect(await wire.events(url)).toEqual(before)
  })

  it.each(['spawning', 'running', 'idle', 'paused'])('9: an entity that is %s takes messages', async (status) => {
    expect((await wire.send(await freshEntity(status), { payload: 1 })).status).toBe(200)
  })

  it('10: an unknown type, also of an entity that declares none', async () => {
    for (const url of ['/typed/a', '/closed/a'])
      expect(await wire.send(url, { type: 'other' })).toMatchObject({
        status: 422,
        body: refusal('UNKNOWN_MESSAGE_TYPE', 'Unknown message type "other"'),
      })
  })

  it('10: an invalid payload, all violations named; an absent one is its schema’s to refuse', async () => {
    expect(await wire.send('/typed/a', { type: 'query', payload: { text: 7 } })).toMatchObject({
      status: 422,
      body: refusal('SCHEMA_VALIDATION_FAILED', 'Validation failed', [{ path: '/text', message: 'must be string' }]),
    })
    expect((await wire.send('/typed/a', { type: 'query' })).status).toBe(422)
  })

  it('10: composer_input has its own rules, also where it is not declared', async () => {
    expect(await wire.send('/closed/a', { type: 'composer_input', payload: { source: 1 } })).toMatchObject({
      status: 422,
      body: refusal('SCHEMA_VALIDATION_FAILED', 'Validation failed', [{ path: '/source', message: 'must be a string' }]),
    })
    expect((await wire.send('/closed/a', { type: 'composer_input', payload: { source: 'hi' } })).status).toBe(200)
  })

  it('12: a payload is there; null counts', async () => {
    expect(await wire.send('/chat/a', { key: 'k' })).toMatchObject({
      status: 400,
      body: refusal('INVALID_REQUEST', 'Missing required field: payload'),
    })
    expect((await wire.send('/chat/a', { payload: null })).status).toBe(200)
  })

  it('14: a stream that turns out closed', async () => {
    const url = await freshEntity()
    await wire.sql('UPDATE streams SET closed = true WHERE path = $1', `${url}/main`)

    expect(await wire.send(url, { payload: 1 })).toMatchObject({ status: 409, body: refusal('NOT_RUNNING', 'Entity is stopped') })
  })
})

describe('the type of a message (spec/03 §2.3)', () => {
  it.each([[undefined], ['']])('%p is none: nothing is checked', async (type) => {
    expect((await wire.send('/typed/a', { payload: 7, ...(type === undefined ? {} : { type }) })).status).toBe(200)
  })

  it('is free where the entity has no schemas', async () => {
    expect((await wire.send('/chat/a', { payload: 7, type: 'anything' })).status).toBe(200)
  })

  it('that was amended later is known to entities that existed before', async () => {
    await wire.ask('PATCH', '/_electric/entity-types/typed/schemas', { inbox_schemas: { later: { type: 'number' } } })

    expect((await wire.send('/typed/a', { payload: 7, type: 'later' })).status).toBe(200)
    expect((await wire.send('/typed/a', { payload: 'x', type: 'later' })).status).toBe(422)
  })

  it('that was removed from the type stays valid for entities that were spawned while it existed', async () => {
    await wire.register('shrinking', { inbox_schemas: { old: { type: 'number' } } })
    await wire.spawned('/shrinking/a')
    await wire.register('shrinking', { inbox_schemas: { fresh: {} } })

    expect((await wire.send('/shrinking/a', { payload: 7, type: 'old' })).status).toBe(200)
    await wire.ask('DELETE', '/_electric/entity-types/shrinking')
    expect((await wire.send('/shrinking/a', { payload: 7, type: 'old' })).status).toBe(200)
    expect((await wire.send('/shrinking/a', { payload: 7, type: 'fresh' })).status).toBe(422)
  })

  it.each(['__proto__', 'constructor', 'toString'])('%s is not one just because objects have it', async (type) => {
    expect((await wire.send('/typed/a', { payload: 7, type })).status).toBe(422)
  })
})

describe('a send (spec/03 §2.4–2.5)', () => {
  it('appends the message as an entry of its own and answers the txid that the stream shows (MUST)', async () => {
    await wire.spawned('/sams/receiver', {}, 'user:sam')
    const sent = expectStatus(200, await wire.send('/sams/receiver', { payload: { text: 'hi' }, type: 'query' }, 'user:sam'))
    const [created, message, ...more] = await wire.events('/sams/receiver')

    expect(message).toEqual({
      type: 'inbox',
      key: expect.stringMatching(/^msg-in-\d+-[0-9a-z]{6}$/),
      value: {
        from: sam,
        from_principal: sam,
        payload: { text: 'hi' },
        message_type: 'query',
        timestamp: expect.any(String),
        mode: 'immediate',
        status: 'processed',
        processed_at: message?.value?.timestamp,
      },
      headers: { operation: 'insert', txid: (sent.body as { txid: string }).txid, offset: expect.any(String) },
    })
    expect(sent.body).toEqual({ txid: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/) })
    expect(String(created?.headers.offset) < String(message?.headers.offset)).toBe(true)
    expect(more).toEqual([])
  })

  it.each([
    ['immediate', 'processed', undefined],
    ['steer', 'processed', undefined],
    ['queued', 'pending', /^\d{16}:a0$/],
    ['paused', 'pending', /^\d{16}:a0$/],
  ])('in mode %s is %s', async (mode, status, position) => {
    const url = await freshEntity()
    await wire.send(url, { payload: 1, mode })
    const value = (await wire.events(url)).at(-1)?.value

    expect(value).toMatchObject({ mode, status, ...(position === undefined ? {} : { position: expect.stringMatching(position) }) })
    expect(value?.processed_at).toEqual(status === 'processed' ? value?.timestamp : undefined)
    if (position === undefined) expect(value).not.toHaveProperty('position')
  })

  it.each(['immediate', 'steer', 'queued', 'paused'])('in mode %s keeps key and position verbatim', async (mode) => {
    const url = await freshEntity()
    await wire.send(url, { payload: 1, mode, key: 'optimistic-1-2', position: '0001795340053655:a0V' })

    expect((await wire.events(url)).at(-1)).toMatchObject({ key: 'optimistic-1-2', value: { position: '0001795340053655:a0V' } })
  })

  it.each([
    ['immediate', 'idle'],
    [undefined, 'idle'],
    ['queued', 'idle'],
    ['steer', 'idle'],
    ['paused', 'paused'],
  ])('in mode %s to a paused entity leaves it %s, without an event of its own (MUST)', async (mode, status) => {
    const url = await freshEntity()
    await wire.signal(url, { signal: 'SIGSTOP' })

    expectStatus(200, await wire.send(url, { payload: 1, ...(mode === undefined ? {} : { mode }) }))

    expect(await wire.statusOf(url)).toBe(status)
    expect((await wire.events(url)).map(({ type }) => type)).toEqual(['entity_created', 'signal', 'inbox'])
  })

  it('does not resume a paused entity when it is refused', async () => {
    const url = await freshEntity('paused')

    expect((await wire.send(url, {})).status).toBe(400)
    expect(await wire.statusOf(url)).toBe('paused')
  })

  it('sets no other status', async () => {
    const url = await freshEntity('running')
    await wire.send(url, { payload: 1 })

    expect(await wire.statusOf(url)).toBe('running')
  })

  it('among a hundred at once is there exactly once, and each caller has its own txid', async () => {
    const url = await freshEntity()
    const answers = await Promise.all(Array.from({ length: 100 }, async (_, payload) => await wire.send(url, { payload })))
    const inbox = (await wire.events(url)).filter(({ type }) => type === 'inbox')
    const txids = answers.map(({ body }) => (body as { txid: string }).txid)

    expect(inbox.map(({ value }) => value?.payload).sort((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 100 }, (_, index) => index),
    )
    expect(new Map(inbox.map(({ headers, value }) => [value?.payload, headers.txid]))).toEqual(
      new Map(txids.map((txid, payload) => [payload, txid])),
    )
    expect(new Set(inbox.map(({ headers }) => headers.offset)).size).toBe(100)
  })
})
