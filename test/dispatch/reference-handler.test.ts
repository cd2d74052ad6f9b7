/** The reference handler and runner of test/support do what spec/06 §5, §12 and spec/07 §5 say, seen by a small fake server. */
import { zeroOffset } from '../../src/domain/ids.js'
import { eventually } from '../support/eventually.js'
import { PullRunner, type PullRunnerOptions } from '../support/pull-runner.js'
import { RunLog, type RunRecord } from '../support/run-log.js'
import { parseWake, textOf, type Wake } from '../support/wake.js'
import type { WakeContext, WakeHandler } from '../support/wake-context.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { FakeServer, type Heard, offset } from './fake-server.js'

const main = '/chat/a/main'
const entity = '/chat/a'
const callback = /wake-callbacks/
const inbox = (text: string, more: object = {}, key = text) => ({
  type: 'inbox',
  key,
  value: {
    from: '/principal/user%3Asam',
    payload: { text },
    timestamp: '2026-11-25T10:00:00.000Z',
    mode: 'immediate',
    status: 'processed',
    ...more,
  },
  headers: { operation: 'insert' },
})
const created = {
  type: 'entity_created',
  key: 'entity-created',
  value: { entity_type: 'chat', args: {} },
  headers: { operation: 'insert' },
}
const tag = { type: 'tags', key: 'color', value: { key: 'color', value: 'blue' }, headers: { operation: 'insert' } }
const signal = (name: string, status = 'unhandled') => ({
  type: 'signal',
  key: `sig-${name}`,
  value: { signal: name, status, sender: '/_electric/server', timestamp: '2026-11-25T10:00:00.000Z' },
  headers: { operation: 'insert' },
})
const row = (text: string) => ({ type: 'state:notes', key: text, value: { text }, headers: { operation: 'insert' as const } })
const isDone = ({ body }: Heard): boolean => typeof body === 'object' && body !== null && 'done' in body
/** Until SIGINT, SIGKILL or a failure. */
const untilAborted = async ({ signal: aborted }: WakeContext): Promise<never> =>
  await new Promise((_, reject) => aborted.addEventListener('abort', () => reject(new Error('aborted'))))

let server: FakeServer
let handler: WebhookHandler
const passes: string[][] = []
let work: WakeHandler = async () => undefined

beforeEach(async () => {
  server = await FakeServer.start()
  passes.length = 0
  work = async () => undefined
  handler = await WebhookHandler.start({
    baseUrl: server.url,
    heartbeatMs: 40,
    idleMs: 60,
    handler: async (context) => {
      passes.push(context.events.map(textOf))
      await work(context)
    },
  })
})
afterEach(async () => {
  handler.die()
  await handler.stop()
  await server.stop()
})

async function delivered(from: string, more: Readonly<Record<string, unknown>> = {}): Promise<void> {
  expect(await server.deliver(handler.url, server.wake(entity, from, more))).toEqual({ status: 200, body: { ok: true } })
}

async function ended(index = 0): Promise<RunRecord> {
  return await eventually(() => (handler.log.runs[index]?.ending === undefined ? undefined : handler.log.runs[index]))
}

const begun = async (count = 1) => await eventually(() => passes.length >= count)
const dones = () => server.callsTo(callback).filter(isDone)
const written = () => server.callsTo(/\/main$/)
const signalRows = () => server.events(main).filter(({ type }) => type === 'signal')

