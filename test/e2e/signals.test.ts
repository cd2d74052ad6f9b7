import { entityStatuses, isTerminal } from '../../src/domain/entity.js'
import { receive, signals } from '../../src/domain/signals.js'
import { expectStatus, refusal, Wire } from '../support/wire.js'

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start()
})
afterAll(async () => await wire.stop())

let fresh = 0
const freshEntity = async (status = 'idle'): Promise<string> => {
  fresh += 1
  const url = `/chat/fresh-${fresh}`
  await wire.spawned(url)
  if (status === 'killed') await wire.kill(url)
  else if (status !== 'idle') await wire.putInto(status, url)
  return url
}

const cells = entityStatuses.flatMap((status) => signals.map((signal) => ({ status, signal })))

describe('the table of signals over HTTP (spec/05 §2)', () => {
  it.each(cells.filter(({ status }) => !isTerminal(status)))('$status + $signal', async ({ status, signal }) => {
    const url = await freshEntity(status)
    const effect = receive(status, signal)
    const answer = expectStatus(200, await wire.signal(url, { signal, reason: 'r', payload: { x: 1 } }))
    const body = answer.body as { readonly created_at: number; readonly txid: number }
    const stream = await wire.stream(url)
    const event = (stream.body as readonly unknown[]).at(-1)
    const at = new Date(body.created_at).toISOString()

    expect(body).toEqual({
      url,
      signal,
      previous_state: status,
      new_state: effect?.newStatus,
      created_at: expect.any(Number),
      txid: expect.any(Number),
    })
    const handled = effect?.event === 'unhandled' ? undefined : effect?.event.outcome
    expect(event).toEqual({
      type: 'signal',
      key: expect.stringMatching(new RegExp(`^sig-${body.created_at}-[0-9a-f]{8}$`)),
      value: {
        signal,
        status: handled === undefined ? 'unhandled' : 'handled',
        sender: '/_electric/server',
        timestamp: at,
        reason: 'r',
        payload: { x: 1 },
        ...(handled === undefined
          ? {}
          : { handled_at: at, handled_by: '/_electric/server', outcome: handled, previous_state: status, new_state: effect?.newStatus }),
      },
      headers: { operation: 'insert', timestamp: at, txid: String(body.txid), offset: expect.any(String) },
    })
    expect(stream.headers.get('stream-closed')).toBe(effect?.ends ? 'true' : null)
    const rows = await wire.sql('SELECT status, updated_at::text AS updated_at, xmin::text AS xmin FROM entities WHERE url = $1', url)
    expect(rows).toEqual([{ status: effect?.newStatus, updated_at: String(body.created_at), xmin: String(body.txid) }])
  })

  it.each(['stopped', 'killed'])('%s: every signal and DELETE are refused, and nothing is appended', async (status) => {
    const url = await freshEntity(status)
    const before = await wire.events(url)

    for (const signal of signals)
      expect(await wire.signal(url, { signal })).toMatchObject({
        status: 409,
        body: refusal('INVALID_SIGNAL', `Cannot signal a ${status} entity`),
      })
    expect(await wire.kill(url)).toMatchObject({ status: 409, body: refusal('INVALID_SIGNAL', `Cannot signal a ${status} entity`) })
    expect(await wire.events(url)).toEqual(before)
  })
})

describe('the checks of a signal (spec/05 §1.2)', () => {
  it('1–3: the entity, the body, the permission, in this order', async () => {
    await wire.spawned('/chat/checked')

    expect(await wire.signal('/chat/none', '{', 'user:kim')).toMatchObject({
      status: 404,
      body: refusal('NOT_FOUND', 'Entity not found at /chat/none'),
    })
    expect(await wire.signal('/none/a', '{', 'user:kim')).toMatchObject({
      status: 404,
      body: refusal('UNKNOWN_ENTITY_TYPE', 'Entity type "none" not found'),
    })
    expect((await wire.signal('/chat/checked', { signal: 'sigkill' }, 'user:kim')).status).toBe(400)
    expect((await wire.signal('/chat/checked', {}, 'user:kim')).status).toBe(400)
    expect((await wire.signal('/chat/checked', { signal: 'SIGINT', reason: 7 }, 'user:kim')).status).toBe(400)
    expect(await wire.signal('/chat/checked', { signal: 'SIGKILL' }, 'user:kim')).toMatchObject({
      status: 401,
      body: refusal('UNAUTHORIZED', 'Principal is not allowed to signal /chat/checked'),
    })
    expect(await wire.kill('/chat/checked', 'user:kim')).toMatchObject({
      status: 401,
      body: refusal('UNAUTHORIZED', 'Principal is not allowed to delete /chat/checked'),
    })
    expect(await wire.statusOf('/chat/checked')).toBe('idle')
  })

  it('2: a bad signal is told as a union (texts that clients know)', async () => {
    const { body } = await wire.signal('/chat/checked', { signal: 'SIGX' })
    const messages = (body as { error: { details: { path: string; message: string }[] } }).error.details.map(
      ({ path, message }) => `${path} ${message}`,
    )

    expect(messages).toEqual([...signals.map(() => '/signal must be equal to constant'), '/signal must match a schema in anyOf'])
  })

  it('4: principal entities are built in, which is said after the permission', async () => {
    await wire.get('/principal/user:sam', 'user:sam')

    expect(await wire.signal('/principal/user:sam', { signal: 'SIGKILL' }, 'user:sam')).toMatchObject({
      status: 400,
      body: refusal('INVALID_REQUEST', 'Principal entities are built in and cannot be signaled'),
    })
    expect(await wire.kill('/principal/user%3Asam', 'user:sam')).toMatchObject({
      status: 400,
      body: refusal('INVALID_REQUEST', 'Principal entities are built in and cannot be killed'),
    })
    expect((await wire.signal('/principal/user:sam', { signal: 'SIGKILL' }, 'user:kim')).status).toBe(401)
  })
})

