import fc from 'fast-check'
import { neverFails, noObject, oddSegment, refusesAll } from '../support/hostile.js'
import { type Ask, expectStatus, refusal, Wire } from '../support/wire.js'

const messagePath = (url: string, key: string) => `/_electric/entities${url}/inbox/${key}`
const invalid = (message: string, details?: unknown) => refusal('INVALID_REQUEST', message, details)
const stopped = refusal('NOT_RUNNING', 'Entity is not accepting writes')

describe.each(['postgres', 'http'] as const)('a message in the inbox, with streams in %s,', (streams) => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start({ streams })
  })
  afterAll(async () => await wire.stop())

  it('is edited and deleted by events that readers merge, and the answer names them', async () => {
    await wire.spawned('/chat/a')
    expectStatus(200, await wire.send('/chat/a', { payload: 'hi', key: 'k 1' }))

    const edited = expectStatus(200, await wire.ask('PATCH', messagePath('/chat/a', 'k%201'), { mode: 'steer', status: 'processed' }))
    const deleted = expectStatus(200, await wire.ask('DELETE', messagePath('/chat/a', 'k%201')))

    const [update, removal] = (await wire.events('/chat/a')).slice(-2)
    const offset = expect.any(String)
    expect(update).toEqual({
      type: 'inbox',
      key: 'k 1',
      value: { mode: 'steer', status: 'processed', processed_at: expect.stringMatching(/^\d{4}-.*Z$/) },
      headers: { ...(edited.body as object), operation: 'update', offset },
    })
    expect(removal).toEqual({ type: 'inbox', key: 'k 1', headers: { ...(deleted.body as object), operation: 'delete', offset } })
  })
})

describe('the checks of an inbox edit (spec/03 §4)', () => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start()
    await wire.register('sams', {}, 'user:sam')
    await wire.spawned('/sams/a', {}, 'user:sam')
    await wire.spawned('/chat/a')
    await wire.spawned('/chat/ended')
    await wire.kill('/chat/ended')
  })
  afterAll(async () => await wire.stop())

  const edit = async (url: string, body: unknown, ask: Ask = {}) => await wire.ask('PATCH', messagePath(url, 'k'), body, ask)
  const lastEvent = async (url: string) => (await wire.events(url)).at(-1)

  it('entity, body, permission, key: in this order', async () => {
    const kim = { as: 'user:kim' }
    expect(await edit('/chat/none', '{', kim)).toMatchObject({ status: 404, body: refusal('NOT_FOUND', 'Entity not found at /chat/none') })
    expect(await edit('/none/a', '{', kim)).toMatchObject({
      status: 404,
      body: refusal('UNKNOWN_ENTITY_TYPE', 'Entity type "none" not found'),
    })
    expect(await edit('/sams/a', '{', kim)).toMatchObject({ status: 400, body: invalid('Invalid JSON body') })
    for (const [body, path] of [
      [{ mode: 'other' }, '/mode'],
      [{ status: 'done' }, '/status'],
      [{ position: 1 }, '/position'],
    ] as const)
      expect(await edit('/sams/a', body, kim)).toMatchObject({
        status: 400,
        body: {
          error: {
            code: 'INVALID_REQUEST',
            message: 'Request body does not match API schema',
            details: expect.arrayContaining([expect.objectContaining({ path })]),
          },
        },
      })
    for (const [method, body] of [
      ['PATCH', {}],
      ['DELETE', undefined],
    ] as const) {
      expect(await wire.ask(method, messagePath('/sams/a', '%zz'), body, kim)).toMatchObject({ status: 401 })
      expect(await wire.ask(method, messagePath('/sams/a', '%zz'), body)).toMatchObject({
        status: 400,
        body: invalid('Malformed percent-encoding in the path'),
      })
    }
    expect(await edit('/sams/a', {}, kim)).toMatchObject({
      status: 401,
      body: refusal('UNAUTHORIZED', 'Principal is not allowed to write /sams/a'),
    })
    expect(await wire.ask('DELETE', messagePath('/sams/a', 'k'), undefined, kim)).toMatchObject({ status: 401 })
  })

  it('an ended entity takes none, before the fields are looked at', async () => {
    expect(await edit('/chat/ended', {})).toMatchObject({ status: 409, body: stopped })
    expect(await wire.ask('DELETE', messagePath('/chat/ended', 'k'))).toMatchObject({ status: 409, body: stopped })
  })

  it('an edit without a field that it knows is refused', async () => {
    for (const body of [{}, { other: 1 }, ''])
      expect(await edit('/chat/a', body)).toMatchObject({ status: 400, body: invalid('No inbox fields to update') })
  })

  it.each([
    [{ payload: null }, { payload: null }],
    [{ payload: { text: 'x' }, other: 1 }, { payload: { text: 'x' } }],
    [{ position: '' }, { position: '' }],
    [{ status: 'pending' }, { status: 'pending' }],
    [{ status: 'cancelled' }, { status: 'cancelled', cancelled_at: expect.any(String) }],
  ])('%j is written as it should be', async (body, value) => {
    expectStatus(200, await edit('/chat/a', body))

    expect(await lastEvent('/chat/a')).toMatchObject({ type: 'inbox', key: 'k', value })
    expect(Object.keys((await lastEvent('/chat/a'))?.value ?? {}).sort()).toEqual(Object.keys(value).sort())
  })

  it('ends no pause, and works on principals', async () => {
    await wire.spawned('/chat/paused')
    await wire.signal('/chat/paused', { signal: 'SIGSTOP' })

    expectStatus(200, await edit('/chat/paused', { position: 'a' }))
    expectStatus(200, await edit('/principal/user:kim', { position: 'a' }))

    expect(await wire.statusOf('/chat/paused')).toBe('paused')
  })

  it('of edits that race a kill each is on the stream before the end, or refused', async () => {
    await wire.spawned('/chat/raced')

    const [, ...answers] = await Promise.all([
      wire.kill('/chat/raced'),
      ...Array.from({ length: 30 }, (_, index) => edit('/chat/raced', { position: String(index) })),
    ])

    const events = await wire.events('/chat/raced')
    expect(answers.every(({ status }) => status === 200 || status === 409)).toBe(true)
    expect(events.filter(({ type }) => type === 'inbox')).toHaveLength(answers.filter(({ status }) => status === 200).length)
    expect(events.at(-1)).toMatchObject({ type: 'signal' })
  })

  it('whatever is sent is refused, or no failure', async () => {
    await refusesAll(wire, noObject, async (body) => await wire.ask('PATCH', messagePath('/sams/a', 'k'), body))
    const drawn = fc.record({ method: fc.constantFrom('PATCH', 'DELETE'), id: oddSegment, key: oddSegment })
    await refusesAll(
      wire,
      drawn,
      async ({ method, id, key }) => await wire.askRaw(method, messagePath(`/chat/${id}`, key), '{"position":"x"}'),
    )
    const bodies = fc.record({ payload: fc.jsonValue(), position: fc.string({ unit: 'binary' }) }, { requiredKeys: [] })
    await neverFails(
      fc.record({ key: oddSegment, body: bodies }),
      async ({ key, body }) => await wire.askRaw('PATCH', messagePath('/chat/a', key), JSON.stringify(body)),
    )
  })
})