describe('a wake', () => {
  it('is claimed, read, worked on, written and done, with the headers of the runtime', async () => {
    server.append(main, created)
    server.append(main, inbox('old'))
    const from = server.append(main, inbox('new'))
    work = async ({ write }) => write(row('one'), row('two'))

    await delivered(from)

    expect((await ended()).ending).toEqual({ kind: 'done', nextWake: false, acked: offset(40) })
    expect(passes).toEqual([['new']])
    const [claim] = server.callsTo(callback)
    expect(claim).toMatchObject({ headers: { authorization: 'Bearer claim-token' }, body: { epoch: 1, wakeId: 'w_chata_1' } })
    expect(claim?.headers['electric-principal']).toBeUndefined()
    expect(
      written().map(({ headers, body }) => [headers['producer-id'], headers['producer-epoch'], headers['producer-seq'], body]),
    ).toEqual([['entity-/chat/a', '1', '0', [row('one'), row('two')]]])
    expect(written()[0]?.headers.authorization).toBe('Bearer write-token')
    expect(dones().map(({ body }) => body)).toEqual([{ epoch: 1, acks: [{ path: main, offset: offset(40) }], done: true }])
  })

  it('gives the handler every fresh message, also when something else came last', async () => {
    const from = server.append(main, inbox('first'))
    server.append(main, inbox('second'))
    server.append(main, inbox('cancelled', { status: 'cancelled' }))
    server.append(main, tag)

    await delivered(`${offset(5)}~`)

    expect((await ended()).ending).toMatchObject({ kind: 'done', acked: offset(40) })
    expect(from).toBe(offset(10))
    expect(passes).toEqual([['first', 'second']])
  })

  it('runs no handler for events that are no work, and runs it when nothing is fresh at all', async () => {
    server.append(main, created)
    const from = server.append(main, tag)

    await delivered(from)
    await delivered(offset(30))

    expect((await ended()).ending).toMatchObject({ kind: 'done', acked: offset(20) })
    expect((await ended(1)).ending).toMatchObject({ kind: 'done', acked: undefined })
    expect(passes).toEqual([[]])
    expect(dones().map(({ body }) => body)).toContainEqual({ epoch: 1, acks: [], done: true })
  })

  it('does not take what a fork copied for new', async () => {
    server.append(main, inbox('copied'))
    server.append(main, { ...created, headers: { operation: 'update', forkedFrom: '/chat/b' } })
    server.append(main, inbox('own'))

    await delivered(offset(10))

    await ended()
    expect(passes).toEqual([['own']])
  })

  it('takes what comes during its handler and in its idle window, one seq after the other', async () => {
    const from = server.append(main, inbox('first'))
    work = async ({ write, flush, pass }) => {
      write(row(`pass ${pass}`))
      await flush()
      if (pass === 1) server.append(main, inbox('second'))
    }

    await delivered(from)

    expect((await ended()).ending).toMatchObject({ kind: 'done', acked: offset(40) })
    expect(passes).toEqual([['first'], ['second']])
    expect(written().map(({ headers }) => headers['producer-seq'])).toEqual(['0', '1'])
    expect(dones()).toHaveLength(1)
  })

  it('fenced as a producer goes on with a higher epoch', async () => {
    const from = server.append(main, inbox('first'))
    server.fence(main, 'entity-/chat/a', 7)
    work = async ({ write }) => write(row('one'))

    await delivered(from)

    expect((await ended()).ending).toMatchObject({ kind: 'done' })
    expect(written().map(({ headers }) => [headers['producer-epoch'], headers['producer-seq']])).toEqual([
      ['1', '0'],
      ['8', '0'],
    ])
  })

  it('promotes waiting messages in the order of their positions and stops at a paused one', async () => {
    const waiting = (text: string, mode: string, position: string) => inbox(text, { mode, status: 'pending', position })
    const from = server.append(main, waiting('later', 'queued', '2'))
    server.append(main, waiting('held', 'paused', '3'))
    server.append(main, waiting('sooner', 'queued', '1'))

    await delivered(from)

    expect((await ended()).ending).toMatchObject({ kind: 'done' })
    expect(passes).toEqual([['sooner'], ['later']])
    expect(server.events(main).filter(({ headers }) => headers.operation === 'update')).toMatchObject(
      ['sooner', 'later'].map((key) => ({ type: 'inbox', key, value: { status: 'processed' }, headers: { from: entity } })),
    )
  })

  it('acknowledges the input of a handler that failed and says so on the stream', async () => {
    const from = server.append(main, inbox('first'))
    work = async () => {
      throw new Error('broken')
    }

    await delivered(from)

    expect((await ended()).ending).toMatchObject({ kind: 'done', acked: offset(20) })
    expect(server.events(main).at(-1)).toMatchObject({ type: 'error', value: { error_code: 'HANDLER_FAILED', message: 'broken' } })
  })

  it.each([
    ['claim', callback, 'refused'],
    ['append', /\/main$/, 'failed'],
  ])('whose %s is refused ends without done', async (_, path, kind) => {
    const from = server.append(main, inbox('first'))
    work = async ({ write, flush }) => {
      write(row('one'))
      await flush()
    }
    server.override(path, ({ method }) => (method === 'POST' ? { status: 401, body: { error: { code: 'UNAUTHORIZED' } } } : undefined))

    await delivered(from)

    expect((await ended()).ending).toMatchObject({ kind })
    expect(dones()).toEqual([])
  })

  it('whose heartbeat is refused is aborted, says so and sends no done', async () => {
    const from = server.append(main, inbox('first'))
    const isHeartbeat = (heard: Heard) => JSON.stringify(heard.body) === '{"epoch":1}'
    server.override(callback, (heard) => (isHeartbeat(heard) ? { status: 409, body: { error: { code: 'FENCED' } } } : undefined))
    work = untilAborted

    await delivered(from)

    expect((await ended()).ending).toMatchObject({ kind: 'failed', reason: expect.stringContaining('HEARTBEAT_FAILED') })
    await eventually(() => server.events(main).some(({ value }) => value?.error_code === 'HEARTBEAT_FAILED'))
    expect([dones(), handler.log.timesHandled('first')]).toEqual([[], 0])
  })

  it('that needs a sandbox which does not exist acknowledges the offset that it was sent', async () => {
    server.append(main, inbox('first'))
    const bare = await WebhookHandler.start({ baseUrl: server.url, handler: work, sandboxProfiles: ['other'] })

    const { entity: plain } = server.wake(entity, '')
    await server.deliver(bare.url, server.wake(entity, `${zeroOffset}~`, { entity: { ...Object(plain), sandbox: { profile: 'docker' } } }))
    await bare.stop()

    expect(bare.log.runs).toMatchObject([{ passes: [], ending: { kind: 'done', acked: `${zeroOffset}~` } }])
  })

  it('that died sends nothing more, whatever its handler does', async () => {
    const from = server.append(main, inbox('first'))
    const refused: string[] = []
    work = async ({ signal: aborted, write, call }) => {
      await eventually(() => aborted.aborted)
      try {
        write(row('too late'))
      } catch (failure) {
        refused.push(String(failure))
      }
      await call('POST', '/_electric/entities/chat/b/send', {}).catch((failure: unknown) => refused.push(String(failure)))
    }

    await delivered(from)
    await begun()
    handler.die()
    await eventually(() => refused.length === 2)

    expect((await ended()).ending).toEqual({ kind: 'died' })
    expect([written(), dones(), handler.log.timesHandled('first')]).toEqual([[], [], 0])
  })

  it('beats while its handler runs, with a rotated token once it was given one', async () => {
    const from = server.append(main, inbox('first'))
    server.override(callback, ({ headers }) =>
      headers.authorization === 'Bearer claim-token'
        ? { status: 200, body: { ok: true, writeToken: 'w', claimToken: 'fresh' } }
        : undefined,
    )
    work = async () => {
      await eventually(() => server.callsTo(callback).length >= 3)
    }

    await delivered(from)

    await ended()
    expect(server.callsTo(callback).map(({ headers }) => headers.authorization)).toEqual([
      'Bearer claim-token',
      ...Array.from({ length: server.callsTo(callback).length - 1 }, () => 'Bearer fresh'),
    ])
  })
})