describe('a signal', () => {
  it('keeps an empty reason and a null payload; absent ones are absent', async () => {
    const url = await freshEntity()
    await wire.signal(url, { signal: 'SIGINT', reason: '', payload: null })
    await wire.signal(url, { signal: 'SIGINT' })
    const [, given, bare] = await wire.events(url)

    expect(given?.value).toMatchObject({ reason: '', payload: null })
    expect(Object.keys(bare?.value ?? {})).toEqual(['signal', 'status', 'sender', 'timestamp'])
  })

  it('given twice is two events (no idempotency)', async () => {
    const url = await freshEntity()
    await Promise.all([wire.signal(url, { signal: 'SIGUSR' }), wire.signal(url, { signal: 'SIGUSR' })])
    const [, first, second] = await wire.events(url)

    expect(first?.key).not.toBe(second?.key)
    expect(first?.headers.offset).not.toBe(second?.headers.offset)
  })

  it('among many to one entity takes effect in the order of the stream', async () => {
    const url = await freshEntity()
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => await wire.signal(url, { signal: index % 2 === 0 ? 'SIGSTOP' : 'SIGCONT' })),
    )
    const events = (await wire.events(url)).slice(1)

    let status: unknown = 'idle'
    for (const { value } of events) {
      if (value?.previous_state !== undefined) expect(value.previous_state).toBe(status)
      status = value?.signal === 'SIGSTOP' ? 'paused' : 'idle'
    }
    expect(events).toHaveLength(40)
    expect(await wire.statusOf(url)).toBe(status)
  })
})

describe('a kill', () => {
  it('by DELETE answers only the txid, and is SIGKILL with the legacy reason (MUST)', async () => {
    const url = await freshEntity()
    const answer = expectStatus(200, await wire.kill(url))

    expect(answer.body).toEqual({ txid: expect.any(Number) })
    expect((await wire.events(url)).at(-1)).toMatchObject({
      value: { signal: 'SIGKILL', reason: 'Legacy kill command', previous_state: 'idle', new_state: 'killed' },
      headers: { txid: String((answer.body as { txid: number }).txid) },
    })
  })

  it('leaves the entity readable and its URL taken for ever (MUST)', async () => {
    const url = await freshEntity('killed')

    expect((await wire.get(url)).body).toMatchObject({ status: 'killed' })
    expect((await wire.ask('HEAD', `/_electric/entities${url}`)).status).toBe(200)
    expect((await wire.stream(url)).headers.get('stream-closed')).toBe('true')
    expect((await wire.spawn(url)).status).toBe(409)
    expect(await wire.send(url, { payload: 1 })).toMatchObject({
      status: 409,
      body: refusal('NOT_RUNNING', 'Entity is not accepting writes'),
    })
  })

  it('of ten at once is one 200; the others are refused and append nothing', async () => {
    const url = await freshEntity()
    const answers = await Promise.all(Array.from({ length: 10 }, async () => await wire.kill(url)))

    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array.from({ length: 9 }, () => 409)])
    expect((await wire.events(url)).filter(({ type }) => type === 'signal')).toHaveLength(1)
  })

  it('of many entities at once succeeds for each', async () => {
    const urls = await Promise.all(Array.from({ length: 30 }, async () => await freshEntity()))
    const answers = await Promise.all(urls.map(async (url) => await wire.kill(url)))

    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    expect(new Set(await Promise.all(urls.map(async (url) => await wire.statusOf(url))))).toEqual(new Set(['killed']))
  })

  it.each([
    ['closed', 'UPDATE streams SET closed = true WHERE path = $1'],
    ['gone', 'UPDATE streams SET path = NULL WHERE path = $1'],
  ])('ends an entity also where its stream is %s already (spec/05 §4)', async (_, damage) => {
    const url = await freshEntity()
    await wire.sql(damage, `${url}/main`)

    expect((await wire.kill(url)).status).toBe(200)
    expect(await wire.statusOf(url)).toBe('killed')
  })

  it('leaves children alone', async () => {
    const parent = await freshEntity()
    await wire.spawned('/chat/surviving-child', { parent })
    await wire.kill(parent)

    expect(await wire.statusOf('/chat/surviving-child')).toBe('idle')
  })

  it('always leaves a closed stream; never 200 for a send after the kill was acknowledged (MUST)', async () => {
    for (let round = 0; round < 5; round += 1) {
      const url = await freshEntity()
      let acknowledged = false
      const late: number[] = []
      const sender = async (name: number) => {
        const sent: string[] = []
        for (let count = 0; ; count += 1) {
          const begunAfterKill = acknowledged
          const payload = `${name}-${count}`
          const { status } = await wire.send(url, { payload })
          if (begunAfterKill) late.push(status)
          if (status !== 200) return sent
          sent.push(payload)
        }
      }
      const senders = Array.from({ length: 6 }, (_, name) => sender(name))
      await wire.send(url, { payload: 'warm' })
      expectStatus(200, await wire.kill(url))
      acknowledged = true
      const sent = (await Promise.all(senders)).flat()
      const events = await wire.events(url)

      expect(late).not.toContain(200)
      expect(events.at(-1)?.value?.signal).toBe('SIGKILL')
      expect(new Set(events.filter(({ type }) => type === 'inbox').map(({ value }) => value?.payload))).toEqual(new Set([...sent, 'warm']))
      expect((await wire.stream(url)).headers.get('stream-closed')).toBe('true')
    }
  })
})
