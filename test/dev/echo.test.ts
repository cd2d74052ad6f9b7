/** The echo agent is a handler like any other: spec/06 §12, spec/05 §5, spec/01 §7, over the public wire. */
import { createServer, type Server } from 'node:http'
import { eventually } from '../support/eventually.js'
import { EchoStage, saidIn } from './echo-stage.js'

const words = (count: number): string => Array.from({ length: count }, (_, index) => `w${index}`).join(' ')

describe.each(['postgres', 'http'] as const)('the echo agent, streams: %s', (streams) => {
  let stage: EchoStage
  beforeAll(async () => {
    stage = await EchoStage.start(streams)
  })
  afterAll(async () => {
    await stage.stop()
  })

  it('answers a first message by a run with its text in deltas, and rests', async () => {
    await stage.wire.spawned('/echo/first', { initialMessage: 'Hello, agent' })

    await stage.says('/echo/first', ['You said: Hello, agent'])
    await stage.rests('/echo/first')
    const events = await stage.wire.events('/echo/first')
    const message = events.find(({ type }) => type === 'inbox')
    const offset = expect.any(String)
    expect(events.slice(2)).toEqual([
      { type: 'run', key: 'run-0', value: { status: 'started' }, headers: { operation: 'insert', answers: message?.key, offset } },
      { type: 'text', key: 'msg-0', value: { status: 'streaming', run_id: 'run-0' }, headers: { operation: 'insert', offset } },
      ...['You ', 'said: ', 'Hello, ', 'agent'].map((delta, seq) => ({
        type: 'text_delta',
        key: `msg-0:${seq}`,
        value: { text_id: 'msg-0', run_id: 'run-0', delta },
        headers: { operation: 'insert', offset },
      })),
      { type: 'text', key: 'msg-0', value: { status: 'completed', run_id: 'run-0' }, headers: { operation: 'update', offset } },
      { type: 'run', key: 'run-0', value: { status: 'completed', finish_reason: 'stop' }, headers: { operation: 'update', offset } },
    ])
  })

  it('answers every message once and in order, however many come while it talks', async () => {
    await stage.wire.spawned('/echo/many')
    const texts = Array.from({ length: 6 }, (_, index) => `m${index}`)

    for (const text of texts) await stage.wire.send('/echo/many', { payload: { text } })

    await stage.says(
      '/echo/many',
      texts.map((text) => `You said: ${text}`),
    )
    await stage.rests('/echo/many')
    expect(saidIn(await stage.wire.events('/echo/many'))).toHaveLength(texts.length)
  })

  it('goes on where the server was started again in mid-answer', async () => {
    await stage.wire.spawned('/echo/restarted', { initialMessage: words(60) })
    await eventually(async () => (await stage.wire.events('/echo/restarted')).some(({ type }) => type === 'text_delta'))

    await stage.wire.house.restart('server')

    await stage.says('/echo/restarted', [`You said: ${words(60)}`], 60_000)
    await stage.rests('/echo/restarted')
  })

  it('says the rest at once when it is stopped, and answers after its next start what came meanwhile', async () => {
    await stage.wire.spawned('/echo/stopped', { initialMessage: words(60) })
    await eventually(async () => (await stage.wire.events('/echo/stopped')).some(({ type }) => type === 'text_delta'))
    await stage.wire.send('/echo/stopped', { payload: 'later' })

    await stage.stopAgent()

    expect(saidIn(await stage.wire.events('/echo/stopped'))).toEqual([`You said: ${words(60)}`])
    await stage.startAgent()
    await stage.says('/echo/stopped', [`You said: ${words(60)}`, 'You said: later'])
    await stage.rests('/echo/stopped')
  })
})