describe('a signal', () => {
  it('SIGINT aborts the handler, is acknowledged under its key, and leaves later messages to the next wake', async () => {
    const from = server.append(main, inbox('first'))
    work = untilAborted

    await delivered(from)
    await begun()
    server.append(main, signal('SIGINT'), inbox('unseen'))

    expect((await ended()).ending).toMatchObject({ kind: 'done', acked: offset(10) })
    expect(signalRows().at(-1)).toMatchObject({
      key: 'sig-SIGINT',
      value: {
        signal: 'SIGINT',
        status: 'handled',
        sender: '/_electric/server',
        handled_by: entity,
        outcome: 'aborted',
        previous_state: 'running',
      },
      headers: { operation: 'update' },
    })
    expect(passes).toEqual([['first']])
  })

  it.each([
    ['SIGTERM', 'shutdown_requested', 'stopped'],
    ['SIGHUP', 'shutdown_requested', undefined],
    ['SIGSTOP', 'transitioned', 'paused'],
  ])('%s ends the wake when the handler is done', async (name, outcome, newState) => {
    const from = server.append(main, inbox('first'))
    work = async ({ write }) => {
      server.append(main, signal(name))
      await eventually(() => signalRows().length === 2)
      write(row('last words'))
    }

    await delivered(from)

    expect((await ended()).ending).toMatchObject({ kind: 'done', acked: offset(40) })
    expect(signalRows().at(-1)?.value).toMatchObject({ outcome, previous_state: 'running' })
    expect(signalRows().at(-1)?.value?.new_state).toBe(newState)
    expect(handler.log.timesHandled('first')).toBe(1)
  })

  it('SIGKILL aborts the handler and is not acknowledged', async () => {
    const from = server.append(main, inbox('first'))
    work = untilAborted

    await delivered(from)
    await begun()
    server.append(main, signal('SIGKILL', 'handled'))
    server.closeStream(main)

    await ended()
    expect([signalRows().length, handler.log.timesHandled('first')]).toEqual([1, 0])
  })

  it('that wakes an idle entity is acknowledged without the handler', async () => {
    const from = server.append(main, signal('SIGINT'), signal('SIGUSR'), signal('SIGCONT'))

    await delivered(from)

    expect((await ended()).ending).toMatchObject({ kind: 'done', acked: offset(20) })
    expect(passes).toEqual([])
    const outcomes = signalRows()
      .filter(({ value }) => value?.status === 'handled')
      .map(({ value }) => value?.outcome)
    expect(outcomes).toEqual(['ignored', 'delivered', 'transitioned'])
  })

  it('SIGINT for a run that the server saw going on aborts the next invocation', async () => {
    const from = server.append(main, inbox('first'), signal('SIGINT'))

    await delivered(from, { entity: { type: 'chat', status: 'running', url: entity, streams: { main } } })

    expect((await ended()).passes).toMatchObject([{ ending: 'aborted' }])
    expect(signalRows().at(-1)?.value).toMatchObject({ outcome: 'aborted' })
  })
})

