/** Nothing that is meant for a runner gets lost (spec/07 §6.3, and of §8 the cases 1, 2, 5–9, 11), whatever dies, is away, or was too fast. */
import { eventually } from '../support/eventually.js'
import { endLease, HandRunner, subscriptionOf, timePasses } from '../support/hand-runner.js'
import { PullRunner } from '../support/pull-runner.js'
import type { WakeContext } from '../support/wake-context.js'
import { expectStatus, refusal, Wire } from '../support/wire.js'

const maxLostLeases = 3
const run = (key: string, status: 'started' | 'completed') => ({
  type: 'run',
  key,
  value: { status, ...(status === 'completed' ? { finish_reason: 'stop' } : {}) },
  headers: { operation: status === 'started' ? 'insert' : 'update' } as const,
})
const writesARun = async ({ wake, pass, write, flush }: WakeContext) => {
  write(run(`run-${wake.epoch}-${pass}`, 'started'), run(`run-${wake.epoch}-${pass}`, 'completed'))
  await flush()
}

describe.each(['postgres', 'http'] as const)('streams: %s:', (streams) => {
  let wire: Wire
  const runners: PullRunner[] = []
  beforeAll(async () => {
    wire = await Wire.start({
      streams,
      env: { ELECTRIC_AGENTS_ANNOUNCE_AGAIN_MS: '600000', ELECTRIC_AGENTS_MAX_LOST_LEASES: String(maxLostLeases) },
    })
  })
  afterEach(async () => {
    await Promise.all(runners.splice(0).map(async (runner) => await runner.stop()))
  })
  afterAll(async () => await wire.stop())

  /** The real one; it ends with the test. */
  async function pulling(id: string, more: Partial<Parameters<typeof PullRunner.start>[0]> = {}): Promise<PullRunner> {
    const runner = await PullRunner.start({ id, baseUrl: () => wire.url, handler: writesARun, ...more })
    runners.push(runner)
    return runner
  }
  const byHand = async (id: string) => await HandRunner.start(wire, id)
  const isQuiet = async (url: string) =>
    (await wire.statusOf(url)) === 'idle' &&
    (await subscriptionOf(wire, url)).wake_id === null &&
    runners.every(({ log }) => log.running().length === 0)
  const killServers = async () => {
    const servers = wire.house.urls.map((_, index) => (index === 0 ? 'server' : (`server-${index}` as const)))
    await Promise.all(servers.map(async (server) => await wire.house.kill(server)))
    await Promise.all(servers.map(async (server) => await wire.house.restart(server)))
  }
  const typesOf = async (url: string) => (await wire.events(url)).map(({ type }) => type)

  it('a message is handled although a tag was changed after it, before the runner started (case 1)', async () => {
    await byHand('late')
    await wire.spawned('/chat/late', { initialMessage: 'hello', dispatch_policy: { targets: [{ type: 'runner', runnerId: 'late' }] } })
    expectStatus(200, await wire.ask('POST', '/_electric/entities/chat/late/tags/color', { value: 'blue' }))

    const runner = await pulling('late')

    await eventually(() => runner.log.timesHandled('hello') === 1)
    await eventually(() => isQuiet('/chat/late'))
    expect(await typesOf('/chat/late')).toEqual(['entity_created', 'inbox', 'tags', 'run', 'run'])
  })

  it('a message whose runner wrote one event and fell silent is handled by the next (case 2)', async () => {
    const silent = await byHand('silent')
    const wake = await silent.claimed(await silent.woken('/chat/silent'))
    expectStatus(204, await silent.append(wake, await silent.writeToken(wake), run('run-1', 'started')))
    await endLease(wire, wake)

    const runner = await pulling('silent')

    await eventually(() => runner.log.timesHandled('hello') === 1)
    await eventually(() => isQuiet('/chat/silent'))
    expect(await silent.done(wake)).toMatchObject({ status: 409, body: { error: { code: 'FENCED' } } })
    expect(await wire.sql(`SELECT epoch::int, status FROM consumer_claims WHERE entity_url = '/chat/silent' ORDER BY epoch`)).toEqual([
      { epoch: 1, status: 'expired' },
      { epoch: 2, status: 'released' },
    ])
  })

  it(`a message that ${maxLostLeases} runners died of is given up, visibly, and not brought again (case 2, bounded)`, async () => {
    const dying = await byHand('dying')
    await dying.woken('/chat/poison')
    for (let generation = 1; generation <= maxLostLeases; generation += 1)
      await endLease(wire, await dying.claimed(await dying.event('/chat/poison', generation)))

    await eventually(async () => (await typesOf('/chat/poison')).includes('error'))
    await eventually(() => isQuiet('/chat/poison'))
    expect(await dying.announced('/chat/poison')).toHaveLength(maxLostLeases)
    expect((await dying.claim((await dying.announced('/chat/poison')).at(-1))).body).toMatchObject({ error: { code: 'NO_PENDING_WORK' } })

    await wire.send('/chat/poison', { payload: 'next' })
    const next = await dying.claimed(await dying.event('/chat/poison', maxLostLeases + 1))
    expect((await dying.done(next)).status).toBe(200)
  })

  it('a runner id that somebody has is registered by nobody else, whose entities, wakes and data stay its own (case 5)', async () => {
    const owned = await byHand('owned')
    const event = await owned.woken('/chat/owned')

    expect(await wire.ask('POST', '/_electric/runners', { id: 'owned', label: 'mine' }, { as: 'user:kim' })).toMatchObject({
      status: 403,
      body: refusal('UNAUTHORIZED', 'Runner access requires the authenticated owner'),
    })
    expect((await wire.ask('GET', '/runners/owned/wake?offset=-1', undefined, { as: 'user:kim' })).status).toBe(403)
    expect((await owned.claim(event, { as: 'user:kim' })).status).toBe(403)
    expect((await owned.claimed(event)).epoch).toBe(1)
  })

  it('a wake id alone brings no write token, nor does the token of another wake (case 6)', async () => {
    const one = await byHand('one')
    const wake = await one.claimed(await one.woken('/chat/known'))
    const other = await one.claimed(await one.woken('/chat/other'))
    const asked = async (headers: Readonly<Record<string, string>>) =>
      await wire.ask('POST', `/_electric/wake-callbacks/${wake.wakeId}`, { epoch: 1, wakeId: wake.wakeId }, { as: 'user:kim', headers })

    expect(await asked({})).toMatchObject({ status: 401, body: { error: { code: 'TOKEN_INVALID' } } })
    expect(await asked({ authorization: `Bearer ${other.claimToken}` })).toMatchObject({
      status: 401,
      body: { error: { code: 'TOKEN_INVALID' } },
    })
    expect(await asked({ authorization: `Bearer ${await one.writeToken(wake)}` })).toMatchObject({ status: 401 })
    await one.done(wake)
    expect(await asked({ authorization: `Bearer ${wake.claimToken}` })).toMatchObject({ status: 409, body: { error: { code: 'FENCED' } } })
  })

  describe('an unclaimed wake', () => {
    it('is announced again, the same one, while its runner is online (case 7)', async () => {
      const runner = await byHand('online')
      await runner.heartbeat()
      const event = await runner.woken('/chat/online')

      await timePasses(wire)

      expect(await runner.event('/chat/online', 2)).toEqual({ ...event, ts: expect.any(Number) })
      expect((await runner.claimed(event)).epoch).toBe(1)
      expect((await runner.claim(event)).body).toMatchObject({ error: { code: 'ALREADY_CLAIMED' } })
      await timePasses(wire)
      await runner.woken('/chat/online-after') // whoever looked at what is due has looked at both
      expect(await runner.announced('/chat/online')).toHaveLength(2)
    })

    it('is handled without a restart of its runner although the answer to its claim got lost (case 7)', async () => {
      const runner = await pulling('unheard')
      runner.loseClaimAnswers(1)
      await wire.spawned('/chat/unheard', {
        initialMessage: 'again',
        dispatch_policy: { targets: [{ type: 'runner', runnerId: 'unheard' }] },
      })
      await eventually(() => runner.claims.length === 1)

      const { wake_id: wakeId } = await subscriptionOf(wire, '/chat/unheard')
      await endLease(wire, { wakeId: String(wakeId) })

      await eventually(() => runner.log.timesHandled('again') === 1)
      await eventually(() => isQuiet('/chat/unheard'))
    })

    it('waits for a runner that is away, without an event, and is announced with its first heartbeat', async () => {
      const runner = await byHand('away')
      await runner.woken('/chat/away')
      await timePasses(wire)
      await eventually(async () => Number((await subscriptionOf(wire, '/chat/away')).due_at) > Date.now() + 3_600_000) // put off, not announced
      expect(await runner.announced('/chat/away')).toHaveLength(1)

      await runner.heartbeat()

      expect((await runner.claimed(await runner.event('/chat/away', 2))).epoch).toBe(1)
    })

    it('is announced to a runner whose lease had lapsed and that comes back', async () => {
      const runner = await byHand('lapsed')
      await runner.heartbeat()
      await runner.woken('/chat/lapsed')
      await runner.heartbeat()
      expect(await runner.announced('/chat/lapsed')).toHaveLength(1)
      await wire.sql(
        `UPDATE runner_runtime_diagnostics SET liveness_lease_expires_at = now() - interval '1 minute' WHERE runner_id = 'lapsed'`,
      )

      await runner.heartbeat()

      await runner.event('/chat/lapsed', 2)
    })

    it('is announced on registration, behind the offset that the registration answers', async () => {
      const runner = await byHand('again')
      await runner.heartbeat()
      await runner.woken('/chat/again')

      const { wake_stream_offset: offset } = await runner.register()

      await runner.event('/chat/again', 2)
      const { body } = await wire.ask('GET', `/runners/again/wake?offset=${String(offset)}`)
      expect(body).toMatchObject([{ stream: 'chat/again/main', generation: 1 }])
    })

    it('is announced on enable, what was sent while its runner was disabled too (case 8)', async () => {
      const runner = await byHand('disabled')
      await runner.heartbeat()
      const before = await runner.woken('/chat/disabled')
      await runner.administer('disable')
      await runner.woken('/chat/meanwhile') // announced once, whoever is there
      expect((await runner.claim(before)).body).toMatchObject({ error: { code: 'NOT_RUNNING' } })

      await runner.administer('enable')

      for (const url of ['/chat/disabled', '/chat/meanwhile']) expect((await runner.claimed(await runner.event(url, 2))).epoch).toBe(1)
    })

    it('of a runner that nobody has registered is pending and says why; its registration announces it', async () => {
      await wire.register('later')
      await wire.spawned('/later/a')
      await wire.register('later', { default_dispatch_policy: { targets: [{ type: 'runner', runnerId: 'to-come' }] } })
      expectStatus(200, await wire.send('/later/a', { payload: 'hello' }))
      const stated = async () =>
        (
          await wire.sql(
            `SELECT last_error, outstanding_wake_id IS NOT NULL AS is_outstanding FROM entity_dispatch_state WHERE entity_url = '/later/a'`,
          )
        )[0]
      await eventually(async () => (await stated())?.last_error === 'Runner "to-come" not found')
      expect((await stated())?.is_outstanding).toBe(true)
      expect((await wire.ask('GET', '/runners/to-come/wake?offset=-1')).status).toBe(404)

      const runner = await byHand('to-come')
      await runner.heartbeat()

      expect((await runner.claimed(await runner.event('/later/a'))).entity.url).toBe('/later/a')
    })
  })

  it('a run outlives a restart of the server: its writes, heartbeats and done still count (case 9)', async () => {
    let go: () => void = () => undefined
    const held = new Promise<void>((resolve) => {
      go = resolve
    })
    let isWritten = false // and answered: a run whose append is cut off ends there, rightly
    const runner = await pulling('steady', {
      baseUrl: wire.house.url,
      handler: async (context) => {
        context.write(run('run-1', 'started'))
        await context.flush()
        isWritten = true
        await held
        context.write(run('run-1', 'completed'))
      },
    })
    await wire.spawned('/chat/steady', { initialMessage: 'hello', dispatch_policy: { targets: [{ type: 'runner', runnerId: 'steady' }] } })
    await eventually(() => isWritten)

    await wire.house.kill('server')
    await wire.house.restart('server')
    const renewed = (await subscriptionOf(wire, '/chat/steady')).lease_until
    await eventually(async () => {
      const { lease_until } = await subscriptionOf(wire, '/chat/steady')
      if (Number(lease_until) <= Number(renewed)) throw new Error(`no heartbeat since the restart: ${runner.log}`)
      return true
    })
    go()

    await eventually(() => isQuiet('/chat/steady'))
    expect(runner.log.counts()).toMatchObject({ runs: 1, done: 1 })
    expect((await wire.events('/chat/steady')).map(({ type, value }) => value?.status ?? type).slice(-2)).toEqual(['started', 'completed'])
  })

  it('a wake is claimed after every server was killed that could have announced it, and its claim outlives those that could have given it', async () => {
    const runner = await byHand('orphaned')
    const event = await runner.woken('/chat/orphaned')
    await killServers()
    const wake = await runner.claimed(event)
    const token = await runner.writeToken(wake)
    await killServers()

    expectStatus(204, await runner.append(wake, token, run('run-1', 'started'), run('run-1', 'completed')))
    expectStatus(200, await runner.heartbeatOf(wake))
    expect(await runner.writeToken(wake)).toBe(token)
    expectStatus(200, await runner.done(wake))
    expect(await wire.statusOf('/chat/orphaned')).toBe('idle')
    expect((await runner.claim(event)).status).toBe(409)
  })

  it('a wake that lasts for hours keeps its claim, its tokens and its entity (case 11)', async () => {
    const runner = await byHand('long')
    const wake = await runner.claimed(await runner.woken('/chat/long'))
    const token = await runner.writeToken(wake)
    for (const table of [
      'subscriptions SET started_at = started_at',
      'consumer_claims SET claimed_at = claimed_at',
      'wake_notifications SET claimed_at = claimed_at',
    ])
      await wire.sql(`UPDATE ${table} - interval '5 hours' WHERE wake_id = $1`, wake.wakeId)
    await wire.sql(`UPDATE wake_notifications SET created_at = created_at - interval '5 hours' WHERE wake_id = $1`, wake.wakeId)

    expect(await runner.heartbeatOf(wake)).toMatchObject({ status: 200, body: { ok: true, next_wake: false } })
    expect((await runner.append(wake, token, run('run-1', 'started'))).status).toBe(204)
    expect(await runner.writeToken(wake)).toBe(token)
    expect(await runner.done(wake)).toMatchObject({ status: 200, body: { ok: true, next_wake: false } })
    expect(await wire.statusOf('/chat/long')).toBe('idle')
  })

  it('two processes with one runner id race for every wake: one of them works on it, the other is told (spec/07 §6.3)', async () => {
    const one = await pulling('pool', { name: 'one' })
    const two = await pulling('pool', { name: 'two', log: one.log })
    const texts = Array.from({ length: 12 }, (_, index) => `m${index}`)
    await Promise.all(
      texts.map(
        async (text) =>
          await wire.spawned(`/chat/pool-${text}`, {
            initialMessage: text,
            dispatch_policy: { targets: [{ type: 'runner', runnerId: 'pool' }] },
          }),
      ),
    )

    await eventually(() => one.log.expectEachHandled(texts) === undefined)
    await eventually(() => one.claims.length + two.claims.length >= 2 * texts.length)
    one.log.expectNoGenerationTwiceAtATime()
    for (const text of texts) expect(one.log.timesHandled(text)).toBe(1)
    const claims = [...one.claims, ...two.claims]
    expect(claims.filter(({ status }) => status === 200)).toHaveLength(texts.length)
    for (const { status, text } of claims) if (status !== 200) expect(text).toMatch(/ALREADY_CLAIMED|NO_PENDING_WORK/)
  })
})
