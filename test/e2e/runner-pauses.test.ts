/** A paused entity and its runner (spec/07 §3.7 note to 7, §8 cases 3 and 4): held back, not lost, and no storm of events. */
import { eventually } from '../support/eventually.js'
import { HandRunner, subscriptionOf, timePasses } from '../support/hand-runner.js'
import { PullRunner } from '../support/pull-runner.js'
import { expectStatus, Wire } from '../support/wire.js'

describe.each(['postgres', 'http'] as const)('while an entity is paused, streams: %s,', (streams) => {
  let wire: Wire
  const runners: PullRunner[] = []
  beforeAll(async () => {
    wire = await Wire.start({ streams, env: { ELECTRIC_AGENTS_ANNOUNCE_AGAIN_MS: '100' } })
  })
  afterEach(async () => {
    await Promise.all(runners.splice(0).map(async (runner) => await runner.stop()))
  })
  afterAll(async () => await wire.stop())

  async function pulling(
    id: string,
    handler: Parameters<typeof PullRunner.start>[0]['handler'] = async () => undefined,
  ): Promise<PullRunner> {
    const runner = await PullRunner.start({ id, baseUrl: () => wire.url, handler })
    runners.push(runner)
    return runner
  }
  const signalled = async (url: string, signal: string) => expectStatus(200, await wire.signal(url, { signal }))
  const isQuiet = async (url: string, status: string) =>
    (await wire.statusOf(url)) === status && (await subscriptionOf(wire, url)).wake_id === null
  const wakesOf = async (url: string): Promise<number> =>
    Number((await wire.sql('SELECT count(*)::int AS n FROM wake_notifications WHERE entity_url = $1', url))[0]?.n)
  /** The wake of this entity has been announced, and nobody comes to announce it again: that would end it while the entity is paused. */
  const nobodyLooksAgain = async (url: string) =>
    await eventually(async () => {
      const put = await wire.sql(
        `UPDATE subscriptions s SET due_at = now() + interval '1 hour'
           FROM wake_notifications n WHERE s.entity_url = $1 AND n.wake_id = s.wake_id AND n.delivery_status = 'delivered' RETURNING s.id`,
        url,
      )
      return put.length === 1
    })
  /** A wake of another entity of the same runner goes all its way, `rounds` times: whatever was to happen of itself has had its turns. */
  async function othersAreServed(runner: PullRunner, url: string, rounds = 3): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      await timePasses(wire)
      const text = `${url} ${round}`
      await wire.send(`${url}-other`, { payload: text })
      await eventually(() => runner.log.timesHandled(text) === 1)
      await eventually(() => isQuiet(`${url}-other`, 'idle'))
    }
  }

  it('its runner, which is connected, hears nothing of it; SIGCONT wakes it (case 3)', async () => {
    const runner = await pulling('connected')
    const watching = await HandRunner.start(wire, 'connected')
    for (const url of ['/chat/idle', '/chat/idle-other']) await wire.spawned(url, { initialMessage: `first of ${url}`, ...watching.policy })
    await eventually(() => runner.log.timesHandled('first of /chat/idle') === 1)
    await eventually(() => isQuiet('/chat/idle', 'idle'))
    const before = await watching.announced('/chat/idle')

    await signalled('/chat/idle', 'SIGSTOP')
    expectStatus(200, await wire.send('/chat/idle', { payload: 'waits', mode: 'paused' }))
    expectStatus(200, await wire.ask('POST', '/_electric/entities/chat/idle/tags/color', { value: 'blue' }))
    await othersAreServed(runner, '/chat/idle')

    expect(await watching.announced('/chat/idle')).toEqual(before) // not one
    expect(await isQuiet('/chat/idle', 'paused')).toBe(true)

    await signalled('/chat/idle', 'SIGCONT')
    await eventually(async () => (await watching.announced('/chat/idle')).length === before.length + 1)
    await eventually(() => isQuiet('/chat/idle', 'idle'))
    expectStatus(200, await wire.send('/chat/idle', { payload: 'goes on' }))
    await eventually(() => runner.log.timesHandled('goes on') === 1)
  })

  it('a wake that was announced before is answered done, once, and what it was for is handled after SIGCONT', async () => {
    const hand = await HandRunner.start(wire, 'before')
    await wire.spawned('/chat/before-other', { ...hand.policy })
    const event = await hand.woken('/chat/before')
    await nobodyLooksAgain('/chat/before')
    await signalled('/chat/before', 'SIGSTOP')

    expect(await hand.claim(event)).toMatchObject({ status: 200, body: { done: true } })

    expect((await hand.claim(event)).body).toMatchObject({ error: { code: 'NO_PENDING_WORK' } })
    const runner = await pulling('before')
    await othersAreServed(runner, '/chat/before')
    expect(await hand.announced('/chat/before')).toHaveLength(1)
    expect(await wakesOf('/chat/before')).toBe(1)
    expect(runner.log.timesHandled('hello')).toBe(0)
    expect(await isQuiet('/chat/before', 'paused')).toBe(true)

    await signalled('/chat/before', 'SIGCONT')
    await eventually(() => runner.log.timesHandled('hello') === 1)
    await eventually(() => isQuiet('/chat/before', 'idle'))
    expect(await wakesOf('/chat/before')).toBe(2)
  })

  it('a wake that nobody claims is not announced again; a message that resumes it is handled with all before it', async () => {
    const hand = await HandRunner.start(wire, 'unclaimed')
    await hand.heartbeat()
    await hand.woken('/chat/unclaimed')
    await signalled('/chat/unclaimed', 'SIGSTOP')
    await timePasses(wire)
    await eventually(() => isQuiet('/chat/unclaimed', 'paused'))
    const announced = await hand.announced('/chat/unclaimed')
    await timePasses(wire)

    expectStatus(200, await wire.send('/chat/unclaimed', { payload: 'resumes' }))
    const runner = await pulling('unclaimed')

    await eventually(() => runner.log.timesHandled('hello') === 1 && runner.log.timesHandled('resumes') === 1)
    await eventually(() => isQuiet('/chat/unclaimed', 'idle'))
    expect(announced.map(({ generation }) => generation)).toEqual(announced.map(() => 1))
    expect(await wakesOf('/chat/unclaimed')).toBe(2)
  })

  it('in mid-run, the run goes on to its checkpoint and it stays paused, until SIGCONT (case 4)', async () => {
    let go: () => void = () => undefined
    const held = new Promise<void>((resolve) => {
      go = resolve
    })
    const runner = await pulling('running', async ({ events }) => {
      if (events.some(({ value }) => value?.payload === 'hello')) await held
    })
    await wire.spawned('/chat/running', {
      initialMessage: 'hello',
      dispatch_policy: { targets: [{ type: 'runner', runnerId: 'running' }] },
    })
    await wire.spawned('/chat/running-other', { dispatch_policy: { targets: [{ type: 'runner', runnerId: 'running' }] } })
    await eventually(() => runner.log.runsOf('/chat/running')[0]?.passes.length === 1)

    await signalled('/chat/running', 'SIGSTOP')
    expect(await wire.statusOf('/chat/running')).toBe('paused')
    go()

    await eventually(() => runner.log.runsOf('/chat/running')[0]?.ending?.kind === 'done')
    await othersAreServed(runner, '/chat/running')
    expect(await isQuiet('/chat/running', 'paused')).toBe(true)
    expect(await wakesOf('/chat/running')).toBe(1)

    await signalled('/chat/running', 'SIGCONT')
    await eventually(() => isQuiet('/chat/running', 'idle'))
    expectStatus(200, await wire.send('/chat/running', { payload: 'goes on' }))
    await eventually(() => runner.log.timesHandled('goes on') === 1)
    expect(runner.log.timesHandled('hello')).toBe(1)
  })

  it('its runner may be killed in mid-run: it stays paused, its run ends visibly, and SIGCONT brings the message again', async () => {
    const hand = await HandRunner.start(wire, 'dead')
    const wake = await hand.claimed(await hand.woken('/chat/dead'))
    const started = { type: 'run', key: 'run-1', value: { status: 'started' }, headers: { operation: 'insert' } }
    expectStatus(204, await hand.append(wake, await hand.writeToken(wake), started))
    await signalled('/chat/dead', 'SIGSTOP')
    await wire.sql('UPDATE subscriptions SET lease_until = now() WHERE wake_id = $1', wake.wakeId)

    await eventually(() => isQuiet('/chat/dead', 'paused'))
    await eventually(async () => (await wire.events('/chat/dead')).some(({ type, value }) => type === 'run' && value?.status === 'failed'))
    expect(await wakesOf('/chat/dead')).toBe(1)

    await signalled('/chat/dead', 'SIGCONT')
    const runner = await pulling('dead')
    await eventually(() => runner.log.timesHandled('hello') === 1)
    await eventually(() => isQuiet('/chat/dead', 'idle'))
  })
})
