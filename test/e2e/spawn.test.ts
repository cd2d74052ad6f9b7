import { expectStatus, refusal, sam, Wire } from '../support/wire.js'

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start()
  await wire.register('sams', {}, 'user:sam')
  await wire.register('strict', {
    creation_schema: { type: 'object', properties: { topic: { type: 'string' } }, required: ['topic'] },
    inbox_schemas: { query: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] } },
  })
  await wire.register('commanded', { slash_commands: [{ name: 'goal', description: 'Goal' }, { name: 'clear' }] })
  await wire.register('hooked', {
    default_dispatch_policy: { targets: [{ type: 'webhook', url: 'http://127.0.0.1:9/hook', subscription_id: 'webhook:hooked' }] },
  })
})
afterAll(async () => await wire.stop())

const invalidBody = (path: string, message: string) =>
  refusal('INVALID_REQUEST', 'Request body does not match API schema', [{ path, message }])

const grant = { subject_kind: 'principal', subject_value: '/principal/user%3Asam', permission: 'read' }
const wake = { subscriberUrl: '/chat/a', condition: 'runFinished' }

describe('the checks of a spawn (spec/02 §6.2)', () => {
  it.each([
    ['1: reserved type names', '/_chat/a', 400, refusal('INVALID_REQUEST', 'Entity type names starting with "_" are reserved')],
    ['1: a pattern as id', '/chat/a*', 400, refusal('INVALID_REQUEST', 'Invalid entity URL')],
    ['1: a pattern as type', '/ch*t/a', 400, refusal('INVALID_REQUEST', 'Invalid entity URL')],
    [
      '2: principals',
      '/principal/user:kim',
      400,
      refusal('INVALID_REQUEST', 'Principal entities are built in and cannot be spawned directly'),
    ],
    ['3: an unknown type, before its body', '/nothing/a', 404, refusal('UNKNOWN_ENTITY_TYPE', 'Entity type "nothing" not found')],
    ['ours: a URL of more than 1,000 bytes', `/chat/${'a'.repeat(995)}`, 400, refusal('INVALID_REQUEST', 'Invalid entity URL')],
  ])('%s', async (_, url, status, body) => {
    expect(await wire.spawn(url, '{"args":')).toMatchObject({ status, body })
  })

  it.each([
    ['args', { args: [] }, '/args', 'must be object'],
    ['tags', { tags: { p: 1 } }, '/tags/p', 'must be string'],
    ['parent', { parent: 7 }, '/parent', 'must be string'],
    [
      'two targets',
      {
        dispatch_policy: {
          targets: [
            { type: 'webhook', url: 'http://a' },
            { type: 'webhook', url: 'http://a' },
          ],
        },
      },
      '/dispatch_policy/targets',
      'must NOT have more than 1 items',
    ],
    ['no target', { dispatch_policy: { targets: [] } }, '/dispatch_policy/targets', 'must NOT have fewer than 1 items'],
    ['the type of the first message', { initialMessageType: null }, '/initialMessageType', 'must be string'],
  ])('4: the form of the body comes before the permission: %s', async (_, body, path, message) => {
    expect(await wire.spawn('/chat/forms', body, 'user:kim')).toMatchObject({ status: 400, body: invalidBody(path, message) })
  })

  it.each([
    ['a grant with a member of its own', { grants: [{ ...grant, foo: 1 }] }, '/grants/0', 'must NOT have additional properties'],
    ['a grant of nothing', { grants: [{}] }, '/grants/0', "must have required property 'permission'"],
    ['a grant of what there is not', { grants: [{ ...grant, permission: 'own' }] }, '/grants/0/permission', 'must match a schema in anyOf'],
    ['a grant to all below', { grants: [{ ...grant, copy_to_children: 1 }] }, '/grants/0/copy_to_children', 'must be boolean'],
    ['a wake for nobody', { wake: { condition: 'runFinished' } }, '/wake', "must have required property 'subscriberUrl'"],
    ['a wake without a condition', { wake: { subscriberUrl: '/chat/a' } }, '/wake', "must have required property 'condition'"],
    ['a wake for what never is', { wake: { ...wake, condition: 'bogus' } }, '/wake/condition', 'must match a schema in anyOf'],
    [
      'a wake at the end, as an object',
      { wake: { ...wake, condition: { on: 'runFinished' } } },
      '/wake/condition/on',
      'must be equal to constant',
    ],
    ['a wake after words', { wake: { ...wake, debounceMs: '1' } }, '/wake/debounceMs', 'must be number'],
  ])('4: the form of what comes later is checked before it is said to come later (decision 0005): %s', async (_, body, path, message) => {
    const answer = await wire.spawn('/chat/forms', body)

    expect(answer).toMatchObject({ status: 400, body: refusal('INVALID_REQUEST', 'Request body does not match API schema') })
    expect((answer.body as { error: { details: unknown } }).error.details).toContainEqual({ path, message })
  })

  it('4: what is no JSON', async () => {
    expect(await wire.spawn('/chat/forms', '{"args":')).toMatchObject({
      status: 400,
      body: refusal('INVALID_REQUEST', 'Invalid JSON body'),
    })
  })

  it.each([
    ['grants', [grant], 'permission grants'],
    ['grants', [{ ...grant, propagation: 'descendants', copy_to_children: true, expires_at: '2027-01-01' }], 'permission grants'],
    ['wake', wake, 'wakes'],
    ['wake', { ...wake, condition: { on: 'change', collections: ['x'], ops: ['insert'], debounceMs: 250 }, debounceMs: 250 }, 'wakes'],
  ])('nothing is accepted and then ignored: %s answers 501 and names its feature', async (member, value, feature) => {
    const answer = await wire.spawn('/chat/later', { [member]: value })

    expect(answer).toMatchObject({ status: 501, body: refusal('NOT_IMPLEMENTED', `Not implemented yet: ${feature}`) })
    expect((await wire.get('/chat/later')).status).toBe(404)
  })

  it('no grants at all are granted', async () => {
    expectStatus(201, await wire.spawn('/chat/no-grants', { grants: [] }))
  })

  it('5: permission to spawn the type, before the parent is looked at', async () => {
    const answer = await wire.spawn('/sams/a', { parent: '/chat/nowhere' }, 'user:kim')

    expect(answer).toMatchObject({ status: 401, body: refusal('UNAUTHORIZED', 'Principal is not allowed to spawn sams') })
  })

  it.each(['/chat/nowhere', 'nonsense', '/chat/a*', '/__proto__/x'])('6: the parent exists: %s', async (parent) => {
    expect(await wire.spawn('/chat/orphan', { parent })).toMatchObject({
      status: 404,
      body: refusal('NOT_FOUND', 'Parent entity not found'),
    })
  })

  it('6: an empty parent is none', async () => {
    expect(await wire.spawned('/chat/no-parent', { parent: '' })).not.toHaveProperty('parent')
  })

  it('7: permission to spawn under the parent', async () => {
    await wire.spawned('/chat/others-parent')

    expect(await wire.spawn('/sams/child', { parent: '/chat/others-parent' }, 'user:sam')).toMatchObject({
      status: 401,
      body: refusal('UNAUTHORIZED', 'Principal is not allowed to spawn children from /chat/others-parent'),
    })
  })

  it('7: no child is made under an ended parent (ours)', async () => {
    await wire.spawned('/chat/ended-parent')
    await wire.kill('/chat/ended-parent')

    expect(await wire.spawn('/chat/orphan', { parent: '/chat/ended-parent' })).toMatchObject({
      status: 409,
      body: refusal('NOT_RUNNING', 'Entity is not accepting writes'),
    })
  })

  it('9: the runner exists, before the arguments are looked at', async () => {
    const dispatch_policy = { targets: [{ type: 'runner', runnerId: 'r1' }] }

    expect(await wire.spawn('/strict/a', { dispatch_policy, args: {} })).toMatchObject({
      status: 404,
      body: refusal('NOT_FOUND', 'Runner "r1" not found'),
    })
  })

  it('a webhook URL is a URL (DEVIATE)', async () => {
    const dispatch_policy = { targets: [{ type: 'webhook', url: 'not a url' }] }

    expect((await wire.spawn('/chat/hook', { dispatch_policy })).status).toBe(400)
  })

  it('11: the arguments match the creation schema, all violations named', async () => {
    await wire.spawned('/strict/taken', { args: { topic: 'x' } })

    expect(await wire.spawn('/strict/taken', { args: { topic: 7 } })).toMatchObject({
      status: 422,
      body: refusal('SCHEMA_VALIDATION_FAILED', 'Validation failed', [{ path: '/topic', message: 'must be string' }]),
    })
  })

  it('11: absent arguments are not checked', async () => {
    expect((await wire.spawn('/strict/no-args')).status).toBe(201)
  })

  it('13: the URL is free, before the first message is looked at', async () => {
    await wire.spawned('/strict/duplicate')

    for (const body of [{}, { initialMessage: 7, initialMessageType: 'query' }, { args: { topic: 'a\0' } }])
      expect(await wire.spawn('/strict/duplicate', body)).toMatchObject({
        status: 409,
        body: refusal('DUPLICATE_URL', 'Entity already exists at URL "/strict/duplicate"'),
      })
  })

  it('15: an unknown type of the first message', async () => {
    expect(await wire.spawn('/strict/m1', { initialMessage: 1, initialMessageType: 'other' })).toMatchObject({
      status: 422,
      body: refusal('UNKNOWN_MESSAGE_TYPE', 'Unknown message type "other"'),
    })
  })

  it('15: an invalid first message', async () => {
    expect(await wire.spawn('/strict/m2', { initialMessage: {}, initialMessageType: 'query' })).toMatchObject({
      status: 422,
      body: refusal('SCHEMA_VALIDATION_FAILED', 'Validation failed', [{ path: '/', message: "must have required property 'text'" }]),
    })
  })

  it('no refusal leaves anything behind, and a corrected retry succeeds (DEVIATE)', async () => {
    const before = await wire.counts()
    const refused = [
      await wire.spawn('/strict/retry', { args: { topic: 7 } }, 'user:new-here'),
      await wire.spawn('/strict/retry', { args: { topic: 7 } }),
      await wire.spawn('/strict/retry', { initialMessage: 1, initialMessageType: 'query' }),
      await wire.spawn('/strict/retry', { dispatch_policy: { targets: [{ type: 'runner', runnerId: 'r1' }] } }),
      await wire.spawn('/strict/retry', { tags: { a: 'x\ud800' } }),
    ]

    expect(refused.map(({ status }) => status)).toEqual([401, 422, 422, 404, 400])
    expect(await wire.counts()).toEqual(before)
    expect((await wire.spawn('/strict/retry', { args: { topic: 'x' } })).status).toBe(201)
  })
})

