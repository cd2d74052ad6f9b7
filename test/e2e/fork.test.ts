/** Forks over HTTP, in both stream modes: what the copies are (spec/04 §5–§12, §14–§18). */
import { createHash, randomBytes } from 'node:crypto'
import { Forker } from '../support/forker.js'
import { childEvent, manifestEvent, rowEvent, runEvent } from '../support/runtime-writer.js'
import { expectStatus, refusal, sam, type WireEvent } from '../support/wire.js'

const invalid = (message: string) => refusal('INVALID_REQUEST', message)
const brief = ({ type, key, headers }: WireEvent) => `${type} ${key} ${headers.operation}`
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
const suffix = (url: string): string => /-fork-([0-9a-f]{8})$/.exec(url)?.[1] ?? ''

describe.each(['postgres', 'http'] as const)('a fork, with streams in %s,', (streams) => {
  let forker: Forker
  beforeAll(async () => {
    forker = await Forker.start({ streams })
  })
  afterAll(async () => await forker.stop())

  /** A stream of shared state with one item. */
  const written = async (path: string, item: object) => {
    const body = JSON.stringify([item])
    expectStatus(201, await forker.wire.ask('PUT', path, body, { headers: { 'content-type': 'application/json' } }))
  }

  it('is a new root with the history of its source, and says so in its last event (MUST)', async () => {
    const source = await forker.root({ args: { a: 1 }, tags: { title: 'T' }, initialMessage: 'hello' })
    await forker.writer.append(source, runEvent('run-0', 'started'), runEvent('run-0', 'completed'))
    const before = await forker.wire.events(source)
    const id = forker.id('copy')

    const { root, entities } = await forker.forked(source, { instance_id: id, tags: { title: 'U', more: '1' } })

    const url = `/chat/${id}`
    expect(root).toEqual({
      url,
      type: 'chat',
      status: 'idle',
      streams: { main: `${url}/main` },
      tags: { more: '1', title: 'U' },
      spawn_args: { a: 1 },
      created_by: '/principal/system%3Adev-local',
      created_at: expect.any(Number),
      updated_at: expect.any(Number),
    })
    expect(entities).toEqual([root])
    expect((await forker.wire.get(url)).body).toEqual(root)
    expect(await forker.inherited(url)).toEqual(before)
    expect(await forker.ownEvents(url)).toEqual([
      {
        type: 'entity_created',
        key: 'entity-created',
        value: { entity_type: 'chat', timestamp: expect.stringMatching(/^\d{4}-.*Z$/), args: { a: 1 } },
        headers: {
          txid: expect.stringMatching(/^fork-[0-9a-f-]{36}$/),
          forkedFrom: source,
          operation: 'update',
          offset: expect.stringMatching(/^\d{16}_\d{16}$/),
        },
      },
    ])
    expect(await forker.wire.events(source)).toEqual(before)
  })

  it('takes children, their children, shared state and arguments along, each under its new name (the examples of spec/04 §12, §16)', async () => {
    const [root, kid, board] = ['root', 'kid', 'board'].map((name) => forker.id(name))
    const spawn_args = { peer: `/worker/${kid}`, deep: [{ s: board, not: `see /worker/${kid}` }] }
    await forker.wire.spawned(`/chat/${root}`, { args: spawn_args })
    await forker.wire.spawned(`/worker/${kid}`, { parent: `/chat/${root}`, tags: { k: '1' } })
    const grandchild = await forker.child(`/worker/${kid}`)
    await forker.writer.append(
      `/chat/${root}`,
      childEvent(`/worker/${kid}`, { wake: 'runFinished' }),
      manifestEvent(`shared-state:${board}`, { kind: 'shared-state', id: board, mode: 'create', collections: {} }),
      rowEvent('child_status', `/worker/${kid}`, { entity_url: `/worker/${kid}`, entity_type: 'worker', status: 'idle' }),
      rowEvent('replay_watermark', `/worker/${kid}`, { source_id: `/worker/${kid}`, offset: '1' }),
    )
    const state = `/_electric/shared-state/${board}`
    expectStatus(201, await forker.wire.ask('PUT', state, undefined, { headers: { 'content-type': 'application/json' } }))
    const note = rowEvent('note', '1', { text: `/worker/${kid}` })
    expectStatus(204, await forker.wire.ask('POST', state, note, { headers: { 'content-type': 'application/json' } }))

    const copies = await forker.forked(`/chat/${root}`)

    const mark = suffix(copies.root.url)
    expect(copies.entities.map(({ url, parent, tags }) => [url, parent, tags])).toEqual([
      [`/chat/${root}-fork-${mark}`, undefined, {}],
      [`/worker/${kid}-fork-${mark}`, `/chat/${root}-fork-${mark}`, { k: '1' }],
      [`${grandchild}-fork-${mark}`, `/worker/${kid}-fork-${mark}`, {}],
    ])
    expect(copies.root.spawn_args).toEqual({
      peer: `/worker/${kid}-fork-${mark}`,
      deep: [{ s: `${board}-fork-${mark}`, not: `see /worker/${kid}` }],
    })
    const own = await forker.ownEvents(copies.root.url)
    expect(own.map(({ type, headers }) => `${type} ${headers.operation}`)).toEqual([
      'entity_created update',
      'manifest delete',
      'manifest insert',
      'manifest delete',
      'manifest insert',
      'child_status update',
      'replay_watermark delete',
      'replay_watermark insert',
    ])
    expect(new Set(own.map(({ headers }) => `${headers.txid} ${headers.forkedFrom}`)).size).toBe(1)
    expect(new Set(own.map(({ headers }) => headers.offset)).size).toBe(own.length) // each event is an entry of its own
    expect(own.map(brief)).toContain(`manifest child:worker:${kid}-fork-${mark} insert`)
    expect(own.find(({ key }) => key === `child:worker:${kid}-fork-${mark}`)?.value).toEqual({
      key: `child:worker:${kid}-fork-${mark}`,
      kind: 'child',
      id: `${kid}-fork-${mark}`,
      entity_type: 'worker',
      entity_url: `/worker/${kid}-fork-${mark}`,
      observed: true,
      wake: 'runFinished',
    })
    const copied = `/_electric/shared-state/${board}-fork-${mark}`
    expect((await forker.wire.ask('GET', `${copied}?offset=-1`)).body).toMatchObject([note]) // contents are not remapped
    expectStatus(204, await forker.wire.ask('POST', copied, note, { headers: { 'content-type': 'application/json' } }))
    expect((await forker.wire.ask('GET', `${state}?offset=-1`)).body).toHaveLength(1)
    for (const { url } of copies.entities) expect(await forker.projected(url)).toEqual(await forker.manifest(url))
    expect(await forker.wire.sql(`SELECT shared_state_id FROM shared_state_links WHERE owner_url = $1`, copies.root.url)).toEqual([
      { shared_state_id: `${board}-fork-${mark}` },
    ])
    expect(
      await forker.wire.sql(
        'SELECT ancestor_url, depth FROM lineage WHERE descendant_url = $1 ORDER BY depth',
        `${grandchild}-fork-${mark}`,
      ),
    ).toEqual([
      { ancestor_url: `${grandchild}-fork-${mark}`, depth: 0 },
      { ancestor_url: `/worker/${kid}-fork-${mark}`, depth: 1 },
      { ancestor_url: `/chat/${root}-fork-${mark}`, depth: 2 },
    ])
  })

  it.each([
    ['image/png', Buffer.from([0x89, 0x50, 0, 255, 10])],
    ['text/plain', Buffer.from('ä text')],
    ['application/json', Buffer.from('{ "a" : 1 }')],
    ['application/pdf', Buffer.alloc(2_500_000, 'x')],
    ['text/csv; charset=utf-8', Buffer.alloc(0)],
  ])('has the attachments of its source, byte for byte: %s (required fix)', async (type, bytes) => {
    const source = await forker.root()
    const form = new FormData()
    form.append('file', new Blob([bytes], { type }), 'a b.bin')
    for (const [field, value] of Object.entries({ id: 'ä 1', subjectType: 'inbox', subjectKey: 'k' })) form.append(field, value)
    const uploaded = await fetch(`${forker.wire.url}/_electric/entities${source}/attachments`, { method: 'POST', body: form })
    expect(uploaded.status).toBe(201)

    const { root } = await forker.forked(source)

    const path = `/attachments/${encodeURIComponent('ä 1')}`
    const [ours, theirs] = await Promise.all(
      [source, root.url].map(async (url) => {
        const response = await fetch(`${forker.wire.url}/_electric/entities${url}${path}`)
        return {
          status: response.status,
          type: response.headers.get('content-type'),
          bytes: sha256(Buffer.from(await response.arrayBuffer())),
        }
      }),
    )
    expect(theirs).toEqual(ours)
    expect(theirs).toMatchObject({ status: 200, bytes: sha256(bytes) })
    expect((await forker.manifest(root.url)).get('attachment:ä 1')).toMatchObject({ streamPath: `${root.url}${path}` })
    expectStatus(200, await forker.wire.ask('DELETE', `/_electric/entities${source}${path}`))
    expect((await fetch(`${forker.wire.url}/_electric/entities${root.url}${path}`)).status).toBe(200)
    expectStatus(200, await forker.wire.ask('DELETE', `/_electric/entities${root.url}${path}`))
  })

  it('never copies what a manifest row names but its entity does not own', async () => {
    const [source, secret] = [await forker.root(), await forker.root()]
    const form = new FormData()
    form.append('file', new Blob(['secret']), 'a')
    for (const [field, value] of Object.entries({ id: 's', subjectType: 'inbox', subjectKey: 'k' })) form.append(field, value)
    await fetch(`${forker.wire.url}/_electric/entities${secret}/attachments`, { method: 'POST', body: form })
    const value = { kind: 'attachment', id: 's', status: 'complete', streamPath: `${secret}/attachments/s`, mimeType: 'text/plain' }
    await forker.writer.append(source, manifestEvent('attachment:s', value))

    const { root } = await forker.forked(source)

    expect((await forker.manifest(root.url)).get('attachment:s')).toEqual({ key: 'attachment:s', ...value })
    expectStatus(404, await forker.wire.ask('GET', `${root.url}/attachments/s`))
    expect((await forker.wire.ask('GET', `/_electric/entities${root.url}/attachments/s`)).status).toBe(409)
  })

  it.each([
    ['removed', null],
    ['uploaded again, with as many bytes', 'EVIL'],
    ['uploaded again, with more bytes', 'other bytes'],
  ])('at an earlier event has no bytes of an attachment that was %s since', async (_, bytes) => {
    const source = await forker.root()
    await forker.attach(source, 'kept')
    await forker.attach(source, 'a1', 'FOUR')
    const anchor = { fork_pointer: { offset: (await forker.wire.events(source)).at(-2)?.headers.offset, sub_offset: 1 } }
    const row = (await forker.manifest(source)).get('attachment:a1') as object
    expectStatus(200, await forker.wire.ask('DELETE', `/_electric/entities${source}/attachments/a1`))
    if (bytes !== null) await forker.attach(source, 'a1', bytes)

    const { root } = await forker.forked(source, anchor)

    expect((await forker.manifest(root.url)).get('attachment:a1')).toEqual({ ...row, streamPath: `${root.url}/attachments/a1` })
    expect(await forker.attachment(root.url, 'a1')).toMatchObject({
      status: 404,
      body: { error: { code: 'NOT_FOUND', message: 'Attachment not found' } },
    })
    expect(await forker.attachment(root.url, 'kept')).toMatchObject({ status: 200, text: 'bytes of kept' })
  })

  it('copies what two rows of a manifest name, two spellings of one path among it', async () => {
    const source = await forker.root()
    await forker.attach(source, 'twice')
    const row = (await forker.manifest(source)).get('attachment:twice') as object
    await forker.writer.append(
      source,
      manifestEvent('again', { ...row, key: 'again' }),
      manifestEvent('source:db:spelt', { kind: 'source', sourceType: 'db', sourceRef: 'spelt%20so', config: { id: 'spelt so' } }),
    )
    await written('/_electric/shared-state/spelt%20so', { note: 1 })

    const { root } = await forker.forked(source)

    expect(await forker.attachment(root.url, 'twice')).toMatchObject({ status: 200, text: 'bytes of twice' })
  })

  it('names shared states so that they can be read, however long their names are', async () => {
    const source = await forker.root()
    const [short, long] = ['ü'.repeat(20), 'ü'.repeat(329)] // the path of the longer one is nearly as long as a path can be
    await forker.writer.append(source, manifestEvent('short', { kind: 'shared-state', id: short }))
    await forker.writer.append(source, manifestEvent('long', { kind: 'shared-state', id: long }))
    const stands = streams === 'postgres' ? long : short // the foreign test server names files by paths
    await written(`/_electric/shared-state/${encodeURIComponent(stands)}`, { note: 1 })

    const { root } = await forker.forked(source)

    const ids = [...(await forker.manifest(root.url)).values()].map((row) => (row as { id: string }).id)
    const copy = ids.find((id) => id.length > 100 === (stands === long)) ?? ''
    expect(copy).toMatch(/^ü+-fork-[0-9a-f]{8}$/)
    expectStatus(200, await forker.wire.ask('GET', `/_electric/shared-state/${encodeURIComponent(copy)}?offset=-1`))
  })

  it('takes rows along whose keys are as long as somebody likes', async () => {
    const source = await forker.root()
    const kid = await forker.child(source)
    const long = randomBytes(4_000).toString('hex')
    await forker.writer.append(source, manifestEvent(long, { kind: 'goal' }))
    await forker.writer.append(source, manifestEvent('child:odd', { kind: 'child', id: 'x', entity_type: long, entity_url: kid }))

    const { root, entities } = await forker.forked(source)

    const id = entities[1]?.url.split('/')[2]
    expect([...(await forker.manifest(root.url)).keys()].sort()).toEqual([long, `child:worker:${id}`, `child:${long}:${id}`].sort())
    const again = await forker.forked(root.url)
    expect((await forker.manifest(again.root.url)).get(long)).toEqual({ key: long, kind: 'goal' })
    expectStatus(200, await forker.wire.send(source, { payload: 'goes on' }))
  })

  describe('at a pointer', () => {
    let known: ReturnType<typeof makeExample> | undefined
    /** The history of the worked example (spec/04 §5), made once: forks leave it as it is. The ends of its entries A, B, C, D. */
    const example = async () => {
      known ??= makeExample()
      return await known
    }

    async function makeExample() {
      await forker.wire.register('commanding', { slash_commands: [{ name: 'goal' }] })
      const source = await forker.root({}, 'commanding')
      expectStatus(200, await forker.wire.send(source, { payload: 'm1' }))
      await forker.writer.append(
        source,
        runEvent('r0', 'started'),
        rowEvent('step', 's0', { step_number: 1, status: 'started' }),
        runEvent('r0', 'completed'),
      )
      expectStatus(200, await forker.wire.send(source, { payload: 'm2' }))
      const events = await forker.wire.events(source)
      const [a, b, c, d] = [1, 2, 3, 6].map((index) => String(events[index]?.headers.offset))
      expect(events.map(({ type }) => type)).toEqual(['entity_created', 'slash_command', 'inbox', 'run', 'step', 'run', 'inbox'])
      return { source, events, ends: { a, b, c, d } as Readonly<Record<string, string>> }
    }

    it.each([
      ['b', 3, 6],
      ['b', 2, 5],
      [null, 2, 2],
      ['a', 1, 3],
      ['c', 1, 7],
      [null, 3, 3], // crosses a border: translated
      [null, 1, 1],
      ['b', 4, 7],
    ])('{%s,%i} of the worked example keeps %i items', async (end, sub_offset, keeps) => {
      const { source, events, ends } = await example()

      const { root } = await forker.forked(source, { fork_pointer: { offset: end === null ? null : ends[end], sub_offset } })

      const unplaced = (all: readonly WireEvent[]) => all.map(({ headers: { offset: _, ...headers }, ...event }) => ({ ...event, headers }))
      expect(unplaced(await forker.inherited(root.url))).toEqual(unplaced(events.slice(0, keeps)))
      expectStatus(200, await forker.wire.send(root.url, { payload: 'after' }))
      const offsets = (await forker.wire.events(root.url)).map(({ headers }) => String(headers.offset))
      expect([...offsets].sort()).toEqual(offsets)
      expect(await forker.wire.events(source)).toEqual(events)
    })

    it.each([
      ['d', 1, /\(valid: 1\.\.0\)$/],
      ['b', 0, /fork_pointer\.sub_offset 0 out of range past anchor on .*\/main \(valid: 1\.\.4\)$/],
      ['b', 5, /sub_offset 5 out of range .*\(valid: 1\.\.4\)$/],
      ['b', 1.5, /sub_offset 1\.5 out of range/],
      ['b', -1, /sub_offset -1 out of range/],
      ['b', 1e300, /sub_offset 1e\+300 out of range/],
      [null, 8, /\(valid: 1\.\.7\)$/],
    ])('{%s,%d} of the worked example is refused', async (end, sub_offset, message) => {
      const { source, ends } = await example()

      const refused = await forker.fork(source, { fork_pointer: { offset: end === null ? null : ends[end], sub_offset } })

      expect(refused).toMatchObject({ status: 400, body: { error: { code: 'INVALID_REQUEST', message: expect.stringMatching(message) } } })
    })

    it.each([
      '0000000000000000_0000000000000000',
      '0000000000000000_9999999999999999',
      '1_1',
      '',
      '-1',
      'now',
      'x'.repeat(5_000_000), // more than Temporal takes
      '0000000000000001_0000000000000001',
    ])('an offset at which no entry ends is refused: case %#', async (offset) => {
      const source = await forker.root()

      expect(await forker.fork(source, { fork_pointer: { offset, sub_offset: 1 } })).toMatchObject({
        status: 400,
        body: invalid(`fork_pointer.offset (${offset.slice(0, 100)}) does not match any event's Stream-Next-Offset on ${source}/main`),
      })
    })

    it('the root is what it was then: manifest, children, their order; below a kept child everything is as it is now', async () => {
      const source = await forker.root()
      const kept = await forker.child(source)
      await forker.writer.append(source, manifestEvent('goal', { kind: 'goal', id: 'goal', objective: 'old' }))
      const at = String((await forker.wire.events(source)).at(-1)?.headers.offset)
      await forker.writer.append(source, rowEvent('text', 't', { status: 'completed' }))
      const late = await forker.child(source)
      await forker.writer.append(source, manifestEvent('goal', { kind: 'goal', id: 'goal', objective: 'new' }, 'update'))
      const below = await forker.child(kept)

      const copies = await forker.forked(source, { fork_pointer: { offset: at, sub_offset: 1 } })

      const mark = suffix(copies.root.url)
      expect(copies.entities.map(({ url }) => url)).toEqual([copies.root.url, `${kept}-fork-${mark}`, `${below}-fork-${mark}`])
      expect(await forker.manifest(copies.root.url)).toEqual(await forker.projected(copies.root.url))
      expect((await forker.manifest(copies.root.url)).get('goal')).toMatchObject({ objective: 'old' })
      expect([...(await forker.manifest(copies.root.url)).keys()].some((key) => key.includes(late.split('/')[2] ?? ''))).toBe(false)
      expect((await forker.inherited(`${kept}-fork-${mark}`)).length).toBe((await forker.wire.events(kept)).length)
    })

    it('a root at work is forked all the same, and never refused an append (MUST)', async () => {
      const source = await forker.root()
      await forker.wire.putInto('running', source)
      let appended = 0
      let isForking = true
      const appends = (async () => {
        for (; isForking; appended += 1) await forker.writer.append(source, rowEvent('text_delta', `d${appended}`, { delta: 'x' }))
      })()

      for (let nth = 0; nth < 5; nth += 1)
        expect((await forker.forked(source, { fork_pointer: { offset: null, sub_offset: 1 } })).root.status).toBe('idle')

      isForking = false
      await appends
      expect((await forker.wire.events(source)).filter(({ type }) => type === 'text_delta')).toHaveLength(appended)
      expect(await forker.wire.statusOf(source)).toBe('running')
    })

    it('of a fork of a fork of a fork reads through all of them', async () => {
      const source = await forker.root({ initialMessage: 'first' })
      let url = source
      for (let depth = 1; depth <= 3; depth += 1) {
        await forker.writer.append(
          url,
          manifestEvent(`effect:${depth}`, { kind: 'effect', id: String(depth) }),
          runEvent(`r${depth}`, 'completed'),
          rowEvent('text', `t${depth}`, {}),
        )
        url = (await forker.forked(url)).root.url
      }

      const { root } = await forker.forked(url, { fork_pointer: { offset: null, sub_offset: 4 } })
      const anchored = await forker.forked(url, { anchor: 'latest_completed_run' })

      expect((await forker.inherited(root.url)).map(brief)).toEqual([
        'entity_created entity-created insert',
        expect.stringMatching(/^inbox/),
        'manifest effect:1 insert',
        'run r1 update',
      ])
      expect([...(await forker.projected(root.url)).keys()]).toEqual(['effect:1'])
      expect((await forker.wire.events(anchored.root.url)).filter(({ type }) => type === 'run').map(({ key }) => key)).toEqual([
        'r1',
        'r2',
        'r3',
      ])
      expect((await forker.wire.events(anchored.root.url)).map(({ key }) => key)).not.toContain('t3')
      expect([...(await forker.projected(anchored.root.url)).keys()]).toEqual(['effect:1', 'effect:2', 'effect:3'])
    })
  })

  describe('at the latest completed run', () => {
    it.each([
      ['inside of its entry', [[runEvent('a', 'completed'), rowEvent('text', 'x', {})]], 1],
      ['at the end of its entry', [[rowEvent('text', 'x', {}), runEvent('a', 'completed')]], 2],
      ['whatever failed or began later', [[runEvent('a', 'completed')], [runEvent('b', 'started')], [runEvent('b', 'failed')]], 1],
      ['the last of several', [[runEvent('a', 'completed')], [runEvent('b', 'completed')], [rowEvent('text', 'x', {})]], 2],
      [
        'also one that was inserted complete',
        [[runEvent('a', 'completed', 'insert')], [rowEvent('run', 'a', { status: 'completed' }, 'delete')]],
        1,
      ],
    ])('cuts %s', async (_, entries, keeps) => {
      const source = await forker.root()
      for (const entry of entries) await forker.writer.append(source, ...entry)
      await forker.wire.putInto('running', source)

      const { root } = await forker.forked(source, { anchor: 'latest_completed_run' })

      expect(await forker.inherited(root.url)).toHaveLength(1 + keeps)
    })

    it('is refused where there is none', async () => {
      const source = await forker.root()
      await forker.writer.append(source, runEvent('a', 'started'), runEvent('a', 'failed'))

      expect(await forker.fork(source, { anchor: 'latest_completed_run' })).toMatchObject({
        status: 400,
        body: invalid(`Source ${source}/main has no completed run to fork from`),
      })
    })
  })

  it('below a parent is its child, with its first message; and cannot be forked itself', async () => {
    const parent = await forker.root()
    const source = await forker.root()

    const { root } = await forker.forked(source, { parent, initialMessage: { task: 1 } })
    const nobody = await forker.forked(source, { initialMessage: null })

    expect(root.parent).toBe(parent)
    const own = await forker.ownEvents(root.url)
    expect(own.map(({ type }) => type)).toEqual(['entity_created', 'inbox'])
    expect(own[0]?.value).toMatchObject({ parent_url: parent })
    expect(own[1]).toMatchObject({
      value: { from: parent, payload: { task: 1 }, mode: 'immediate', status: 'processed' },
      headers: { operation: 'insert' },
    })
    expect(own[1]?.value).not.toHaveProperty('from_principal')
    expect((await forker.ownEvents(nobody.root.url))[1]?.value).toMatchObject({ from: '/principal/system%3Adev-local', payload: null })
    expect(await forker.wire.sql('SELECT ancestor_url, depth FROM lineage WHERE descendant_url = $1 ORDER BY depth', root.url)).toEqual([
      { ancestor_url: root.url, depth: 0 },
      { ancestor_url: parent, depth: 1 },
    ])
    expect(await forker.fork(root.url)).toMatchObject({ status: 400, body: invalid('Only top-level entities can be forked') })
  })

  it('belongs to its caller, whoever made the source', async () => {
    const source = await forker.root({}, 'sams', 'user:sam')

    const { root } = await forker.forked(source, {}, { as: 'user:sam' })

    expect(root.created_by).toBe(sam)
    expect((await forker.wire.get(sam)).status).toBe(200)
    expect((await forker.wire.get(root.url, 'user:sam')).status).toBe(200)
    expect((await forker.wire.get(root.url, 'user:kim')).status).toBe(401)
  })

  it('keeps what the source was spawned with: schemas, revision, dispatch policy', async () => {
    const policy = { targets: [{ type: 'webhook', url: 'http://localhost:1/x' }] }
    await forker.wire.register('kept', { inbox_schemas: { note: { type: 'object' } } })
    const source = await forker.root({ dispatch_policy: policy }, 'kept')
    await forker.wire.register('kept', { inbox_schemas: { other: { type: 'object' } } })

    const { root } = await forker.forked(source)

    expect(root.dispatch_policy).toEqual(policy)
    const columns = 'type_revision, inbox_schemas, state_schemas, sandbox'
    const rowOf = async (url: string) => await forker.wire.sql(`SELECT ${columns} FROM entities WHERE url = $1`, url)
    expect(await rowOf(root.url)).toEqual(await rowOf(source))
    expectStatus(200, await forker.wire.send(root.url, { payload: {}, type: 'note' }))
  })

  it('lives on its own: what is done to the one never shows in the other', async () => {
    const source = await forker.root({ initialMessage: 1 })
    const { root } = await forker.forked(source)

    expectStatus(200, await forker.wire.send(source, { payload: 'to the source' }))
    expectStatus(200, await forker.wire.send(root.url, { payload: 'to the copy' }))
    expectStatus(200, await forker.wire.kill(source))

    expect(JSON.stringify(await forker.wire.events(root.url))).not.toContain('to the source')
    expect(JSON.stringify(await forker.wire.events(source))).not.toContain('to the copy')
    expect(await forker.wire.statusOf(root.url)).toBe('idle')
    expectStatus(200, await forker.wire.send(root.url, { payload: 'still there' }))
    expect(await forker.fork(source)).toMatchObject({
      status: 409,
      body: refusal('NOT_RUNNING', `Cannot fork terminal entity "${source}"`),
    })
  })

  it('of a paused entity is idle', async () => {
    const source = await forker.root()
    expectStatus(200, await forker.wire.signal(source, { signal: 'SIGSTOP' }))

    expect((await forker.forked(source)).root.status).toBe('idle')
  })

  describe('that is repeated under its Idempotency-Key', () => {
    it('is the first one, also when the name was asked for, and when both come at once', async () => {
      const source = await forker.root()
      for (const body of [{}, { instance_id: forker.id('named') }]) {
        const ask = { headers: { 'idempotency-key': forker.id('key') } }

        const answers = await Promise.all([1, 2, 3].map(async () => await forker.forked(source, body, ask)))
        const again = await forker.forked(source, body, ask)

        expect(new Set([...answers, again].map(({ root }) => root.url)).size).toBe(1)
        expect(again).toEqual(answers[0])
      }
    })

    it('is refused like the first one, and for another body or as a strange key', async () => {
      const source = await forker.root()
      const ask = { headers: { 'idempotency-key': forker.id('key') } }
      const missing = { fork_pointer: { offset: null, sub_offset: 99 } }

      expect((await forker.fork(source, missing, ask)).status).toBe(400)
      await forker.writer.append(source, ...Array.from({ length: 99 }, (_, nth) => rowEvent('text', `t${nth}`, {})))
      expect((await forker.fork(source, missing, ask)).status).toBe(400)
      expect(await forker.fork(source, {}, ask)).toMatchObject({
        status: 422,
        body: refusal('IDEMPOTENCY_KEY_REUSED', 'Idempotency-Key was used for another request'),
      })
      expect((await forker.fork(source, {}, { headers: { 'idempotency-key': 'x'.repeat(256) } })).status).toBe(400)
    })

    it('is another one for another caller or another source', async () => {
      const [one, other] = [await forker.root(), await forker.root()]
      const ask = { headers: { 'idempotency-key': forker.id('key') } }

      const urls = [
        await forker.forked(one, {}, ask),
        await forker.forked(other, {}, ask),
        await forker.forked(one, {}, { ...ask, as: 'system:framework' }),
      ]

      expect(new Set(urls.map(({ root }) => root.url)).size).toBe(3)
    })
  })
})