describe('a delivery', () => {
  const wake = () => server.wake(entity, offset(10))
  const signed = (at: number, kid?: string) => ({ 'webhook-signature': server.signature(JSON.stringify(wake()), at, kid) })
  const now = () => Math.floor(Date.now() / 1000)

  it('is taken only with the signature of the server', async () => {
    const refused = async (headers: Record<string, string>) => await server.deliver(handler.url, wake(), headers)

    expect(await refused({ 'webhook-signature': '' })).toEqual({ status: 401, body: { error: 'Missing webhook signature' } })
    expect(await refused({ 'webhook-signature': 't=x' })).toEqual({ status: 401, body: { error: 'Invalid webhook signature' } })
    expect(await refused({ 'webhook-signature': server.signature('other') })).toEqual({
      status: 401,
      body: { error: 'Invalid webhook signature' },
    })
    expect(await refused(signed(now() - 301))).toEqual({ status: 401, body: { error: 'Webhook signature expired' } })
    expect(await refused(signed(now(), 'ds_2'))).toEqual({ status: 401, body: { error: 'Unknown webhook signing key' } })
    expect((await fetch(handler.url)).status).toBe(405)
    expect((await server.deliver(handler.url, { no: 'wake' })).status).toBe(400)
    expect(handler.log.runs).toEqual([])
    expect(await refused({ 'webhook-signature': signed(now())['webhook-signature'].split(',').reverse().join(',') })).toMatchObject({
      status: 200,
    })
    expect(server.callsTo(/jwks/, 'GET')).toHaveLength(1)
    expect(server.callsTo(/jwks/, 'GET')[0]?.headers).toMatchObject({ accept: 'application/jwk-set+json, application/json' })
  })

  it('is put off while the keys cannot be had', async () => {
    server.override(/jwks/, () => ({ status: 500 }))
    expect(await server.deliver(handler.url, wake())).toEqual({ status: 503, body: { error: 'JWKS fetch failed: 500' } })

    server.override(/jwks/, () => ({ status: 200, body: { keys: [{ kty: 'RSA', kid: 'r' }] } }))
    expect(await server.deliver(handler.url, wake())).toEqual({
      status: 503,
      body: { error: 'JWKS response did not contain Ed25519 keys' },
    })
  })

  it('meets the faults that were ordered, and is recorded', async () => {
    server.append(main, inbox('first'))
    const send = async () => await server.deliver(handler.url, wake())
    handler.order({ kind: 'status', status: 503, retryAfterSeconds: 2 }, { times: 1 })
    handler.order({ kind: 'synchronous' }, { times: 1 })
    handler.order({ kind: 'die', at: 'handling' }, { times: 1 })

    expect((await send()).status).toBe(503)
    expect(await send()).toEqual({ status: 200, body: { done: true } })
    expect(await send()).toEqual({ status: 200, body: { ok: true } })
    expect((await ended()).ending).toEqual({ kind: 'died' })
    await handler.close()
    await expect(send()).rejects.toThrow()
    await handler.open()
    expect((await send()).status).toBe(200)

    expect((await ended(1)).ending).toMatchObject({ kind: 'done' })
    expect([handler.log.timesHandled('first'), handler.log.redeliveries(), dones().length]).toEqual([1, 3, 1])
    expect(handler.log.deliveriesTo(entity).map(({ status }) => status)).toEqual([503, 200, 200, 200])
  })

  it('answered late is worked on at once', async () => {
    server.append(main, inbox('first'))
    let answer: () => void = () => undefined
    handler.order({ kind: 'late', until: new Promise<void>((resolve) => (answer = resolve)) })

    const sent = server.deliver(handler.url, wake())
    await ended()
    answer()

    expect(await sent).toEqual({ status: 200, body: { ok: true } })
  })
})

