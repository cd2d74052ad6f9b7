/** The reference handler of test/support takes signals (spec/05 §5) and deliveries (spec/06 §5) as the runtime does. */
import { eventually } from '../support/eventually.js'
import { offset } from './fake-server.js'
import { entity, inbox, main, row, Stage, signal, untilAborted } from './stage.js'

let stage: Stage
beforeEach(async () => {
  stage = await Stage.start()
})
afterEach(async () => await stage.stop())

describe('a signal', () => {
  it('SIGINT aborts the handler, is acknowledged under its key, and leaves later messages to the next wake', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.work = untilAborted

    await stage.delivered(from)
    await stage.begun()
    stage.server.append(main, signal('SIGINT'), inbox('unseen'))

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done', acked: offset(10) })
    expect(stage.signalRows().at(-1)).toMatchObject({
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
    expect(stage.passes).toEqual([['first']])
  })

  it.each([
    ['SIGTERM', 'shutdown_requested', 'stopped'],
    ['SIGHUP', 'shutdown_requested', undefined],
    ['SIGSTOP', 'transitioned', 'paused'],
  ])('%s ends the wake when the handler is done, and leaves later messages to the next', async (name, outcome, newState) => {
    const from = stage.server.append(main, inbox('first'))
    stage.work = async ({ write }) => {
      stage.server.append(main, signal(name))
      stage.server.append(main, inbox('unseen'))
      await eventually(() => stage.signalRows().length === 2)
      write(row('last words'))
    }

    await stage.delivered(from)

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done', acked: offset(10) })
    expect(stage.signalRows().at(-1)?.value).toMatchObject({ outcome, previous_state: 'running' })
    expect(stage.signalRows().at(-1)?.value?.new_state).toBe(newState)
    expect(stage.passes).toEqual([['first']])
    expect(stage.server.events(main).at(-1)).toMatchObject(row('last words'))
  })

  it('SIGKILL aborts the handler and is not acknowledged', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.work = untilAborted

    await stage.delivered(from)
    await stage.begun()
    stage.server.append(main, signal('SIGKILL', 'handled'))
    stage.server.closeStream(main)

    await stage.ended()
    expect([stage.signalRows().length, stage.handler.log.timesHandled('first')]).toEqual([1, 0])
  })

  it('that wakes an idle entity is acknowledged without the handler', async () => {
    const from = stage.server.append(main, signal('SIGINT'), signal('SIGUSR'), signal('SIGCONT'))

    await stage.delivered(from)

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done', acked: offset(20) })
    expect(stage.passes).toEqual([])
    const outcomes = stage
      .signalRows()
      .filter(({ value }) => value?.status === 'handled')
      .map(({ value }) => value?.outcome)
    expect(outcomes).toEqual(['ignored', 'delivered', 'transitioned'])
  })

  it('SIGINT for a run that the server saw going on aborts the next invocation', async () => {
    const from = stage.server.append(main, inbox('first'), signal('SIGINT'))

    await stage.delivered(from, { entity: { type: 'chat', status: 'running', url: entity, streams: { main } } })

    expect((await stage.ended()).passes).toMatchObject([{ ending: 'aborted' }])
    expect(stage.signalRows().at(-1)?.value).toMatchObject({ outcome: 'aborted' })
  })
})

describe('a delivery', () => {
  const wake = () => stage.server.wake(entity, offset(10))
  const signed = (at: number, kid?: string) => ({ 'webhook-signature': stage.server.signature(JSON.stringify(wake()), at, kid) })
  const now = () => Math.floor(Date.now() / 1000)

  it('is taken only with the signature of the server', async () => {
    const refused = async (headers: Record<string, string>) => await stage.server.deliver(stage.handler.url, wake(), headers)

    expect(await refused({ 'webhook-signature': '' })).toEqual({ status: 401, body: { error: 'Missing webhook signature' } })
    expect(await refused({ 'webhook-signature': 't=x' })).toEqual({ status: 401, body: { error: 'Invalid webhook signature' } })
    expect(await refused({ 'webhook-signature': stage.server.signature('other') })).toEqual({
      status: 401,
      body: { error: 'Invalid webhook signature' },
    })
    expect(await refused(signed(now() - 301))).toEqual({ status: 401, body: { error: 'Webhook signature expired' } })
    expect(await refused(signed(now(), 'ds_2'))).toEqual({ status: 401, body: { error: 'Unknown webhook signing key' } })
    expect((await fetch(stage.handler.url)).status).toBe(405)
    expect((await stage.server.deliver(stage.handler.url, { no: 'wake' })).status).toBe(400)
    expect(stage.handler.log.runs).toEqual([])
    expect(await refused({ 'webhook-signature': signed(now())['webhook-signature'].split(',').reverse().join(',') })).toMatchObject({
      status: 200,
    })
    expect(stage.server.callsTo(/jwks/, 'GET')).toHaveLength(1)
    expect(stage.server.callsTo(/jwks/, 'GET')[0]?.headers).toMatchObject({ accept: 'application/jwk-set+json, application/json' })
  })

  it('is put off while the keys cannot be had', async () => {
    stage.server.override(/jwks/, () => ({ status: 500 }))
    expect(await stage.server.deliver(stage.handler.url, wake())).toEqual({ status: 503, body: { error: 'JWKS fetch failed: 500' } })

    stage.server.override(/jwks/, () => ({ status: 200, body: { keys: [{ kty: 'RSA', kid: 'r' }] } }))
    expect(await stage.server.deliver(stage.handler.url, wake())).toEqual({
      status: 503,
      body: { error: 'JWKS response did not contain Ed25519 keys' },
    })
  })

  it('meets the faults that were ordered, and is recorded', async () => {
    stage.server.append(main, inbox('first'))
    const send = async () => await stage.server.deliver(stage.handler.url, wake())
    stage.handler.order({ kind: 'status', status: 503, retryAfterSeconds: 2 }, { times: 1 })
    stage.handler.order({ kind: 'synchronous' }, { times: 1 })
    stage.handler.order({ kind: 'die', at: 'handling' }, { times: 1 })

    expect((await send()).status).toBe(503)
    expect(await send()).toEqual({ status: 200, body: { done: true } })
    expect(await send()).toEqual({ status: 200, body: { ok: true } })
    expect((await stage.ended()).ending).toEqual({ kind: 'died' })
    await stage.handler.close()
    await expect(send()).rejects.toThrow()
    await stage.handler.open()
    expect((await send()).status).toBe(200)

    expect((await stage.ended(1)).ending).toMatchObject({ kind: 'done' })
    expect([stage.handler.log.timesHandled('first'), stage.handler.log.redeliveries(), stage.dones().length]).toEqual([1, 3, 1])
    expect(stage.handler.log.deliveriesTo(entity).map(({ status }) => status)).toEqual([503, 200, 200, 200])
  })

  it('answered late is worked on at once', async () => {
    stage.server.append(main, inbox('first'))
    let answer: () => void = () => undefined
    stage.handler.order({ kind: 'late', until: new Promise<void>((resolve) => (answer = resolve)) })

    const sent = stage.server.deliver(stage.handler.url, wake())
    await stage.ended()
    answer()

    expect(await sent).toEqual({ status: 200, body: { ok: true } })
  })
})
