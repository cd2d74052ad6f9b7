/** Signals to entities whose handlers work: spec/05 §4–6, against the reference handler. */
import { Client, Connection } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import { endLease, HandHeld, nothingIsLeft } from '../support/hand-held.js'
import type { WakeContext } from '../support/wake-context.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { expectStatus, Wire } from '../support/wire.js'

const graceMs = 1_500
const run = (key: string, status: string, operation: 'insert' | 'update') => ({
  type: 'run',
  key,
  value: { status },
  headers: { operation },
})

/** Handlers that wait in the middle of their run, for a word or an abort. */
class Gate {
  readonly #waiting = new Map<string, () => void>()

  async pass({ wake, signal }: WakeContext): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#waiting.set(wake.entity.url, resolve)
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  isAt(url: string): boolean {
    return this.#waiting.has(url)
  }

  open(url: string): void {
    this.#waiting.get(url)?.()
    this.#waiting.delete(url)
  }
}

describe.each(['postgres', 'http'] as const)('streams: %s', (streams) => {
  let wire: Wire
  let handler: WebhookHandler
  let held: HandHeld
  let connection: Connection
  let temporal: Client
  const gate = new Gate()

  beforeAll(async () => {
    wire = await Wire.start({
      streams,
      env: { ELECTRIC_AGENTS_DEADLINES_EVERY_MS: '50', ELECTRIC_AGENTS_STOP_GRACE_MS: String(graceMs) },
    })
    handler = await WebhookHandler.start({
      baseUrl: () => wire.url,
      handler: async (context) => {
        const key = `run-${context.wake.epoch}-${context.pass}`
        context.write(run(key, 'started', 'insert'))
        await context.flush()
        if (context.events.some(({ value }) => value?.payload === 'wait')) await gate.pass(context)
        if (!context.signal.aborted) context.write(run(key, 'completed', 'update'))
      },
    })
    await wire.register('echo', { default_dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] } })
    held = await HandHeld.start(wire)
    connection = await Connection.connect({ address: wire.house.temporalAddress })
    temporal = new Client({ connection, namespace: wire.house.namespace })
  })
  afterAll(async () => {
    handler.die()
    await handler.stop()
    await held.stop()
    await connection.close()
    await wire.stop()
  })
  afterEach(() => handler.heal())

  /** A new entity whose handler waits in its first run. */
  async function atWork(url: string): Promise<void> {
    await wire.spawned(url, { initialMessage: 'wait' })
    await eventually(() => gate.isAt(url))
    expect(await wire.statusOf(url)).toBe('running')
  }
  const signal = async (url: string, name: string) =>
    expectStatus(200, await wire.signal(url, { signal: name })).body as { readonly new_state: string }
  const ended = async (url: string, nth = 0) => await eventually(() => handler.log.runsOf(url)[nth]?.ending)
  const signalsOf = async (url: string) =>
    (await wire.events(url)).filter(({ type }) => type === 'signal').map(({ value }) => [value?.signal, value?.status, value?.outcome])
  const isClosed = async (url: string) => (await wire.stream(url)).headers.get('stream-closed') === 'true'

  /** A stopped entity: its stream closed, and nothing of its dispatch there any more. */
  async function expectStopped(url: string, status = 'stopped'): Promise<void> {
    await eventually(async () => (await wire.statusOf(url)) === status)
    await eventually(async () => await isClosed(url))
    const main = `${url}/main`
    expect(await wire.sql('SELECT id FROM subscriptions WHERE entity_url = $1', url)).toEqual([])
    expect(await wire.sql('SELECT path FROM subscription_links WHERE path = $1', main)).toEqual([])
    expect(await wire.sql('SELECT path FROM write_tokens WHERE path = $1', main)).toEqual([])
    expect(await wire.sql(`SELECT wake_id FROM consumer_claims WHERE entity_url = $1 AND status = 'active'`, url)).toEqual([])
    expect(await wire.sql('SELECT wake_id FROM wake_notifications WHERE entity_url = $1 AND resolved_at IS NULL', url)).toEqual([])
    const gone = await wire.send(url, { payload: 'too late' })
    expect([gone.status, gone.body]).toMatchObject([409, { error: { code: 'NOT_RUNNING' } }])
  }

  const stopOf = (url: string) => temporal.workflow.getHandle(`stop:${url}`)

  describe('SIGTERM to a running entity', () => {
    it('is stopping until its handler is done, then stopped, and nothing is left of it', async () => {
      const url = '/echo/term'
      await atWork(url)

      expect((await signal(url, 'SIGTERM')).new_state).toBe('stopping')
      expect((await wire.send(url, { payload: 'more' })).status).toBe(409)
      gate.open(url)

      expect(await ended(url)).toMatchObject({ kind: 'done', nextWake: false })
      await expectStopped(url)
      expect(await signalsOf(url)).toEqual([
        ['SIGTERM', 'unhandled', undefined],
        ['SIGTERM', 'handled', 'shutdown_requested'],
      ])
      expect((await wire.events(url)).filter(({ type }) => type === 'run').at(-1)?.value?.status).toBe('completed')
    })

    it('is seen in Temporal by its summary while it waits, and ends there with the handler', async () => {
      const url = '/echo/seen'
      await atWork(url)
      await signal(url, 'SIGTERM')

      const description = await eventually(async () => await stopOf(url).describe())
      expect([description.type, description.status.name, await description.staticSummary()]).toEqual([
        'stopEntity',
        'RUNNING',
        `stop ${url} when its handler is done`,
      ])
      gate.open(url)
      await expectStopped(url)
      await eventually(async () => (await stopOf(url).describe()).status.name === 'COMPLETED')
    })

    it('stops without a handler that does not end within the grace period; its claim is fenced', async () => {
      const { wake, writeToken } = await held.claimed('/held/deaf')
      const { url } = wake.entity
      await signal(url, 'SIGTERM')
      expectStatus(200, await held.heartbeat(wake))
      expectStatus(204, await held.append(url, [run('last', 'started', 'insert')], writeToken))
      expect(await wire.statusOf(url)).toBe('stopping')

      await expectStopped(url)
      expect((await held.heartbeat(wake)).status).toBe(409)
      expect((await held.done(wake)).status).toBe(409)
      expect((await held.append(url, [run('late', 'started', 'insert')], writeToken)).status).toBe(401)
      expect(await wire.statusOf(url)).toBe('stopped')
      expect(await stopOf(url).result()).toBeUndefined()
    })

    it('stops a minute after the grace period where nobody has started its workflow', async () => {
      const { wake } = await held.claimed('/held/unwatched')
      const { url } = wake.entity
      const overdueMs = graceMs + 60_000
      await wire.sql(`UPDATE entities SET status = 'stopping', updated_at = updated_at - $2::int8 WHERE url = $1`, url, overdueMs)
      await temporal.schedule.getHandle('sweep').trigger()

      await expectStopped(url)
      expect((await held.done(wake)).status).toBe(409)
    })

    it('stops at the end of the lease, where its handler is dead', async () => {
      const { wake } = await held.claimed('/held/dead')
      await signal(wake.entity.url, 'SIGTERM')
      await endLease(wire, wake.wakeId)

      await expectStopped(wake.entity.url)
    })

    it('stops when nobody takes its wake', async () => {
      const url = '/echo/untaken'
      handler.order({ kind: 'status', status: 500 }, { when: ({ entity }) => entity.url === url })
      await wire.spawned(url, { initialMessage: 'first' })
      await eventually(() => handler.log.deliveriesTo(url).length === 1)
      await signal(url, 'SIGTERM')

      await expectStopped(url)
    })

    it('repeated is no second stop; a SIGKILL meanwhile wins', async () => {
      const { wake, writeToken } = await held.claimed('/held/twice')
      const { url } = wake.entity
      expect((await signal(url, 'SIGTERM')).new_state).toBe('stopping')
      expect((await signal(url, 'SIGTERM')).new_state).toBe('stopping')
      expect((await signal(url, 'SIGCONT')).new_state).toBe('stopping')
      expect((await signal(url, 'SIGKILL')).new_state).toBe('killed')

      await expectStopped(url, 'killed')
      expect((await held.append(url, [run('late', 'started', 'insert')], writeToken)).status).toBe(401)
      expect((await held.done(wake)).status).toBe(409)
      expect(await wire.statusOf(url)).toBe('killed')
    })
  })

  describe('SIGSTOP to a running entity', () => {
    it('ends paused, holds its messages back, and SIGCONT resumes them', async () => {
      const url = '/echo/pause'
      await atWork(url)

      expect((await signal(url, 'SIGSTOP')).new_state).toBe('paused')
      gate.open(url)
      expect(await ended(url)).toMatchObject({ kind: 'done' })
      expect(await wire.statusOf(url)).toBe('paused')
      expect((await wire.events(url)).filter(({ type }) => type === 'run').at(-1)?.value?.status).toBe('completed')

      expectStatus(200, await wire.send(url, { payload: 'queued up', mode: 'paused' }))
      expectStatus(200, await wire.ask('POST', `/_electric/entities${url}/tags/color`, { value: 'red' }))
      const delivered = handler.log.deliveriesTo(url).length
      expect(await wire.sql('SELECT wake_id, due_at FROM subscriptions WHERE entity_url = $1', url)).toEqual([
        { wake_id: null, due_at: null },
      ])
      expect((await signal(url, 'SIGCONT')).new_state).toBe('idle')
      await eventually(() => handler.log.deliveriesTo(url).length > delivered)
      await eventually(async () => (await wire.statusOf(url)) === 'idle' && handler.log.runsOf(url).at(-1)?.ending?.kind === 'done')
      expect((await signalsOf(url)).at(-1)).toEqual(['SIGCONT', 'handled', 'transitioned'])
    })

    it('is undone by the next message, which is handled', async () => {
      const url = '/echo/resumed'
      await atWork(url)
      await signal(url, 'SIGSTOP')
      gate.open(url)
      await ended(url)

      expectStatus(200, await wire.send(url, { payload: 'go on' }))
      await eventually(() => handler.log.timesHandled('go on', url) === 1)
      await eventually(async () => (await wire.statusOf(url)) === 'idle')
    })

    it('whose handler dies stays paused, and its work comes again after SIGCONT', async () => {
      const { wake } = await held.claimed('/held/paused-dead')
      const { url } = wake.entity
      await signal(url, 'SIGSTOP')
      await endLease(wire, wake.wakeId)
      expect(await wire.statusOf(url)).toBe('paused')
      expect(held.wakesOf(url)).toHaveLength(1)

      await signal(url, 'SIGCONT')
      const next = await held.wake(url, 2)
      expect(next.streams).toEqual(wake.streams)
      held.tokenIn(await held.claim(next))
      expectStatus(200, await held.done(next))
    })

    it('before its wake was claimed: the claim is refused, and the wake comes again after SIGCONT', async () => {
      const wake = await held.woken('/held/unclaimed')
      const { url } = wake.entity
      await signal(url, 'SIGSTOP')
      const refused = await held.claim(wake)
      expect([refused.status, refused.body]).toMatchObject([409, { error: { code: 'NOT_RUNNING' } }])
      expect(await wire.statusOf(url)).toBe('paused')

      await signal(url, 'SIGCONT')
      const next = await held.wake(url, 2)
      expect(next.streams).toEqual(wake.streams)
      expectStatus(200, await held.done(next))
    })

    it('followed by SIGINT stops it at once: the interrupt reaches the run (required of us)', async () => {
      const url = '/echo/stop-now'
      await atWork(url)
      await signal(url, 'SIGSTOP')
      await signal(url, 'SIGINT')

      expect(await ended(url)).toMatchObject({ kind: 'done' })
      expect(handler.log.runsOf(url)[0]?.passes[0]?.ending).toBe('aborted')
      expect(await wire.statusOf(url)).toBe('paused')
      expect(await signalsOf(url)).toContainEqual(['SIGINT', 'handled', 'aborted'])
      gate.open(url)
    })

    it('and nothing active: SIGINT is ignored, and said to be', async () => {
      const url = '/echo/quiet'
      await wire.spawned(url)
      await signal(url, 'SIGSTOP')
      await signal(url, 'SIGINT')

      expect(await signalsOf(url)).toEqual([
        ['SIGSTOP', 'handled', 'transitioned'],
        ['SIGINT', 'handled', 'ignored'],
      ])
    })
  })

  it('SIGINT aborts the run, and the next message finds its handler', async () => {
    const url = '/echo/interrupted'
    await atWork(url)
    await signal(url, 'SIGINT')
    expect(await ended(url)).toMatchObject({ kind: 'done' })

    expectStatus(200, await wire.send(url, { payload: 'next' }))
    await eventually(() => handler.log.timesHandled('next', url) === 1)
    await eventually(async () => (await wire.statusOf(url)) === 'idle')
  })

  it('SIGKILL during a run: the old token is worth 401, and the entity stays killed, whatever its run still says', async () => {
    const url = '/echo/killed'
    await atWork(url)
    await signal(url, 'SIGKILL')

    await ended(url)
    await expectStopped(url, 'killed')
    expect((await wire.events(url)).at(-1)).toMatchObject({ type: 'signal', value: { signal: 'SIGKILL' } })
    gate.open(url)
  })

  it('a message during a run is handled in the same wake, or the next', async () => {
    const url = '/echo/meanwhile'
    await atWork(url)
    expectStatus(200, await wire.send(url, { payload: 'second' }))
    gate.open(url)
    await eventually(() => handler.log.timesHandled('second', url) === 1)
    await eventually(async () => (await wire.statusOf(url)) === 'idle')
    expect(handler.log.timesHandled('wait', url)).toBe(1)
    handler.log.expectNoEntityTwiceAtATime()
  })

  it('and nothing of all this is left over', async () => {
    await nothingIsLeft(wire)
    await eventually(async () => {
      for await (const { workflowId } of temporal.workflow.list({ query: `ExecutionStatus = 'Running'` }))
        throw new Error(`${workflowId} is open`)
      return true
    })
  })
})

