/** From a message to a runner and back: spec/07 §3.7, §4–6, against the reference runner. */
import { eventually } from '../support/eventually.js'
import { endLease, subscriptionOf } from '../support/hand-runner.js'
import { PullRunner } from '../support/pull-runner.js'
import { Wire } from '../support/wire.js'

describe.each(['postgres', 'http'] as const)('a pull-wake, streams: %s', (streams) => {
  let wire: Wire
  let runner: PullRunner
  const runnerOf = (id: string, more: object = {}) =>
    PullRunner.start({
      id,
      baseUrl: () => wire.url,
      handler: async (context) => {
        const key = `run-${context.wake.epoch}-${context.pass}`
        await context.write(
          { type: 'run', key, value: { status: 'started' }, headers: { operation: 'insert' } },
          { type: 'run', key, value: { status: 'completed', finish_reason: 'stop' }, headers: { operation: 'update' } },
        )
      },
      ...more,
    })
  const policy = (runnerId: string) => ({ dispatch_policy: { targets: [{ type: 'runner', runnerId }] } })
  const quiet = async (url: string) => (await wire.statusOf(url)) === 'idle' && runner.log.running().length === 0

  beforeAll(async () => {
    wire = await Wire.start({ streams, env: { ELECTRIC_AGENTS_ANNOUNCE_AGAIN_MS: '500' } })
    runner = await runnerOf('r1')
  })
  afterAll(async () => {
    await runner.stop()
    await wire.stop()
  })

  it('is claimed, worked on and released', async () => {
    await wire.spawned('/chat/one', { initialMessage: 'hello', ...policy('r1') })

    await eventually(() => runner.log.timesHandled('hello') === 1)
    await eventually(() => quiet('/chat/one'))
    expect((await wire.events('/chat/one')).map(({ type }) => type)).toEqual(['entity_created', 'inbox', 'run', 'run'])
    expect(await wire.sql('SELECT status, runner_id FROM consumer_claims')).toEqual([{ status: 'released', runner_id: 'r1' }])
  })

  it('is announced again when its claim got lost, without a restart', async () => {
    runner.loseClaimAnswers(1)
    await wire.spawned('/chat/two', { initialMessage: 'again', ...policy('r1') })

    const { wake_id: wakeId } = await eventually(async () => {
      const subscription = await subscriptionOf(wire, '/chat/two')
      return subscription.holder === 'r1' && subscription
    })
    await endLease(wire, { wakeId: String(wakeId) }) // nobody knows of the claim: its lease ends, sooner here than in thirty seconds

    await eventually(() => runner.log.timesHandled('again') === 1)
    await eventually(() => quiet('/chat/two'))
  })

  it('waits while its runner is disabled', async () => {
    await wire.spawned('/chat/three', policy('r1'))
    await wire.ask('POST', '/_electric/runners/r1/disable')
    await wire.send('/chat/three', { payload: 'later' })
    await eventually(() => Number(runner.diagnostics.claims_failed) > 0)
    expect(runner.log.timesHandled('later')).toBe(0)

    await wire.ask('POST', '/_electric/runners/r1/enable')

    await eventually(() => runner.log.timesHandled('later') === 1)
    await eventually(() => quiet('/chat/three'))
  })

  it('is held back while its entity is paused: no storm of events, and its work is not lost', async () => {
    await wire.spawned('/chat/paused', policy('r1'))
    await wire.signal('/chat/paused', { signal: 'SIGSTOP' })
    await wire.send('/chat/paused', { payload: 'waits', mode: 'paused' })
    const announced = async () =>
      Number((await wire.sql(`SELECT count(*)::int AS n FROM wake_notifications WHERE entity_url = '/chat/paused'`))[0]?.n)
    expect(await announced()).toBe(0)

    await wire.signal('/chat/paused', { signal: 'SIGCONT' })

    await eventually(async () => (await announced()) > 0)
    await eventually(() => quiet('/chat/paused'))
  })
})
