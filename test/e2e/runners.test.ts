import fc from 'fast-check'
import { eventually } from '../support/eventually.js'
import { neverFails, noObject, oddSegment, refusesAll } from '../support/hostile.js'
import { type Answer, expectStatus, refusal, sam, Wire } from '../support/wire.js'

const runnersPath = '/_electric/runners'
const invalid = (message: string, details?: unknown) => refusal('INVALID_REQUEST', message, details)
const form = (path: string, message: string) => invalid('Request body does not match API schema', [{ path, message }])
const forbidden = { status: 403, body: refusal('UNAUTHORIZED', 'Runner access requires the authenticated owner') }
const unknown = { status: 404, body: refusal('NOT_FOUND', 'Runner not found') }
const asSam = { as: 'user:sam' }
const isoTime = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)

interface RunnerAnswer {
  readonly id: string
  readonly owner_principal: string
  readonly wake_stream: string
  readonly admin_status: string
  readonly created_at: string
  readonly updated_at: string
}

/** Sam's runners. */
class Fleet {
  readonly wire: Wire

  constructor(wire: Wire) {
    this.wire = wire
  }

  post = async (body: unknown, as = 'user:sam') => await this.wire.ask('POST', runnersPath, body, { as })
  registered = async (id: string, more: object = {}): Promise<RunnerAnswer> =>
    expectStatus(201, await this.post({ id, label: 'L', ...more })).body as RunnerAnswer
  at = async (method: string, below: string, body?: unknown, as = 'user:sam') =>
    await this.wire.ask(method, `${runnersPath}/${below}`, body, { as })
  beat = async (id: string, body: unknown = {}, as?: string) => await this.at('POST', `${id}/heartbeat`, body, as)
  health = async (id: string): Promise<Readonly<Record<string, unknown>>> =>
    expectStatus(200, await this.at('GET', `${id}/health`)).body as Readonly<Record<string, unknown>>
  read = async (path: string, as = 'user:sam') => await this.wire.ask('GET', `${path}?offset=-1`, undefined, { as })
}

