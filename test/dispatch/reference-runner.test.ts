/** The reference runner of test/support claims and works as spec/07 §5 says, and the ledger finds what may not be. */
import { eventually } from '../support/eventually.js'
import { PullRunner, type PullRunnerOptions } from '../support/pull-runner.js'
import { RunLog } from '../support/run-log.js'
import { parseWake, type Wake } from '../support/wake.js'
import { offset } from './fake-server.js'
import { callback, entity, inbox, main, row, Stage } from './stage.js'

let stage: Stage
beforeEach(async () => {
  stage = await Stage.start()
})
afterEach(async () => await stage.stop())

describe('a runner', () => {
  const event = (stream: string, generation = 1) => ({ type: 'wake', subscription_id: `runner:r1:${stream}`, stream, generation, ts: 1 })
  const wakes = '/runners/r1/wake'
  const claims = () => stage.server.callsTo(/\/claim$/)
  const start = async (options: Partial<PullRunnerOptions> = {}) =>
    await PullRunner.start({
      baseUrl: stage.server.url,
      id: 'r1',
      headers: { 'electric-principal': 'user:alice' },
      handler: stage.handle,
      idleMs: 30,
      heartbeatMs: 40,
      ...options,
    })

  it('registers, reads its wake stream, claims and works, always under its name', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.server.override(/\/claim$/, () => ({ status: 200, body: stage.server.wake(entity, from) }))
    stage.work = async ({ write }) => write(row('one'))
    const runner = await start({ tokenHeader: 'electric-claim-token' })

    stage.server.append(wakes, event('chat/a/main'))
    await eventually(() => runner.log.runs[0]?.ending?.kind === 'done')

    expect(stage.server.callsTo(/\/_electric\/runners$/)[0]?.body).toMatchObject({ id: 'r1', kind: 'local', admin_status: 'enabled' })
    expect(claims().map(({ body }) => body)).toEqual([event('chat/a/main')])
    const [first] = stage.server.callsTo(callback)
    expect(first?.headers).toMatchObject({
      'electric-runner-id': 'r1',
      'electric-principal': 'user:alice',
      'electric-claim-token': 'claim-token',
    })
    expect(first?.headers.authorization).toBeUndefined()
    expect(stage.written()[0]?.headers).toMatchObject({
      'electric-runner-id': 'r1',
      'electric-claim-token': 'write-token',
      'producer-id': 'entity-/chat/a',
    })
    await runner.stop()
    expect(stage.server.callsTo(/\/heartbeat$/)[0]?.body).toMatchObject({
      wake_stream_offset: '-1',
      diagnostics: { last_heartbeat_ok: false },
    })
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
    stage.server.override(/\/claim$/, () => answers[claims().length - 1])
    const runner = await start()

    for (const index of answers.keys()) {
      stage.server.append(wakes, event(`chat/${index}/main`))
      await eventually(() => runner.claims.length === index + 1)
    }

    expect(runner.diagnostics).toMatchObject({ claims_skipped: 4, claims_failed: 2, claims_succeeded: 0 })
    await runner.stop()
    expect(claims()).toHaveLength(answers.length)
  })

  it('keeps only the latest event of a stream that it works on, and looks again when it is free', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.server.override(/\/claim$/, () =>
      claims().length === 1 ? { status: 200, body: stage.server.wake(entity, from) } : { status: 204 },
    )
    stage.work = async () => {
      stage.server.append(wakes, event('chat/a/main', 2), event('chat/a/main', 3))
      await eventually(() => runner.diagnostics.events_received === 3)
      expect(claims()).toHaveLength(1)
    }
    const runner = await start()

    stage.server.append(wakes, event('chat/a/main'))
    await eventually(() => runner.claims.length === 2)

    expect(claims().map(({ body }) => body)).toEqual([event('chat/a/main'), event('chat/a/main', 3)])
    expect(runner.log.runs).toMatchObject([{ passes: [{ ending: 'returned' }] }])
    await runner.stop()
  })

  it('that stops lets its handler end, sends the done and leaves the rest to others', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.server.override(/\/claim$/, () => ({ status: 200, body: stage.server.wake(entity, from) }))
    let go: () => void = () => undefined
    stage.work = async ({ history }) => {
      await new Promise<void>((resolve) => {
        go = resolve
      })
      stage.server.append(main, inbox('second'))
      await eventually(() => history.length === 2)
    }
    const runner = await start({ idleMs: 20_000 })
    stage.server.append(wakes, event('chat/a/main'))
    await stage.begun()

    const stopped = runner.stop()
    go()
    await stopped

    expect(runner.log.runs).toMatchObject([{ ending: { kind: 'done', acked: offset(10) } }])
    expect([stage.passes, stage.dones().length]).toEqual([[['first']], 1])
  })

  it('may lose the answer to a claim, and may die', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.server.override(/\/claim$/, () => ({ status: 200, body: stage.server.wake(entity, from) }))
    const runner = await start()
    runner.loseClaimAnswers()
    runner.dieAt('handled')

    stage.server.append(wakes, event('chat/a/main'))
    await eventually(() => runner.claims.length === 1)
    expect([runner.claims[0]?.status, runner.log.runs]).toEqual([0, []])
    stage.server.append(wakes, event('chat/a/main', 2))
    await eventually(() => runner.log.runs[0]?.ending?.kind === 'died')

    expect([claims().length, stage.dones().length]).toEqual([2, 0])
  })
})

describe('the ledger', () => {
  const wakeOf = (generation: number): Wake => {
    const parsed = parseWake(stage.server.wake(entity, offset(10), { epoch: generation }))
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