describe('a spawn (spec/02 §6.3–6.4)', () => {
  it('answers the public entity with the numeric id of the transaction that wrote its row', async () => {
    const before = Date.now()
    const body = await wire.spawned('/sams/demo', { args: { topic: 'x' }, tags: { b: '2', a: '1' } }, 'user:sam')

    expect(body).toEqual({
      url: '/sams/demo',
      type: 'sams',
      status: 'idle',
      streams: { main: '/sams/demo/main' },
      tags: { a: '1', b: '2' },
      spawn_args: { topic: 'x' },
      created_by: sam,
      created_at: expect.any(Number),
      updated_at: body.created_at,
      txid: expect.any(Number),
    })
    expect(body.created_at).toBeGreaterThanOrEqual(before)
    expect(await wire.sql(`SELECT xmin::text AS xmin FROM entities WHERE url = '/sams/demo'`)).toEqual([{ xmin: String(body.txid) }])
    expect(await wire.sql(`SELECT xmin::text AS xmin FROM lineage WHERE descendant_url = '/sams/demo'`)).toEqual([
      { xmin: String(body.txid) },
    ])
  })

  it('leaves spawn_args out of the answer when args was absent; a GET shows {}', async () => {
    expect(await wire.spawned('/chat/argless')).not.toHaveProperty('spawn_args')
    expect((await wire.get('/chat/argless')).body).toMatchObject({ spawn_args: {} })
  })

  it('shows no internals, in body or headers (MUST)', async () => {
    const answer = expectStatus(201, await wire.spawn('/chat/internals'))

    for (const hidden of ['write_token', 'subscription_id', 'tags_index', 'reserved_by']) expect(answer.text).not.toContain(hidden)
    expect(answer.headers.has('x-write-token')).toBe(false)
  })

  it('begins the stream with one entry: entity_created, then the commands of the type', async () => {
    const { created_at } = await wire.spawned('/commanded/a', { args: { x: 1 } })
    const events = await wire.events('/commanded/a')
    const at = new Date(Number(created_at)).toISOString()

    expect(events.map(({ type, key, value }) => ({ type, key, value }))).toEqual([
      { type: 'entity_created', key: 'entity-created', value: { entity_type: 'commanded', timestamp: at, args: { x: 1 } } },
      { type: 'slash_command', key: 'goal', value: { name: 'goal', description: 'Goal', source: 'static', updated_at: at } },
      { type: 'slash_command', key: 'clear', value: { name: 'clear', source: 'static', updated_at: at } },
    ])
    expect(new Set(events.map(({ headers }) => headers.offset)).size).toBe(1)
  })

  it('appends the first message as an entry of its own, without from_principal; null counts as a message', async () => {
    await wire.spawned('/chat/greeted', { initialMessage: null, initialMessageType: '' })
    const [created, message, ...more] = await wire.events('/chat/greeted')

    expect(message).toEqual({
      type: 'inbox',
      key: expect.stringMatching(/^msg-in-\d+-[0-9a-z]{6}$/),
      value: {
        from: '/principal/system%3Adev-local',
        payload: null,
        timestamp: expect.any(String),
        mode: 'immediate',
        status: 'processed',
        processed_at: expect.any(String),
      },
      headers: { operation: 'insert', txid: expect.stringMatching(/^[0-9a-f-]{36}$/), offset: expect.any(String) },
    })
    expect(message?.headers.offset).not.toBe(created?.headers.offset)
    expect(more).toEqual([])
  })

  it('records the parent in the row, the stream and the lineage', async () => {
    await wire.spawned('/chat/root')
    await wire.spawned('/chat/middle', { parent: '/chat/root' })
    const leaf = await wire.spawned('/chat/leaf', { parent: '/chat/middle' })

    expect(leaf.parent).toBe('/chat/middle')
    expect((await wire.events('/chat/leaf'))[0]?.value).toMatchObject({ parent_url: '/chat/middle' })
    expect(await wire.sql(`SELECT ancestor_url, depth FROM lineage WHERE descendant_url = '/chat/leaf' ORDER BY depth`)).toEqual([
      { ancestor_url: '/chat/leaf', depth: 0 },
      { ancestor_url: '/chat/middle', depth: 1 },
      { ancestor_url: '/chat/root', depth: 2 },
    ])
  })

  it('stores and shows the policy that it chose; later changes of the type do not change it', async () => {
    const { dispatch_policy } = await wire.spawned('/hooked/a')
    await wire.register('hooked', { default_dispatch_policy: { targets: [{ type: 'webhook', url: 'http://127.0.0.1:9/other' }] } })

    expect(dispatch_policy).toEqual({ targets: [{ type: 'webhook', url: 'http://127.0.0.1:9/hook', subscription_id: 'webhook:hooked' }] })
    expect((await wire.get('/hooked/a')).body).toMatchObject({ dispatch_policy })
    expect(await wire.spawned('/chat/hooked-child', { parent: '/hooked/a' })).toMatchObject({ dispatch_policy })
  })

  it('keeps the URL exactly as it was sent', async () => {
    const { url } = await wire.spawned('/chat/a%20b%2Fc')

    expect(url).toBe('/chat/a%20b%2Fc')
    expect((await wire.events('/chat/a%20b%2Fc'))[0]?.type).toBe('entity_created')
  })
})