describe.each(['postgres', 'http'] as const)('registering a runner with streams in %s:', (streams) => {
  let fleet: Fleet
  beforeAll(async () => {
    fleet = new Fleet(await Wire.start({ streams }))
  })
  afterAll(async () => await fleet.wire.stop())

  it('answers 201 with the runner, and makes its wake stream', async () => {
    const sent = {
      id: 'r1',
      owner_principal: '/principal/user:sam',
      label: 'L',
      sandbox_profiles: [{ name: 'p1', label: 'P1', description: 'D', remote: true, other: 1 }],
    }
    const answer = await fleet.post(sent)

    expect(answer).toMatchObject({ status: 201 })
    expect(answer.body).toEqual({
      id: 'r1',
      owner_principal: sam,
      label: 'L',
      kind: 'local',
      admin_status: 'enabled',
      wake_stream: '/runners/r1/wake',
      sandbox_profiles: [{ name: 'p1', label: 'P1', description: 'D', remote: true }],
      created_at: isoTime,
      updated_at: isoTime,
      wake_stream_offset: '0000000000000000_0000000000000000',
    })
    const wakes = await fleet.read('/runners/r1/wake')
    expect(wakes).toMatchObject({ status: 200, body: [] })
    expect(wakes.headers.get('content-type')).toContain('application/json')
  })

  it('again overwrites what is given and what has a default, keeps profiles that are not, and stays 201', async () => {
    const profiles = [{ name: 'docker', label: 'D' }]
    const before = await fleet.registered('again', { kind: 'ci', wake_stream: '/wakes/again', sandbox_profiles: profiles })
    const after = await fleet.registered('again', { label: 'New' })

    expect(before).toMatchObject({ kind: 'ci', wake_stream: '/wakes/again' })
    expect(after).toMatchObject({ label: 'New', kind: 'local', wake_stream: '/runners/again/wake', sandbox_profiles: profiles })
    expect(after.created_at).toBe(before.created_at)
    expect(await fleet.registered('again', { sandbox_profiles: [] })).toMatchObject({ sandbox_profiles: [] })
    expect(await fleet.read('/runners/again/wake')).toMatchObject({ status: 200, body: [] })
  })

  it('again never undoes what an operator has disabled (SHOULD)', async () => {
    await fleet.registered('off', { admin_status: 'disabled' })
    expect((await fleet.registered('off', { admin_status: 'enabled' })).admin_status).toBe('disabled')

    expectStatus(200, await fleet.at('POST', 'off/enable'))
    expect((await fleet.registered('off', { admin_status: 'disabled' })).admin_status).toBe('enabled')
  })

  it('of an id that another owns is refused, whoever asks, and changes nothing (MUST NOT copy)', async () => {
    const mine = await fleet.registered('mine')

    for (const other of ['user:kim', 'system:framework', 'system:dev-local'])
      expect(await fleet.post({ id: 'mine', label: 'Kim’s now' }, other)).toMatchObject(forbidden)
    expect(await fleet.at('GET', 'mine')).toMatchObject({ status: 200, body: { owner_principal: sam, updated_at: mine.updated_at } })
  })

  it('at once through two replicas has one owner', async () => {
    const callers = Array.from({ length: 12 }, (_, index) => `user:racer-${index}`)
    const answers = await Promise.all(callers.map(async (as) => await fleet.post({ id: 'raced', label: as }, as)))

    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array.from({ length: 11 }, () => 403)])
    const winner = answers.find(({ status }) => status === 201)?.body as { readonly owner_principal: string }
    expect(await fleet.wire.sql(`SELECT owner_principal FROM runners WHERE id = 'raced'`)).toEqual([
      { owner_principal: winner.owner_principal },
    ])
  })

  it('with the wake stream of another runner is a conflict, also before that one is there (DEVIATE)', async () => {
    await fleet.registered('holder', { wake_stream: '/wakes/held' })
    const taken = (path: string) => ({ status: 409, body: invalid(`wake_stream "${path}" is in use by another runner or stream`) })

    for (const path of ['/wakes/held', '/runners/holder/wake', '/runners/not-there-yet/wake'])
      expect(await fleet.post({ id: 'thief', label: 'T', wake_stream: path })).toMatchObject(taken(path))
    expect(await fleet.at('GET', 'thief')).toMatchObject(unknown)
    expect((await fleet.registered('not-there-yet')).wake_stream).toBe('/runners/not-there-yet/wake')
  })

  it('never takes a stream of another kind, nor one that is closed, for its wakes', async () => {
    const put = async (path: string, headers: Readonly<Record<string, string>>) =>
      expectStatus(201, await fleet.wire.ask('PUT', path, undefined, { headers }))
    await put('/somebodys/text', { 'content-type': 'text/plain' })
    await put('/somebodys/end', { 'content-type': 'application/json', 'stream-closed': 'true' })

    for (const path of ['/somebodys/text', '/somebodys/end'])
      expect((await fleet.post({ id: 'greedy', label: 'G', wake_stream: path })).status).toBe(409)
    expect(await fleet.at('GET', 'greedy')).toMatchObject(unknown)
  })

  it('again makes a wake stream that is missing', async () => {
    await fleet.wire.sql(
      `INSERT INTO runners (id, owner_principal, label, wake_stream) VALUES ('bare', $1, 'as a crash leaves it', '/runners/bare/wake')`,
      sam,
    )
    expect((await fleet.read('/runners/bare/wake')).status).toBe(404)

    await fleet.registered('bare')
    expect(await fleet.read('/runners/bare/wake')).toMatchObject({ status: 200, body: [] })
  })

  it('answers the end of its wake stream as it stands', async () => {
    const { wake_stream } = await fleet.registered('advanced', { wake_stream: '/wakes/advanced' })
    await fleet.wire.sql(`UPDATE runners SET wake_stream = '/wakes/elsewhere' WHERE id = 'advanced'`) // plain for a moment
    const headers = { 'content-type': 'application/json' }
    const written = await fleet.wire.ask('POST', wake_stream, [{ type: 'wake' }], { headers })
    await fleet.wire.sql(`UPDATE runners SET wake_stream = '/wakes/advanced' WHERE id = 'advanced'`)

    expect(await fleet.registered('advanced', { wake_stream })).toMatchObject({
      wake_stream_offset: written.headers.get('stream-next-offset'),
    })
  })
})

