/** What a wake is about, and that it comes again until it was worked on: spec/06 §4, §6.2, §13.4; spec/07 §8, cases 1 and 2. */
import pg from 'pg'
import { eventually } from '../support/eventually.js'
import { bearer, dispatchRows, endLease, HandHeld, nothingIsLeft } from '../support/hand-held.js'
import type { RunRecord } from '../support/run-log.js'
import { sentOffset, type Wake, type WrittenEvent } from '../support/wake.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { expectStatus, Wire } from '../support/wire.js'

const maxLostLeases = 3
const run = (key: string, status: string, operation: 'insert' | 'update'): WrittenEvent => ({
  type: 'run',
  key,
  value: { status, ...(operation === 'update' ? { finish_reason: 'stop' } : {}) },
  headers: { operation },
})

describe.each(['postgres', 'http'] as const)('streams: %s', (streams) => {
  let wire: Wire
  let handler: WebhookHandler
  let held: HandHeld

  beforeAll(async () => {
    wire = await Wire.start({
      streams,
      env: { ELECTRIC_AGENTS_DEADLINES_EVERY_MS: '50', ELECTRIC_AGENTS_MAX_LOST_LEASES: String(maxLostLeases) },
    })
    handler = await WebhookHandler.start({
      baseUrl: () => wire.url,
      handler: async ({ wake, pass, events, write, flush }) => {
        write(run(`run-${wake.epoch}-${pass}`, 'started', 'insert'))
        await flush()
        if (events.some(({ value }) => value?.payload === 'throw')) throw new Error('asked for')
        write(run(`run-${wake.epoch}-${pass}`, 'completed', 'update'))
      },
    })
    await wire.register('echo', { default_dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] } })
    held = await HandHeld.start(wire)
  })
  afterAll(async () => {
    await handler.stop()
    await held.stop()
    await wire.stop()
  })
  afterEach(() => handler.heal())

  const runsOf = (url: string): readonly RunRecord[] => handler.log.runsOf(url)
  const texts = (url: string): readonly string[] =>
    runsOf(url).flatMap(({ passes }) => passes.flatMap(({ messages }) => messages.map(({ text }) => text)))
  const atRest = async (url: string) =>
    await eventually(async () => (await wire.statusOf(url)) === 'idle' && handler.log.running().length === 0)

  describe('nothing that comes before the claim is lost:', () => {
    /** The first delivery fails; what comes meanwhile is before the claim of the second. */
    async function beforeClaim(url: string, meanwhile: () => Promise<unknown>): Promise<void> {
      handler.order({ kind: 'status', status: 500 }, { times: 1, when: ({ entity }) => entity.url === url })
      await wire.spawned(url, { initialMessage: 'first' })
      await eventually(() => handler.log.deliveriesTo(url).length === 1)
      await meanwhile()
      await eventually(() => runsOf(url)[0]?.ending?.kind === 'done')
      await atRest(url)
    }

    it('two messages are both in the list of the handler', async () => {
      await beforeClaim('/echo/two', async () => expectStatus(200, await wire.send('/echo/two', { payload: 'second' })))

      expect(texts('/echo/two')).toEqual(['first', 'second'])
      expect(runsOf('/echo/two')).toHaveLength(1)
    })

    it('a message is handled although a tag was changed after it', async () => {
      await beforeClaim('/echo/tag', async () =>
        expectStatus(200, await wire.ask('POST', '/_electric/entities/echo/tag/tags/color', { value: 'red' })),
      )

      expect((await wire.events('/echo/tag')).slice(0, 3).map(({ type }) => type)).toEqual(['entity_created', 'inbox', 'tags'])
      expect(texts('/echo/tag')).toEqual(['first'])
    })
  })

  it.each(['claimed', 'handling', 'handled', 'flushed'] as const)('a run that dies when %s is made up for after its lease', async (at) => {
    const url = `/echo/dies-${at}`
    handler.order({ kind: 'die', at }, { times: 1, when: ({ entity }) => entity.url === url })
    await wire.spawned(url, { initialMessage: 'first' })
    await eventually(() => runsOf(url)[0]?.ending?.kind === 'died')
    const [dead] = runsOf(url)
    await endLease(wire, dead?.wakeId ?? '')

    await eventually(() => runsOf(url).at(-1)?.ending?.kind === 'done')
    await atRest(url)
    expect(runsOf(url).map(({ generation }) => generation)).toEqual([1, 2])
    expect(runsOf(url)[1]?.passes.flatMap(({ messages }) => messages)).toMatchObject([{ text: 'first' }])
    handler.log.expectNoEntityTwiceAtATime()
  })

  it('a runtime that claims, writes one event and falls silent has its message handled by the next', async () => {
    const { wake, writeToken } = await held.claimed('/held/silent')
    expectStatus(204, await held.append('/held/silent', [run('run-1', 'started', 'insert')], writeToken))
    await held.endLease(wake)

    const next = await held.wake('/held/silent', 2)
    expect([next.epoch, next.streams]).toEqual([2, wake.streams])
    const [{ offset } = { offset: '' }] = next.streams
    await eventually(async () => {
      const fresh = (await wire.events('/held/silent')).filter(({ headers }) => String(headers.offset) >= offset)
      return expect(fresh.map(({ type }) => type)).toEqual(['inbox', 'run', 'run']) === undefined
    })
  })

  it('the run that a dead handler left open is closed visibly, once; what it had finished stays', async () => {
    const { wake, writeToken } = await held.claimed('/held/open')
    const written = [run('run-1', 'started', 'insert'), run('run-1', 'completed', 'update'), run('run-2', 'started', 'insert')]
    expectStatus(204, await held.append('/held/open', written, writeToken))
    await held.endLease(wake)
    await held.wake('/held/open', 2)

    const runs = await eventually(async () => {
      const seen = (await wire.events('/held/open')).filter(({ type }) => type === 'run')
      return seen.length > 3 && seen
    })
    expect(runs.map(({ key, value, headers }) => [key, value?.status, value?.finish_reason, headers.operation])).toEqual([
      ['run-1', 'started', undefined, 'insert'],
      ['run-1', 'completed', 'stop', 'update'],
      ['run-2', 'started', undefined, 'insert'],
      ['run-2', 'failed', 'error', 'update'],
    ])
  })

  const runsOn = async (url: string) =>
    (await wire.events(url)).filter(({ type }) => type === 'run').map(({ key, value }) => `${key} ${value?.status}`)

  if (streams === 'postgres')
    it('a run that its handler begins in the very moment in which its lease ends is closed with it', async () => {
      const url = '/held/moment'
      const { wake, writeToken } = await held.claimed(url)
      const between = new pg.Client({ connectionString: wire.house.databaseUrl })
      await between.connect()
      const wait = async (count: number) =>
        await eventually(async () => {
          const sessions = await wire.sql("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
          return sessions.length >= count
        })
      await between.query(`UPDATE subscriptions SET lease_until = now() + interval '1 second' WHERE wake_id = '${wake.wakeId}'`)
      await between.query('BEGIN')
      await between.query(`SELECT FROM subscriptions WHERE wake_id = '${wake.wakeId}' FOR UPDATE`)
      const appending = held.append(url, [run('run-1', 'started', 'insert')], writeToken)
      await wait(1) // it stands, and is not committed
      await wait(2) // the lease has ended, and somebody draws conclusions
      await between.query('COMMIT')
      await between.end()

      expectStatus(204, await appending)
      const next = await held.wake(url, 2)
      expect(await runsOn(url)).toEqual(['run-1 started', 'run-1 failed'])
      expectStatus(200, await held.done(next))
    })

  // With streams in Postgres there is nothing between an append and its consequences.
  if (streams === 'http')
    it('a run that its handler began as the server died, before it drew the consequences, is closed with the lease, however late the sweep', async () => {
      const url = '/held/unheard'
      const { wake } = await held.claimed(url)
      await wire.sql(
        "INSERT INTO append_intents (tenant_id, id, path, body, closes, owned_until) VALUES ('default', 'dead', $1, '', false, now() + interval '1 hour')",
        `${url}/main`,
      )
      const appended = await fetch(`${wire.house.streamsUrl}${url}/main`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify([run('run-1', 'started', 'insert')]),
      })
      expect(appended.ok).toBe(true)
      await held.endLease(wake)
      const next = await held.wake(url, 2)

      await eventually(async () => expect(await runsOn(url)).toEqual(['run-1 started', 'run-1 failed']) === undefined)
      await wire.sql("UPDATE append_intents SET owned_until = now() WHERE id = 'dead'") // the sweep finds nothing new
      await eventually(async () => (await wire.sql("SELECT FROM append_intents WHERE id = 'dead'")).length === 0, { withinMs: 30_000 })
      expect(await wire.sql("SELECT key FROM projections WHERE type = 'run' AND entity_url = $1", url)).toEqual([])
      expectStatus(200, await held.done(next))
    })

  it('late calls of a wake whose lease has ended change nothing', async () => {
    const { wake, writeToken } = await held.claimed('/held/late')
    await held.endLease(wake)
    const next = await held.wake('/held/late', 2)
    const nextToken = held.tokenIn(await held.claim(next))
    const before = await dispatchRows(wire)

    const late = [
      await held.claim(wake),
      await held.heartbeat(wake),
      await held.done(wake),
      await held.say(wake, { epoch: wake.epoch, acks: [], done: true }, bearer(wake.claimToken)),
    ]
    expect(late.map(({ status }) => status)).toEqual([409, 409, 409, 409])
    expect((await held.append('/held/late', [run('late', 'started', 'insert')], writeToken)).status).toBe(401)
    expect(await dispatchRows(wire)).toEqual(before)
    expectStatus(204, await held.append('/held/late', [run('next', 'started', 'insert')], nextToken))
    expectStatus(200, await held.done(next))
    expect(await wire.statusOf('/held/late')).toBe('idle')
  })

  describe('a message that outlives its handlers', () => {
    const url = '/echo/deadly'

    it(`is given up visibly after ${maxLostLeases} of them: an error event, an ack, a dead letter`, async () => {
      handler.order({ kind: 'die', at: 'handling' }, { times: maxLostLeases, when: ({ entity }) => entity.url === url })
      await wire.spawned(url, { initialMessage: 'poison' })
      for (let nth = 0; nth < maxLostLeases; nth += 1) {
        const died = await eventually(() => runsOf(url)[nth]?.ending?.kind === 'died' && runsOf(url)[nth])
        await endLease(wire, died.wakeId)
      }
      await atRest(url)

      const error = await eventually(async () => (await wire.events(url)).find(({ type }) => type === 'error'))
      expect(error.value).toMatchObject({ error_code: 'HANDLER_LOST' })
      const last = runsOf(url)[maxLostLeases - 1]
      expect(
        await wire.sql(
          `SELECT wake_id, generation, acked_before, last_error IS NOT NULL AS says_why FROM wake_notifications WHERE entity_url = $1 AND delivery_status = 'failed'`,
          url,
        ),
      ).toEqual([
        { wake_id: last?.wakeId, generation: String(maxLostLeases), acked_before: { [`${url}/main`]: expect.any(String) }, says_why: true },
      ])
      expect(handler.log.timesHandled('poison', url)).toBe(0)
    })

    it('does not stand in the way of the next one', async () => {
      handler.heal()
      expectStatus(200, await wire.send(url, { payload: 'harmless' }))

      await eventually(() => handler.log.timesHandled('harmless', url) === 1)
      await atRest(url)
      expect(handler.log.timesHandled('poison', url)).toBe(0)
    })
  })

  it('what comes to a pattern while its handlers die of another stream is not given up with that', async () => {
    const [poison, meanwhile] = ['/watched/poison', '/watched/meanwhile'] // in the order of their names the latter stands before
    await wire.register('watched')
    const watches = { type: 'webhook', pattern: 'watched/**', webhook: { url: held.handler.url } }
    expectStatus(201, await wire.ask('PUT', '/__ds/subscriptions/watcher', watches))
    await wire.spawned(poison)
    const shown = await held.tailOf(poison)
    for (let nth = 1; nth <= maxLostLeases; nth += 1) {
      const wake = await held.wake(poison, nth)
      if (nth === maxLostLeases - 1) await wire.spawned(meanwhile)
      await held.endLease(wake)
    }

    const next = await held.wake(meanwhile)
    const last = held.wakesOf(poison).at(-1)
    expect([last?.epoch, next.epoch]).toEqual([maxLostLeases, maxLostLeases + 1])
    expect(
      await wire.sql(
        `SELECT wake_id, acked_before FROM wake_notifications WHERE subscription_id = 'watcher' AND delivery_status = 'failed'`,
      ),
    ).toEqual([{ wake_id: last?.wakeId, acked_before: { [`${poison}/main`]: '-1' } }])
    const links = await wire.sql(`SELECT path, acked FROM subscription_links WHERE subscription_id = 'watcher' ORDER BY path`)
    expect(links.map(({ path, acked }) => [path, String(acked) >= shown])).toEqual([
      [`${meanwhile}/main`, false],
      [`${poison}/main`, true],
    ])
    const errorsOf = async (url: string) => (await wire.events(url)).filter(({ type }) => type === 'error').length
    await eventually(async () => (await errorsOf(poison)) === 1)
    expect(await errorsOf(meanwhile)).toBe(0)
    const { next_wake } = expectStatus(200, await held.done(next)).body as { readonly next_wake: boolean }
    if (next_wake) expectStatus(200, await held.done(await held.wake(poison, maxLostLeases + 1))) // of the error event, which a foreign server stores later
    expectStatus(204, await wire.ask('DELETE', '/__ds/subscriptions/watcher'))
  })

  it('handlers that acknowledge something before they end are never given up', async () => {
    await wire.spawned('/held/slow', { initialMessage: '0' })
    for (let nth = 1; nth <= maxLostLeases + 2; nth += 1) {
      const wake = await held.wake('/held/slow', nth)
      held.tokenIn(await held.claim(wake))
      const acks = [{ path: wake.streamPath, offset: await held.tailOf('/held/slow') }]
      expectStatus(200, await held.heartbeat(wake, { acks }))
      expectStatus(200, await wire.send('/held/slow', { payload: String(nth) }))
      await held.endLease(wake)
    }

    const wake = await held.wake('/held/slow', maxLostLeases + 3)
    expectStatus(200, await held.done(wake))
    expect((await wire.events('/held/slow')).filter(({ type }) => type === 'error')).toEqual([])
  })

  describe('a runtime that cannot begin says done, and acknowledges exactly what it was sent:', () => {
    const acksOf = {
      'the offset that it was sent': (wake: Wake) => [{ path: wake.streamPath, offset: sentOffset(wake) }],
      nothing: () => [],
    }
    const nothingDone = async (wake: Wake, acks: keyof typeof acksOf) =>
      expectStatus(200, await held.heartbeat(wake, { acks: acksOf[acks](wake), done: true })).body

    const isLeftAlone = async (url: string) => {
      await eventually(
        async () => (await wire.sql('SELECT FROM subscriptions WHERE entity_url = $1 AND wake_id IS NULL', url)).length === 1,
      )
      expect(await wire.statusOf(url)).toBe('idle')
    }

    it.each([
      ['the offset that it was sent', '/held/unset'],
      ['nothing', '/held/mute'],
    ] as const)('%s. Its message comes again, later and later, and is given up at the bound', async (acks, url) => {
      await wire.spawned(url, { initialMessage: 'first' })
      const last = maxLostLeases // generations of a new entity begin with 1
      for (let nth = 1; nth < last; nth += 1) expect(await nothingDone(await held.wake(url, nth), acks)).toMatchObject({ next_wake: true })
      const wake = await held.wake(url, last)
      const [former, latter] = held.handler.log.deliveriesTo(url).slice(last - 2)
      expect((latter?.at ?? 0) - (former?.at ?? 0)).toBeGreaterThanOrEqual(790) // a second, give or take a fifth, after the first came at once

      expect(await nothingDone(wake, acks)).toMatchObject({ ok: true, next_wake: false })
      expect(await wire.statusOf(url)).toBe('idle')
      await eventually(async () =>
        (await wire.events(url)).some(({ type, value }) => type === 'error' && value?.error_code === 'HANDLER_LOST'),
      )
      await isLeftAlone(url)
      expect(
        await wire.sql(
          `SELECT wake_id, acked_before, last_error FROM wake_notifications WHERE entity_url = $1 AND delivery_status = 'failed'`,
          url,
        ),
      ).toEqual([
        {
          wake_id: wake.wakeId,
          acked_before: { [`${url}/main`]: expect.any(String) },
          last_error: '3 handlers in a row acknowledged nothing',
        },
      ])
      expect(held.wakesOf(url)).toHaveLength(last)

      expectStatus(200, await wire.send(url, { payload: 'second' }))
      expectStatus(200, await held.done(await held.wake(url, last + 1)))
      await isLeftAlone(url)
    })

    it('one that then acknowledges something is at the beginning again', async () => {
      const url = '/held/recovers'
      await wire.spawned(url, { initialMessage: '0' })
      for (let nth = 1; nth <= maxLostLeases + 2; nth += 2) {
        await nothingDone(await held.wake(url, nth), 'nothing')
        const wake = await held.wake(url, nth + 1)
        const offset = await held.tailOf(url)
        expectStatus(200, await wire.send(url, { payload: String(nth) }))
        expectStatus(200, await held.done(wake, offset))
      }

      expectStatus(200, await held.done(await held.wake(url, maxLostLeases + 4)))
      await isLeftAlone(url)
      expect((await wire.events(url)).filter(({ type }) => type === 'error')).toEqual([])
    })

    it('one that acknowledged something with a heartbeat of the same wake has got on', async () => {
      const url = '/held/got-on'
      await wire.spawned(url, { initialMessage: '0' })
      for (let nth = 1; nth <= maxLostLeases + 1; nth += 1) {
        const wake = await held.wake(url, nth)
        const acks = [{ path: wake.streamPath, offset: await held.tailOf(url) }]
        expectStatus(200, await wire.send(url, { payload: String(nth) }))
        expectStatus(200, await held.heartbeat(wake, { acks }))
        expect(await nothingDone(wake, 'nothing')).toMatchObject({ next_wake: true })
      }

      expectStatus(200, await held.done(await held.wake(url, maxLostLeases + 2)))
      expect((await wire.events(url)).filter(({ type }) => type === 'error')).toEqual([])
    })
  })

  it('a handler that throws has had its message: it does not come again', async () => {
    await wire.spawned('/echo/throws', { initialMessage: 'throw' })
    await eventually(() => handler.log.timesHandled('throw') === 1)
    await atRest('/echo/throws')

    expect(runsOf('/echo/throws')).toHaveLength(1)
    expect((await wire.events('/echo/throws')).filter(({ type }) => type === 'error')).toMatchObject([
      { value: { error_code: 'HANDLER_FAILED' } },
    ])
  })

  it('and nothing of all this is left over', async () => {
    for (const url of ['/held/silent', '/held/open']) {
      const wakes = held.wakesOf(url)
      const last = wakes.at(-1)
      if (last !== undefined) expectStatus(200, await held.done(last))
    }
    await nothingIsLeft(wire)
  })
})