describe('a runner', () => {
  const event = (stream: string, generation = 1) => ({ type: 'wake', subscription_id: `runner:r1:${stream}`, stream, generation, ts: 1 })
  const wakes = '/runners/r1/wake'
  const claims = () => server.callsTo(/\/claim$/)
  const start = async (options: Partial<PullRunnerOptions> = {}) =>
    await PullRunner.start({
      baseUrl: server.url,
      id: 'r1',
      headers: { 'electric-principal': 'user:alice' },
      handler: async (context) => {
        passes.push(context.events.map(textOf))
        await work(context)
      },
      idleMs: 30,
      heartbeatMs: 40,
      ...options,
    })

  it('registers, reads its wake stream, claims and works, always under its name', async () => {
    const from = server.append(main, inbox('first'))
    server.override(/\/claim$/, () => ({ status: 200, body: server.wake(entity, from) }))
    work = async ({ write }) => write(row('one'))
    const runner = await start({ tokenHeader: 'electric-claim-token' })

    server.append(wakes, event('chat/a/main'))
    await eventually(() => runner.log.runs[0]?.ending?.kind === 'done')

    expect(server.callsTo(/\/_electric\/runners$/)[0]?.body).toMatchObject({ id: 'r1', kind: 'local', admin_status: 'enabled' })
    expect(claims().map(({ body }) => body)).toEqual([event('chat/a/main')])
    const [first] = server.callsTo(callback)
    expect(first?.headers).toMatchObject({
      'electric-runner-id': 'r1',
      'electric-principal': 'user:alice',
      'electric-claim-token': 'claim-token',
    })
    expect(first?.headers.authorization).toBeUndefined()
    expect(written()[0]?.headers).toMatchObject({
      'electric-runner-id': 'r1',
      'electric-claim-token': 'write-token',
      'producer-id': 'entity-/chat/a',
    })
    await runner.stop()
    expect(server.callsTo(/\/heartbeat$/)[0]?.body).toMatchObject({ wake_stream_offset: '-1', diagnostics: { last_heartbeat_ok: false } })
    expect(runner.diagnostics).toMatchObject({ claims_succeeded: 1, last_claim_result: 'claimed', events_received: 1 })
    expect(runner.offset).toBe(offset(10))
  })

  it('skips what is no work, and tries no event a second time', async () => {
    const answers = [
      { status: 204 },
      { status: 200, body: { done: true } },
      { status: 409, body: { error: { code: 'ALREADY_CLAIMED' } } },
      { status: 409, body: { error: { code: 'NO_PENDING_WORK' } } },
      { status: 409, body: { error: { code: 'NOT_RUNNING' } } },
      { status: 502, body: {} },
    ]
    server.override(/\/claim$/, () => answers[claims().length - 1])
    const runner = await start()

    for (const index of answers.keys()) {
      server.append(wakes, event(`chat/${index}/main`))
      await eventually(() => runner.claims.length === index + 1)
    }

    expect(runner.diagnostics).toMatchObject({ claims_skipped: 4, claims_failed: 2, claims_succeeded: 0 })
    await runner.stop()
    expect(claims()).toHaveLength(answers.length)
  })

  it('keeps only the latest event of a stream that it works on, and looks again when it is free', async () => {
    const from = server.append(main, inbox('first'))
    server.override(/\/claim$/, () => (claims().length === 1 ? { status: 200, body: server.wake(entity, from) } : { status: 204 }))
    work = async () => {
      server.append(wakes, event('chat/a/main', 2), event('chat/a/main', 3))
      await eventually(() => runner.diagnostics.events_received === 3)
      expect(claims()).toHaveLength(1)
    }
    const runner = await start()

    server.append(wakes, event('chat/a/main'))
    await eventually(() => runner.claims.length === 2)

    expect(claims().map(({ body }) => body)).toEqual([event('chat/a/main'), event('chat/a/main', 3)])
    expect(runner.log.runs).toMatchObject([{ passes: [{ ending: 'returned' }] }])
    await runner.stop()
  })

  it('that stops lets its handler end, sends the done and leaves the rest to others', async () => {
    const from = server.append(main, inbox('first'))
    server.override(/\/claim$/, () => ({ status: 200, body: server.wake(entity, from) }))
    let go: () => void = () => undefined
    work = async ({ history }) => {
      await new Promise<void>((resolve) => {
        go = resolve
      })
      server.append(main, inbox('second'))
      await eventually(() => history.length === 2)
    }
    const runner = await start({ idleMs: 20_000 })
    server.append(wakes, event('chat/a/main'))
    await begun()

    const stopped = runner.stop()
    go()
    await stopped

    expect(runner.log.runs).toMatchObject([{ ending: { kind: 'done', acked: offset(10) } }])
    expect([passes, dones().length]).toEqual([[['first']], 1])
  })

  it('may lose the answer to a claim, and may die', async () => {
    const from = server.append(main, inbox('first'))
    server.override(/\/claim$/, () => ({ status: 200, body: server.wake(entity, from) }))
    const runner = await start()
    runner.loseClaimAnswers()
    runner.dieAt('handled')

    server.append(wakes, event('chat/a/main'))
    await eventually(() => runner.claims.length === 1)
    expect([runner.claims[0]?.status, runner.log.runs]).toEqual([0, []])
    server.append(wakes, event('chat/a/main', 2))
    await eventually(() => runner.log.runs[0]?.ending?.kind === 'died')

    expect([claims().length, dones().length]).toEqual([2, 0])
  })
})