describe('the wake stream of a runner', () => {
  let fleet: Fleet
  beforeAll(async () => {
    fleet = new Fleet(await Wire.start())
    await fleet.registered('r1')
    await fleet.registered('my laptop')
    await fleet.registered('elsewhere', { wake_stream: '/wakes/elsewhere' })
  })
  afterAll(async () => await fleet.wire.stop())

  const paths = ['/runners/r1/wake', '/runners/my%20laptop/wake', '/wakes/elsewhere'] as const

  it.each(paths)('%s is read by its owner only (SHOULD)', async (path) => {
    expect(await fleet.read(path)).toMatchObject({ status: 200, body: [] })
    expect((await fleet.wire.ask('HEAD', path, undefined, asSam)).status).toBe(200)
    for (const other of ['user:kim', 'system:dev-local']) {
      expect(await fleet.read(path, other)).toMatchObject(forbidden)
      expect((await fleet.wire.ask('HEAD', path, undefined, { as: other })).status).toBe(403)
    }
  })

  it.each(paths)('%s is written by the server only, not even by its owner (SHOULD)', async (path) => {
    const headers = { 'content-type': 'application/json' }
    for (const method of ['PUT', 'POST', 'DELETE'])
      expect(await fleet.wire.ask(method, path, method === 'DELETE' ? undefined : [{ type: 'wake' }], { ...asSam, headers })).toMatchObject(
        {
          status: 401,
          body: refusal('UNAUTHORIZED', `Principal is not allowed to write ${path}`),
        },
      )
    expect(await fleet.read(path)).toMatchObject({ status: 200, body: [] })
  })

  it.each(paths)('%s is not copied by anybody else', async (path) => {
    const copy = async (to: string, as: string) =>
      await fleet.wire.ask('PUT', to, undefined, { as, headers: { 'stream-forked-from': path } })

    expect(await copy('/copies/kims', 'user:kim')).toMatchObject(forbidden)
    expect((await fleet.wire.ask('HEAD', '/copies/kims')).status).toBe(404)
  })

  it.each([
    '/runners/%721/wake',
    '/runners/r%31/wake',
    '/runners/r1/%77ake',
    '/wakes/%65lsewhere',
    '/wakes//elsewhere',
    '/wakes/./elsewhere',
  ])('is not reached in disguise: %s', async (path) => {
    for (const method of ['GET', 'POST', 'PUT', 'DELETE']) {
      const { status } = await fleet.wire.askRaw(method, path)
      expect([400, 401, 403]).toContain(status)
    }
  })

  it('is a plain stream’s no longer once a runner has chosen it', async () => {
    const headers = { 'content-type': 'application/json' }
    expectStatus(201, await fleet.wire.ask('PUT', '/plain/first', undefined, { headers }))
    await fleet.registered('late', { wake_stream: '/plain/first' })

    expect((await fleet.wire.ask('POST', '/plain/first', [{}], { headers })).status).toBe(401)
    expect((await fleet.read('/plain/first', 'user:kim')).status).toBe(403)
  })
})