describe('the echo agent', () => {
  let stage: EchoStage
  beforeAll(async () => {
    stage = await EchoStage.start()
  })
  afterAll(async () => {
    await stage.stop()
  })

  const hasBegun = async (url: string): Promise<unknown> =>
    await eventually(async () => (await stage.wire.events(url)).some(({ type }) => type === 'text_delta'))
  const signalsOf = async (url: string) => (await stage.wire.events(url)).filter(({ type }) => type === 'signal').map(({ value }) => value)

  it('gives queued messages their turns, and leaves those that are held back', async () => {
    await stage.wire.spawned('/echo/queue')
    await stage.wire.send('/echo/queue', { payload: 'one', mode: 'queued' })
    await stage.wire.send('/echo/queue', { payload: 'held', mode: 'paused', key: 'held' })

    await stage.says('/echo/queue', ['You said: one'])
    await stage.rests('/echo/queue')
    await stage.wire.ask('PATCH', '/_electric/entities/echo/queue/inbox/held', { mode: 'queued' })
    await stage.says('/echo/queue', ['You said: one', 'You said: held'])
    await stage.rests('/echo/queue')
  })

  it('does not answer a message that was taken back', async () => {
    await stage.wire.spawned('/echo/back')
    await stage.wire.send('/echo/back', { payload: 'no', mode: 'paused', key: 'no' })
    await stage.wire.ask('DELETE', '/_electric/entities/echo/back/inbox/no')
    await stage.wire.send('/echo/back', { payload: 'yes' })

    await stage.says('/echo/back', ['You said: yes'])
    await stage.rests('/echo/back')
  })

  it('stops talking when it is interrupted, and answers the next message', async () => {
    await stage.wire.spawned('/echo/interrupted', { initialMessage: words(60) })
    await hasBegun('/echo/interrupted')

    await stage.wire.signal('/echo/interrupted', { signal: 'SIGINT' })
    await stage.rests('/echo/interrupted')
    await stage.wire.send('/echo/interrupted', { payload: 'again' })

    await eventually(async () => saidIn(await stage.wire.events('/echo/interrupted')).at(-1) === 'You said: again')
    const events = await stage.wire.events('/echo/interrupted')
    expect(events.filter(({ value }) => value?.finish_reason !== undefined).map(({ value }) => value?.finish_reason)).toEqual([
      'aborted',
      'stop',
    ])
    expect(await signalsOf('/echo/interrupted')).toEqual([
      expect.objectContaining({ status: 'unhandled' }),
      expect.objectContaining({ status: 'handled', outcome: 'aborted', previous_state: 'running', handled_by: '/echo/interrupted' }),
    ])
  })

  it.each([
    ['SIGTERM', 'stopped', 'shutdown_requested'],
    ['SIGSTOP', 'paused', 'transitioned'],
  ])('finishes its answer on %s, and is %s then', async (signal, status, outcome) => {
    const url = `/echo/${signal.toLowerCase()}`
    await stage.wire.spawned(url, { initialMessage: words(60) })
    await hasBegun(url)

    await stage.wire.signal(url, { signal })

    await stage.rests(url, status)
    expect(saidIn(await stage.wire.events(url))).toEqual([`You said: ${words(60)}`])
    expect((await signalsOf(url)).at(-1)).toMatchObject({ signal, status: 'handled', outcome })
  })

  it('leaves a killed entity alone', async () => {
    await stage.wire.spawned('/echo/killed', { initialMessage: words(60) })
    await hasBegun('/echo/killed')

    await stage.wire.kill('/echo/killed')

    await eventually(() => stage.lines.some((line) => line.includes('/echo/killed ended early')))
    expect(await stage.wire.statusOf('/echo/killed')).toBe('killed')
  })

  it('answers no signal that finds it idle with words', async () => {
    await stage.wire.spawned('/echo/idle')

    await stage.wire.signal('/echo/idle', { signal: 'SIGUSR' })

    await eventually(async () => (await signalsOf('/echo/idle')).at(-1)?.outcome === 'delivered')
    await stage.rests('/echo/idle')
    expect(saidIn(await stage.wire.events('/echo/idle'))).toEqual([])
  })

  it('believes nothing that the server has not signed', async () => {
    const url = await stage.handlerUrl()
    const post = async (headers: Readonly<Record<string, string>>, body = '{}') =>
      (await fetch(url, { method: 'POST', headers, body })).status
    const now = Math.floor(Date.now() / 1_000)

    expect(await post({})).toBe(401)
    expect(await post({ 'webhook-signature': 'nonsense' })).toBe(401)
    expect(await post({ 'webhook-signature': `t=${now - 400},kid=ds_x,ed25519=aaaa` })).toBe(401)
    expect(await post({ 'webhook-signature': `t=${now},kid=ds_x,ed25519=aaaa` })).toBe(401)
    expect((await fetch(url)).status).toBe(405)
  })

  it('keeps its port from one start to the next', async () => {
    const before = await stage.handlerUrl()
    await stage.stopAgent()

    expect(await stage.startAgent()).toBe('echo')

    expect(await stage.handlerUrl()).toBe(before)
  })

  describe('whose port is taken', () => {
    let other: Server
    afterEach(() => {
      other.close()
    })

    it('says so, starts nothing, and answers at the next start what came meanwhile', async () => {
      const { port } = new URL(await stage.handlerUrl())
      await stage.stopAgent()
      other = createServer((_request, response) => response.writeHead(404).end())
      await new Promise<void>((resolve) => {
        other.listen(Number(port), '127.0.0.1', resolve)
      })

      expect(await stage.startAgent()).toBeUndefined()
      expect(stage.lines.at(-1)).toMatch(/^demo agent: there is none: its port cannot be had \(.*EADDRINUSE.*\)/)
      await stage.wire.spawned('/echo/waits', { initialMessage: 'hello' })
      await new Promise((resolve) => {
        other.close(resolve)
        other.closeAllConnections()
      })
      await stage.startAgent()
      await stage.says('/echo/waits', ['You said: hello'])
    })
  })

  it('is taken away where it is switched off', async () => {
    await stage.stopAgent()

    expect(await stage.startAgent({ AGENTS_DEMO: 'false' })).toBeUndefined()

    expect((await stage.wire.ask('GET', '/_electric/entity-types/echo')).status).toBe(404)
    expect(await stage.startAgent()).toBe('echo')
  })

  it.each([
    ['requests need a principal', { NODE_ENV: 'production' }, 'NODE_ENV'],
    ['loopback webhooks are refused', { ELECTRIC_AGENTS_OUTBOUND_PRIVATE: 'refuse' }, 'ELECTRIC_AGENTS_OUTBOUND_PRIVATE'],
    [
      'loopback webhooks go elsewhere',
      { ELECTRIC_AGENTS_REWRITE_LOOPBACK_WEBHOOKS_TO: 'host' },
      'ELECTRIC_AGENTS_REWRITE_LOOPBACK_WEBHOOKS_TO',
    ],
  ])('does not start where it could not work: %s', async (_what, environment, name) => {
    await stage.stopAgent()

    expect(await stage.startAgent(environment)).toBeUndefined()

    expect(stage.lines.at(-1)).toContain(name)
  })

  it('leaves a type of its name alone that somebody else has registered', async () => {
    await stage.stopAgent()
    const mine = 'http://127.0.0.1:1/mine'
    await stage.wire.register('echo', { default_dispatch_policy: { targets: [{ type: 'webhook', url: mine }] } })

    expect(await stage.startAgent()).toBeUndefined()
    expect(stage.lines.at(-1)).toContain(mine)
    await stage.stopAgent()
    await stage.startAgent({ AGENTS_DEMO: 'false' })

    expect(await stage.handlerUrl()).toBe(mine)
  })
})