describe('a handler that holds its delivery, to say done with its answer,', () => {
  let wire: Wire
  let handler: WebhookHandler
  let connection: Connection
  let temporal: Client

  beforeAll(async () => {
    wire = await Wire.start() // its grace period is longer than a test
    handler = await WebhookHandler.start({ baseUrl: () => wire.url, handler: async () => undefined })
    await wire.register('held', { default_dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] } })
    connection = await Connection.connect({ address: wire.house.temporalAddress })
    temporal = new Client({ connection, namespace: wire.house.namespace })
  })
  afterAll(async () => {
    await handler.stop()
    await connection.close()
    await wire.stop()
  })

  /** A new entity whose handler has been asked, after `failures` answers that were none. What lets it answer. */
  async function asked(url: string, failures = 0): Promise<() => void> {
    let answer: () => void = () => undefined
    const until = new Promise<void>((resolve) => (answer = resolve))
    const when = ({ entity }: { readonly entity: { readonly url: string } }) => entity.url === url
    handler.order({ kind: 'status', status: 500 }, { when, times: failures })
    handler.order({ kind: 'synchronous', until }, { when, times: 1 })
    await wire.spawned(url, { initialMessage: 'hello' })
    await eventually(async () => handler.log.deliveriesTo(url).length > failures && (await wire.statusOf(url)) === 'running')
    return () => answer()
  }
  const signalled = async (url: string, ...names: readonly string[]) => {
    for (const name of names) expectStatus(200, await wire.signal(url, { signal: name }))
  }

  it.each([0, 1])('is waited for by a SIGTERM; deliveries that failed before: %d', async (failures) => {
    const url = `/held/term-${failures}`
    const answer = await asked(url, failures)
    await signalled(url, 'SIGTERM')

    await temporal.workflow.execute('sweep', { taskQueue: wire.house.taskQueue, workflowId: `sweep of ${url}` })
    expect(await wire.statusOf(url)).toBe('stopping')

    answer()
    await eventually(async () => (await wire.statusOf(url)) === 'stopped')
  })

  it('is left the SIGINT behind a SIGSTOP', async () => {
    const url = '/held/stop-now'
    const answer = await asked(url)
    await signalled(url, 'SIGSTOP', 'SIGINT')

    const signals = (await wire.events(url)).filter(({ type }) => type === 'signal')
    expect(signals.map(({ value }) => [value?.signal, value?.status])).toEqual([
      ['SIGSTOP', 'unhandled'],
      ['SIGINT', 'unhandled'],
    ])
    answer()
    await eventually(async () => (await wire.sql('SELECT wake_id FROM subscriptions WHERE entity_url = $1', url))[0]?.wake_id === null)
    expect(await wire.statusOf(url)).toBe('paused')
  })

  it('whose server dies is taken for dead when its delivery is due again: the entity stops', async () => {
    const url = '/held/due'
    const answer = await asked(url)
    await signalled(url, 'SIGTERM')
    await wire.house.killAll()
    await wire.sql('UPDATE subscriptions SET due_at = now() WHERE entity_url = $1', url) // not to wait for the limit of a delivery
    await wire.house.restartAll()

    await eventually(async () => (await wire.statusOf(url)) === 'stopped')
    answer()
  })
})