describe('a runner', () => {
  let fleet: Fleet
  beforeAll(async () => {
    fleet = new Fleet(await Wire.start())
    await fleet.registered('r1')
    expectStatus(201, await fleet.post({ id: 'kims', label: 'K' }, 'user:kim'))
  })
  afterAll(async () => await fleet.wire.stop())

  describe('is registered by these rules, in this order (spec/07 §3.1):', () => {
    it.each([
      ['no id', { label: 'L' }, '/', "must have required property 'id'"],
      ['no label', { id: 'x' }, '/', "must have required property 'label'"],
      ['an id that is no text', { id: 7, label: 'L' }, '/id', 'must be string'],
      ['an owner that is no text', { id: 'x', label: 'L', owner_principal: 7 }, '/owner_principal', 'must be string'],
      ['a profile without label', { id: 'x', label: 'L', sandbox_profiles: [{ name: 'p' }] }, '/sandbox_profiles/0', undefined],
      [
        'a profile that is half remote',
        { id: 'x', label: 'L', sandbox_profiles: [{ name: 'p', label: 'P', remote: 1 }] },
        undefined,
        undefined,
      ],
    ])('1: the form of the body: %s', async (_, body, path, message) => {
      const answer = await fleet.post({ owner_principal: 'nonsense', ...body })

      expect(answer).toMatchObject({ status: 400, body: { error: { message: 'Request body does not match API schema' } } })
      if (path !== undefined && message !== undefined) expect(answer.body).toEqual(form(path, message))
    })

    it.each(['kind', 'admin_status'])('1: %s is one of those that there are', async (member) => {
      expect((await fleet.post({ id: 'x', label: 'L', [member]: 'other' })).status).toBe(400)
    })

    it.each(['', 'a:b', 'a/b', 'user@host', 'a+b', 'a%20b', '.', '..', '*', 'a?b', 'x'.repeat(501)])(
      '1: an id that a path cannot carry is refused: %p (SHOULD)',
      async (id) => {
        expect(await fleet.post({ id, label: 'L', owner_principal: 'nonsense' })).toMatchObject({
          status: 400,
          body: { error: { code: 'INVALID_REQUEST', message: expect.stringMatching(/^Runner id must be/) } },
        })
      },
    )

    it.each(['nonsense', 'user:sam', '/principal/', '/principal/user', '/principal/robot:sam', '/principal/%zz', '/chat/a', ''])(
      '3: the owner is the URL of a principal, not %p',
      async (owner_principal) => {
        const message = `owner_principal must be a valid principal URL (e.g. /principal/user%3Aalice), got: ${owner_principal}`

        expect(await fleet.post({ id: 'x', label: 'L', owner_principal })).toMatchObject({ status: 400, body: invalid(message) })
      },
    )

    it('4: the owner is the caller, no bypass', async () => {
      const mismatch = { status: 403, body: refusal('UNAUTHORIZED', 'owner_principal must match the authenticated principal') }

      expect(await fleet.post({ id: 'kims', label: 'L', owner_principal: '/principal/user%3Akim' })).toMatchObject(mismatch)
      expect(await fleet.post({ id: 'x', label: 'L', owner_principal: sam }, 'system:framework')).toMatchObject(mismatch)
    })

    it('5: an existing one is the caller’s, before its wake stream is looked at', async () => {
      expect(await fleet.post({ id: 'kims', label: 'L', wake_stream: '/runners/r1/wake' })).toMatchObject({ status: 409 })
      await fleet.registered('holds', { wake_stream: '/wakes/holds' })
      expect(await fleet.post({ id: 'kims', label: 'L', wake_stream: '/wakes/holds' })).toMatchObject(forbidden)
    })

    it.each(['/chat/a/main', '/_cron/x', '/_electric/shared-state/x', '/a/../b', '/w%61ke', '/', '/a?b'])(
      '6: the wake stream is a plain one, not %s (ours)',
      async (wake_stream) => {
        expect(await fleet.post({ id: 'x', label: 'L', wake_stream })).toMatchObject({
          status: 400,
          body: invalid('wake_stream must be the path of a plain stream'),
        })
      },
    )

    it.each([
      ['a long label', { label: 'x'.repeat(4_097) }, 'Texts of a runner are limited to 4096 characters'],
      ['U+0000', { label: '\0' }, 'Text must not contain U+0000 or lone surrogates'],
      [
        'many profiles',
        { sandbox_profiles: Array.from({ length: 101 }, () => ({ name: 'p', label: 'P' })) },
        'sandbox_profiles is limited to 100 profiles',
      ],
    ])('bounds: %s', async (_, more, message) => {
      expect(await fleet.post({ id: 'x', label: 'L', ...more })).toMatchObject({ status: 400, body: invalid(message) })
    })
  })

  it.each([
    ['GET', ''],
    ['GET', '/health'],
    ['POST', '/heartbeat'],
    ['POST', '/enable'],
    ['POST', '/disable'],
  ])('%s %s is asked of one that exists, by its owner, no bypass', async (method, below) => {
    const before = await fleet.wire.counts()
    const body = method === 'GET' ? undefined : {}

    expect(await fleet.at(method, `none${below}`, body)).toMatchObject(unknown)
    expect(await fleet.at(method, `%00${below}`, body)).toMatchObject(unknown)
    for (const other of ['user:kim', 'system:framework', 'system:dev-local'])
      expect(await fleet.at(method, `r1${below}`, body, other)).toMatchObject(forbidden)
    expect(await fleet.wire.askRaw(method, `${runnersPath}/%zz${below}`)).toMatchObject({
      status: 400,
      body: invalid('Malformed percent-encoding in the path'),
    })
    expect(await fleet.wire.counts()).toEqual(before)
  })

  it.each([
    ['DELETE', '/r1'],
    ['PUT', ''],
    ['PATCH', '/r1'],
    ['POST', '/r1'],
    ['GET', '/r1/enable'],
    ['GET', '/r1/nothing'],
    ['POST', '/r1/heartbeat/more'],
  ])('has no %s %s: 404 with an empty body', async (method, below) => {
    expect(await fleet.wire.ask(method, runnersPath + below, method === 'GET' ? undefined : '{', asSam)).toMatchObject({
      status: 404,
      text: '',
    })
  })

  it('is addressed percent-encoded', async () => {
    await fleet.registered('büro 1')

    expect(await fleet.at('GET', 'b%C3%BCro%201')).toMatchObject({ status: 200, body: { id: 'büro 1' } })
    expect(await fleet.at('GET', '%721')).toMatchObject({ status: 200, body: { id: 'r1' } })
  })

  it('is listed to its owner only, newest first', async () => {
    for (const id of ['old', 'newer', 'newest']) expectStatus(201, await fleet.post({ id, label: 'L' }, 'user:lister'))
    const list = async (query = '', as = 'user:lister') => await fleet.wire.ask('GET', runnersPath + query, undefined, { as })
    const idsOf = ({ body }: Answer) => (body as readonly RunnerAnswer[]).map(({ id }) => id)

    expect(idsOf(await list())).toEqual(['newest', 'newer', 'old'])
    expect(idsOf(await list('?owner_principal=/principal/user:lister'))).toEqual(['newest', 'newer', 'old'])
    expect(idsOf(await list('?owner_principal=%2Fprincipal%2Fuser%253Alister'))).toEqual(['newest', 'newer', 'old'])
    expect(idsOf(await list('', 'user:nobody'))).toEqual([])
    expect(await list('?owner_principal=nonsense')).toMatchObject({ status: 400, body: { error: { code: 'INVALID_REQUEST' } } })
    expect(await list('?owner_principal=/principal/user:sam')).toMatchObject({
      status: 403,
      body: refusal('UNAUTHORIZED', 'owner_principal must match the authenticated principal'),
    })
    expect(await list('?owner_principal=/principal/user:sam', 'system:framework')).toMatchObject({ status: 403 })
  })

  it('is enabled and disabled, again and again', async () => {
    for (const [action, admin_status] of [
      ['disable', 'disabled'],
      ['disable', 'disabled'],
      ['enable', 'enabled'],
      ['enable', 'enabled'],
    ])
      expect(await fleet.at('POST', `r1/${action}`)).toMatchObject({ status: 200, body: { id: 'r1', admin_status } })
  })

  describe('sends heartbeats', () => {
    it('that answer the runner with its lease, 30 s unless it says otherwise', async () => {
      const registered = await fleet.registered('beats')
      const { wake_stream_offset: _, ...shown } = registered as RunnerAnswer & { readonly wake_stream_offset: string }
      const { body } = expectStatus(200, await fleet.beat('beats'))
      const times = body as { readonly last_seen_at: string; readonly liveness_lease_expires_at: string }

      expect(body).toEqual({ ...shown, last_seen_at: isoTime, liveness_lease_expires_at: isoTime })
      expect(Date.parse(times.liveness_lease_expires_at) - Date.parse(times.last_seen_at)).toBe(30_000)
    })

    it('whose offset and diagnostics stay until others come, and are answered when they come', async () => {
      await fleet.registered('keeps')
      const diagnostics = { status: 'streaming', reconnect_count: 2, unheard_of: { deep: true }, last_error: 'a\0b' }
      const known = { status: 'streaming', reconnect_count: 2, last_error: 'a\u{fffd}b' }

      expect((await fleet.beat('keeps', { wakeStreamOffset: '-1', diagnostics, other: 1 })).body).toMatchObject({
        wake_stream_offset: '-1',
        diagnostics: known,
      })
      expect((await fleet.beat('keeps', { diagnostics: { unheard_of: 1 } })).body).toEqual(
        expect.not.objectContaining({ wake_stream_offset: expect.anything(), diagnostics: expect.anything() }),
      )
      expect(await fleet.health('keeps')).toMatchObject({ runner: { wake_stream_offset: '-1' }, client: known })
      await fleet.beat('keeps', { wake_stream_offset: '5', wakeStreamOffset: '4', diagnostics: { status: 'stopping' } })
      expect(await fleet.health('keeps')).toMatchObject({ runner: { wake_stream_offset: '5' }, client: { status: 'stopping' } })
    })

    it('that leave the row of the runner alone, whose shape stays quiet', async () => {
      await fleet.registered('quiet')
      const row = async () => await fleet.wire.sql(`SELECT xmin::text, * FROM runners WHERE id = 'quiet'`)
      const before = await row()
      await fleet.beat('quiet', { diagnostics: { status: 'streaming' } })

      expect(await row()).toEqual(before)
    })

    it('with a lease until a moment, which wins', async () => {
      await fleet.registered('until')
      const moment = new Date(Date.now() + 3_600_000).toISOString()

      expect((await fleet.beat('until', { lease_ms: 1, liveness_lease_expires_at: moment })).body).toMatchObject({
        liveness_lease_expires_at: moment,
      })
    })

    it.each([
      ['negative', { lease_ms: -1 }, 'lease_ms must be between 0 and 86400000'],
      ['huge', { lease_ms: 1e300 }, 'lease_ms must be between 0 and 86400000'],
      ['no date', { liveness_lease_expires_at: 'tomorrow' }, 'liveness_lease_expires_at must be an ISO 8601 date with its zone'],
      [
        'no real date',
        { liveness_lease_expires_at: '2026-13-01T00:00:00Z' },
        'liveness_lease_expires_at must be an ISO 8601 date with its zone',
      ],
      ['no zone', { liveness_lease_expires_at: '2026-11-25T00:00:00' }, 'liveness_lease_expires_at must be an ISO 8601 date with its zone'],
      [
        'before time',
        { liveness_lease_expires_at: '0001-01-01T00:00:00Z' },
        'liveness_lease_expires_at must be an ISO 8601 date with its zone',
      ],
      ['far ahead', { liveness_lease_expires_at: '9999-12-31T23:59:59Z' }, 'A lease lasts 86400000 ms at most'],
      ['a long offset', { wake_stream_offset: 'x'.repeat(4_097) }, 'Texts of a runner are limited to 4096 characters'],
      ['an offset no row can hold', { wake_stream_offset: '\0' }, 'Text must not contain U+0000 or lone surrogates'],
    ])('that are refused where the lease or offset is none: %s (SHOULD)', async (_, body, message) => {
      const before = await fleet.wire.counts()

      expect(await fleet.beat('r1', body)).toMatchObject({ status: 400, body: invalid(message) })
      expect(await fleet.beat('kims', body)).toMatchObject(forbidden)
      expect(await fleet.wire.counts()).toEqual(before)
    })

    it.each([
      { lease_ms: '1' },
      { wake_stream_offset: 1 },
      { liveness_lease_expires_at: 1 },
      { diagnostics: 'fine' },
      { diagnostics: null },
    ])('whose form is refused before anything else: %p', async (body) => {
      expect(await fleet.beat('none', body)).toMatchObject({
        status: 400,
        body: { error: { message: 'Request body does not match API schema' } },
      })
    })

    it('at once, each landing', async () => {
      await fleet.registered('busy')
      const answers = await Promise.all(
        Array.from({ length: 40 }, async (_, index) => await fleet.beat('busy', { wake_stream_offset: String(index) })),
      )

      expect(answers.every(({ status }) => status === 200)).toBe(true)
      expect(await fleet.wire.sql(`SELECT count(*)::int AS rows FROM runner_runtime_diagnostics WHERE runner_id = 'busy'`)).toEqual([
        { rows: 1 },
      ])
    })
  })

  describe('has a health', () => {
    it('before its first heartbeat', async () => {
      const { created_at } = await fleet.registered('fresh')

      expect(await fleet.health('fresh')).toEqual({
        runner: {
          id: 'fresh',
          admin_status: 'enabled',
          liveness_status: 'offline',
          lease_expires_at: null,
          lease_remaining_ms: null,
          wake_stream: '/runners/fresh/wake',
          wake_stream_offset: null,
          last_seen_at: null,
          created_at,
        },
        client: null,
        claims: { active_count: 0, active: [] },
        dispatch: { entities_with_active_claim: 0, entities_with_outstanding_wake: 0, entities_with_pending_work: 0 },
        health: { status: 'degraded', issues: ['Runner has never sent a heartbeat'] },
      })
    })

    it('while its lease holds, and behind it', async () => {
      await fleet.registered('lives')
      await fleet.beat('lives', { lease_ms: 60_000, diagnostics: { status: 'streaming', stream_connected: true } })
      const online = await fleet.health('lives')

      expect(online).toMatchObject({
        runner: { liveness_status: 'online', lease_expires_at: isoTime, last_seen_at: isoTime },
        client: { status: 'streaming', stream_connected: true },
        health: { status: 'healthy', issues: [] },
      })
      const { lease_remaining_ms } = online.runner as { readonly lease_remaining_ms: number }
      expect(lease_remaining_ms).toBeGreaterThan(0)
      expect(lease_remaining_ms).toBeLessThanOrEqual(60_000)

      await fleet.beat('lives', { lease_ms: 0 })
      const expired = await eventually(async () => {
        const health = await fleet.health('lives')
        return (health.runner as { readonly liveness_status: string }).liveness_status === 'expired' && health
      })
      expect(expired).toMatchObject({
        runner: { lease_remaining_ms: 0 },
        health: { status: 'unhealthy', issues: [expect.stringMatching(/^Heartbeat lease expired \d+s ago$/)] },
      })
    })

    it('while it is disabled, and may go on sending heartbeats', async () => {
      await fleet.registered('halted')
      await fleet.at('POST', 'halted/disable')
      expectStatus(200, await fleet.beat('halted', {}))

      expect(await fleet.health('halted')).toMatchObject({
        runner: { admin_status: 'disabled', liveness_status: 'offline', lease_expires_at: isoTime },
        health: { status: 'unhealthy', issues: ['Runner is disabled', 'No client diagnostics available'] },
      })
    })
  })

  describe('in hostile requests', () => {
    const wrong = fc.record(
      {
        id: fc.oneof(fc.integer(), fc.constant(null), fc.constantFrom('', '.', '..', 'a/b', 'a:b', '*', '\0', '\ud800', 'a%2Fb', '\\')),
        label: fc.oneof(fc.string({ maxLength: 9 }), fc.constantFrom('\0', '\ud800', 7, null)),
        owner_principal: fc.oneof(fc.string({ maxLength: 9 }), fc.constantFrom(sam, '/principal/%00', '/principal/user:a*', 7)),
        kind: fc.constantFrom('local', 'robot', 7, null, '__proto__'),
        wake_stream: fc.oneof(oddSegment, fc.constantFrom('/chat/a/main', '/runners/r1/wake', '/..', 7)),
        sandbox_profiles: fc.jsonValue({ maxDepth: 2 }),
      },
      { requiredKeys: ['id', 'label'] },
    )

    it('is not registered by what is no registration', async () => {
      await refusesAll(
        fleet.wire,
        fc.oneof(
          noObject,
          wrong.map((body) => JSON.stringify(body)),
        ),
        async (body) => await fleet.post(body),
      )
    })

    it('is registered under any id that a path can carry, or refused; never worse', async () => {
      const id = fc.oneof(fc.string({ unit: 'binary', maxLength: 12 }), oddSegment, oddSegment.map(decodedOrKept))
      const path = fc.option(
        fc.array(oddSegment, { maxLength: 3 }).map((segments) => `/${segments.join('/')}`),
        { nil: undefined },
      )

      await neverFails(fc.record({ id, wake_stream: path }, { requiredKeys: ['id'] }), async (drawn) => {
        const answer = await fleet.post({ label: 'L', ...drawn })
        if (answer.status !== 201) return answer
        expect(await fleet.at('GET', encodeURIComponent(drawn.id))).toMatchObject({ status: 200, body: { id: drawn.id } })
        expect(await fleet.read((answer.body as RunnerAnswer).wake_stream)).toMatchObject({ status: 200, body: [] })
        return answer
      })
    })

    it('is not found under odd ids, whatever the method and action', async () => {
      const drawn = fc.record({
        method: fc.constantFrom('GET', 'POST', 'PUT', 'PATCH', 'DELETE'),
        id: oddSegment.map((segment) => (segment.includes('%') ? segment : `${segment}%21none`)),
        action: fc.constantFrom('', '/health', '/heartbeat', '/enable', '/disable', '/nothing', '/heartbeat/more'),
      })

      await refusesAll(
        fleet.wire,
        drawn,
        async ({ method, id, action }) => await fleet.wire.askRaw(method, `${runnersPath}/${id}${action}`, method === 'GET' ? '' : '{}'),
      )
    })

    it('is not touched by callers who are not its owner', async () => {
      const drawn = fc.record({
        as: fc.constantFrom('user:kim', 'user:SAM', 'agent:sam', 'service:sam', 'system:framework', 'system:dev-local', 'user:sam%20'),
        method: fc.constantFrom('GET', 'POST', 'DELETE'),
        action: fc.constantFrom('', '/health', '/heartbeat', '/enable', '/disable'),
      })

      await refusesAll(
        fleet.wire,
        drawn,
        async ({ as, method, action }) => await fleet.at(method, `r1${action}`, method === 'GET' ? undefined : '{}', as),
      )
    })

    it('sends no heartbeat with a body that is none', async () => {
      const bad = fc
        .oneof(
          fc.record({ lease_ms: fc.oneof(fc.constantFrom(-1, -1e9, 1e12, '1', null, true), fc.string()) }),
          fc.record({
            liveness_lease_expires_at: fc.oneof(fc.string(), fc.integer(), fc.constantFrom('+275760-09-13T00:00:00Z', 'now', 'infinity')),
          }),
          fc.record({ wake_stream_offset: fc.oneof(fc.integer(), fc.constantFrom('\0', '\ud800', 'x'.repeat(5_000))) }),
          fc.record({ diagnostics: fc.oneof(fc.string(), fc.integer(), fc.constant(null), fc.array(fc.integer())) }),
        )
        .map((body) => JSON.stringify(body))

      await refusesAll(
        fleet.wire,
        fc.oneof(
          noObject.filter((text) => text !== '{}'),
          bad,
        ),
        async (body) => await fleet.beat('r1', body),
      )
    })

    it('sends any diagnostics; what is known of them is kept', async () => {
      await fleet.registered('any')
      const names = fc.constantFrom('status', 'last_error', 'last_claim_result', 'reconnect_count', 'stream_connected', '__proto__', 'more')
      const texts = fc.constantFrom('streaming', '\0', '\ud800', 'x'.repeat(9_000), 'claimed')

      await neverFails(fc.dictionary(names, fc.oneof(fc.jsonValue({ maxDepth: 2 }), texts)), async (diagnostics) => {
        const answer = expectStatus(200, await fleet.beat('any', { diagnostics }))
        if (diagnostics.status === 'streaming') expect(answer.body).toMatchObject({ diagnostics: { status: 'streaming' } })
        return answer
      })
      expect((await fleet.health('any')).client).not.toBeUndefined()
    })

    it('is listed by what no query says', async () => {
      const value = fc.oneof(
        oddSegment,
        fc.string().map((text) => encodeURIComponent(text.toWellFormed())),
      )
      await neverFails(value, async (owner) => await fleet.wire.askRaw('GET', `${runnersPath}?owner_principal=${owner}`))
    })
  })
})

function decodedOrKept(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