describe('the ledger', () => {
  const wakeOf = (generation: number): Wake => {
    const parsed = parseWake(server.wake(entity, offset(10), { epoch: generation }))
    if ('problem' in parsed) throw new Error(parsed.problem)
    return parsed.wake
  }

  it('finds runs of one generation, or of one entity, at the same time', () => {
    const log = new RunLog()
    const [one, two, refused] = [log.begin('a', wakeOf(1)), log.begin('b', wakeOf(1)), log.begin('c', wakeOf(1))]
    log.claimed(one)
    log.end(refused, { kind: 'refused', at: 'claim', status: 409, text: '' })
    expect(() => log.expectNoEntityTwiceAtATime()).not.toThrow()

    log.claimed(two)
    log.end(one, { kind: 'died' })
    log.end(two, { kind: 'died' })

    expect(() => log.expectNoGenerationTwiceAtATime()).toThrow('a generation ran twice at a time, 1 times:\n/chat/a: a in generation 1')
    const next = log.begin('a', wakeOf(2))
    log.claimed(next)
    const after = log.begin('a', wakeOf(3))
    log.claimed(after)
    expect([log.overlapsOfGenerations().length, log.overlapsOfEntities().length]).toEqual([1, 2])
  })

  it('names the messages that nobody handled', () => {
    expect(() => new RunLog().expectEachHandled(['lost'])).toThrow('1 of 1 messages were never handled: lost')
  })
})
