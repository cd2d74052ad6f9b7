import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import fc from 'fast-check'
import { eventually } from '../support/eventually.js'
import { oddSegment, refusesAll } from '../support/hostile.js'
import { type Answer, expectStatus, refusal, sam, Wire } from '../support/wire.js'

const invalid = (message: string) => refusal('INVALID_REQUEST', message)
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
const inboxSubject = { subjectType: 'inbox', subjectKey: 'm1' }

interface Upload {
  readonly bytes?: Buffer | string
  readonly type?: string
  readonly name?: string
  readonly fields?: Readonly<Record<string, string>>
  readonly as?: string
  readonly at?: string
}

class Uploader {
  readonly wire: Wire
  #fresh = 0

  constructor(wire: Wire) {
    this.wire = wire
  }

  async freshEntity(as?: string): Promise<string> {
    this.#fresh += 1
    const url = `/${as === undefined ? 'chat' : 'sams'}/holder-${this.#fresh}`
    await this.wire.spawned(url, {}, as)
    return url
  }

  async upload(
    url: string,
    { bytes = 'hello', type = 'text/plain', name = 'a.txt', fields = inboxSubject, as, at }: Upload = {},
  ): Promise<Answer> {
    const form = new FormData()
    form.append('file', new Blob([bytes as string], { type }), name)
    for (const [field, value] of Object.entries(fields)) form.append(field, value)
    return await this.post(url, form, as, at)
  }

  async post(
    url: string,
    body: string | FormData,
    as?: string,
    at = this.wire.url,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const response = await fetch(`${at}/_electric/entities${url}/attachments`, {
      method: 'POST',
      headers: { ...headers, ...(as === undefined ? {} : { 'electric-principal': as }) },
      body,
      signal: AbortSignal.timeout(30_000),
    })
    const text = await response.text()
    return { status: response.status, text, body: JSON.parse(text), headers: response.headers }
  }

  async download(url: string, id: string, method = 'GET', as?: string) {
    const response = await fetch(`${this.wire.url}/_electric/entities${url}/attachments/${id}`, {
      method,
      headers: as === undefined ? {} : { 'electric-principal': as },
      signal: AbortSignal.timeout(30_000),
    })
    return { status: response.status, bytes: Buffer.from(await response.arrayBuffer()), headers: response.headers }
  }

  async remove(url: string, id: string, as?: string): Promise<Answer> {
    return await this.wire.ask('DELETE', `/_electric/entities${url}/attachments/${id}`, undefined, as === undefined ? {} : { as })
  }

  async manifest(url: string) {
    return (await this.wire.events(url)).filter(({ type }) => type === 'manifest')
  }
}

describe.each(['postgres', 'http'] as const)('an attachment, with streams in %s,', (streams) => {
  let uploader: Uploader
  beforeAll(async () => {
    uploader = new Uploader(await Wire.start({ streams }))
    await uploader.wire.register('sams', {}, 'user:sam')
  })
  afterAll(async () => await uploader.wire.stop())

  it('is there with its manifest row: answer, event, and the exact bytes', async () => {
    const url = await uploader.freshEntity('user:sam')
    const bytes = randomBytes(4)

    const fields = { id: 'att1', subject: '{"type":"inbox","key":"m1"}', meta: '{"x":1}' }
    const { body } = expectStatus(201, await uploader.upload(url, { bytes, type: 'image/png', name: 'shot.png', fields, as: 'user:sam' }))

    const attachment = {
      key: 'attachment:att1',
      kind: 'attachment',
      id: 'att1',
      streamPath: `${url}/attachments/att1`,
      status: 'complete',
      subject: { type: 'inbox', key: 'm1' },
      role: 'input',
      mimeType: 'image/png',
      filename: 'shot.png',
      byteLength: 4,
      sha256: sha256(bytes),
      createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
      createdBy: sam,
      meta: { x: 1 },
    }
    expect(body).toEqual({ txid: expect.any(String), attachment })
    expect((await uploader.wire.ask('GET', `${url}/main?offset=-1`, undefined, { as: 'user:sam' })).body).toContainEqual({
      type: 'manifest',
      key: 'attachment:att1',
      value: attachment,
      headers: { operation: 'upsert', timestamp: expect.any(String), txid: (body as { txid: string }).txid, offset: expect.any(String) },
    })
    const downloaded = await uploader.download(url, 'att1', 'GET', 'user:sam')
    expect(downloaded).toMatchObject({ status: 200, bytes })
    expect(Object.fromEntries(downloaded.headers)).toMatchObject({
      'content-type': 'image/png',
      'content-length': '4',
      'cache-control': 'private, max-age=31536000, immutable',
      'content-disposition': `attachment; filename="shot.png"; filename*=UTF-8''shot.png`,
    })
    const head = await uploader.wire.ask('HEAD', `${url}/attachments/att1`, undefined, { as: 'user:sam' })
    expect([head.status, head.headers.get('content-type'), head.headers.get('stream-closed')]).toEqual([200, 'image/png', 'true'])
    const bare = await uploader.download(url, 'att1', 'HEAD', 'user:sam')
    expect([bare.status, bare.headers.get('content-length'), bare.bytes.length]).toEqual([200, '4', 0])
  })

  it.each([
    ['nothing', Buffer.alloc(0), 'text/plain'],
    ['JSON, unchanged', Buffer.from('{ "b":1, "a" : [1,2,  3] }\n'), 'application/json'],
    ['what is no JSON', Buffer.from('{"broken'), 'application/json'],
    ['an odd type', Buffer.from([0, 255, 254, 13, 10]), 'nonsense'],
    ['as much as waits in memory', randomBytes(262_144), 'application/octet-stream'],
    ['more than waits in memory', randomBytes(300_000), 'application/octet-stream'],
    ['one chunk', randomBytes(1_048_576), 'application/octet-stream'],
    ['one byte more than a chunk', randomBytes(1_048_577), 'application/octet-stream'],
    ['more than one chunk', randomBytes(2_500_000), 'application/octet-stream'],
  ])('gives back %s (required of us)', async (_, bytes, type) => {
    const url = await uploader.freshEntity()
    const { body } = expectStatus(201, await uploader.upload(url, { bytes, fields: { ...inboxSubject, mimeType: type } }))
    const { attachment } = body as { attachment: { id: string; mimeType: string; sha256: string } }

    const downloaded = await uploader.download(url, attachment.id)

    expect(downloaded.bytes.equals(bytes)).toBe(true)
    const head = await uploader.wire.ask('HEAD', `${url}/attachments/${attachment.id}`)
    expect([head.status, head.headers.get('stream-closed')]).toEqual([200, 'true'])
    expect([attachment.mimeType, downloaded.headers.get('content-type'), attachment.sha256]).toEqual([type, type, sha256(bytes)])
  })

  it.each([
    ['with parameters', 'content-type: Text/plain; charset=utf-8\r\n', 'Text/plain; charset=utf-8'],
    ['that is not given', '', 'application/octet-stream'],
  ])('has the type of its part, also one %s (spec/03 §10.1)', async (_, header, type) => {
    const url = await uploader.freshEntity()
    const part = (name: string, value: string, more = '') =>
      `--b\r\ncontent-disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`
    const subject = Object.entries(inboxSubject).map(([name, value]) => part(name, value))
    const form = `${subject.join('')}${part('file', 'grüße', `; filename="a.bin"\r\n${header}`.replace(/\r\n$/, ''))}--b--\r\n`
    const headers = { 'content-type': 'multipart/form-data; boundary=b' }

    const { body } = expectStatus(201, await uploader.wire.ask('POST', `/_electric/entities${url}/attachments`, form, { headers }))

    expect(body).toMatchObject({ attachment: { mimeType: type } })
  })

  it('is removed with its manifest row, and its id is free again', async () => {
    const url = await uploader.freshEntity()
    const fields = { ...inboxSubject, id: 'a' }
    expectStatus(201, await uploader.upload(url, { bytes: 'one', fields }))

    const { body } = expectStatus(200, await uploader.remove(url, 'a'))

    expect((await uploader.manifest(url)).at(-1)).toEqual({
      type: 'manifest',
      key: 'attachment:a',
      headers: { operation: 'delete', timestamp: expect.any(String), txid: (body as { txid: string }).txid, offset: expect.any(String) },
    })
    expect((await uploader.download(url, 'a')).status).toBe(404)
    expect((await uploader.wire.ask('GET', `${url}/attachments/a`)).status).toBe(404)
    expect(await uploader.remove(url, 'a')).toMatchObject({ status: 404, body: refusal('NOT_FOUND', 'Attachment not found') })
    expectStatus(201, await uploader.upload(url, { bytes: 'two', fields }))
    expect((await uploader.download(url, 'a')).bytes.toString()).toBe('two')
  })

  it('whose id is used is refused, whatever its type, and what is there stays (required of us)', async () => {
    const url = await uploader.freshEntity()
    const fields = { ...inboxSubject, id: 'a' }
    expectStatus(201, await uploader.upload(url, { bytes: 'first', fields }))

    for (const type of ['text/plain', 'image/png'])
      expect(await uploader.upload(url, { bytes: 'second', type, fields })).toMatchObject({
        status: 409,
        body: invalid('Attachment already exists at id "a"'),
      })

    expect((await uploader.download(url, 'a')).bytes.toString()).toBe('first')
    expect(await uploader.manifest(url)).toHaveLength(1)
  })

  it('sent ten times at once under one id is stored once', async () => {
    const url = await uploader.freshEntity()
    const fields = { ...inboxSubject, id: 'race' }

    const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => uploader.upload(url, { bytes: `bytes ${index}`, fields })))

    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array.from({ length: 9 }, () => 409)])
    const [winner] = answers.flatMap(({ status }, index) => (status === 201 ? [index] : []))
    expect((await uploader.download(url, 'race')).bytes.toString()).toBe(`bytes ${winner}`)
  })

  it('that was being stored when its process died is shown to nobody, and swept; its id is free again', async () => {
    const { wire } = uploader
    const url = await uploader.freshEntity()
    const path = `${url}/attachments/half`
    await wire.sql(`INSERT INTO attachment_claims VALUES ('default', $1, 'dead', now() + interval '1 hour')`, path)
    await uploader.wire.ask('PUT', path) // nobody's
    expect((await uploader.download(url, 'half')).status).toBe(404)
    expect((await uploader.upload(url, { fields: { ...inboxSubject, id: 'half' } })).status).toBe(409)

    await wire.sql(`UPDATE attachment_claims SET deadline = now() - interval '1 second' WHERE path = $1`, path)

    await eventually(async () => (await wire.sql('SELECT 1 FROM attachment_claims WHERE path = $1', path)).length === 0, {
      withinMs: 30_000,
    })
    expectStatus(201, await uploader.upload(url, { fields: { ...inboxSubject, id: 'half' } }))
  })
})

describe('an upload', () => {
  let uploader: Uploader
  let wire: Wire
  let url: string
  beforeAll(async () => {
    wire = await Wire.start({ env: { ELECTRIC_AGENTS_MAX_ATTACHMENT_BYTES: '1000' } })
    uploader = new Uploader(wire)
    await wire.register('sams', {}, 'user:sam')
    url = await uploader.freshEntity()
  })
  afterAll(async () => await wire.stop())

  const form = (parts: Readonly<Record<string, string>>, file = true): FormData => {
    const made = new FormData()
    if (file) made.append('file', new Blob(['x'], { type: 'text/plain' }), 'x.txt')
    for (const [name, value] of Object.entries(parts)) made.append(name, value)
    return made
  }

  it('1: to nobody, and without permission', async () => {
    expect(await uploader.upload('/chat/none')).toMatchObject({ status: 404, body: refusal('NOT_FOUND', expect.anything() as never) })
    expect(await uploader.upload('/none/none')).toMatchObject({ status: 404 })
    const owned = await uploader.freshEntity('user:sam')
    expect(await uploader.upload(owned, { as: 'user:kim' })).toMatchObject({
      status: 401,
      body: refusal('UNAUTHORIZED', `Principal is not allowed to write ${owned}`),
    })
  })

  it('2: to a principal, before its body is looked at', async () => {
    expect(await uploader.post('/principal/user:kim', 'nonsense')).toMatchObject({
      status: 400,
      body: invalid('Principal entities are built in and cannot be given attachments'),
    })
  })

  it('3–5: that is no form, a broken one, or without a file', async () => {
    expect(await uploader.post(url, '{}')).toMatchObject({ status: 400, body: invalid('Attachment uploads must use multipart/form-data') })
    const broken = { 'content-type': 'multipart/form-data; boundary=x' }
    for (const [headers, body] of [
      [{ 'content-type': 'multipart/form-data' }, '--x--'],
      [broken, 'nonsense'],
      [broken, '--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nnever ends'],
    ] as const)
      expect(await uploader.post(url, body, undefined, undefined, headers)).toMatchObject({
        status: 400,
        body: invalid('Invalid multipart form data'),
      })
    expect(await uploader.post(url, form(inboxSubject, false))).toMatchObject({ status: 400, body: invalid('Missing file field') })
  })

  it.each([
    [{ role: 'other' }, 'invalid attachment role'],
    [{ meta: '{' }, 'Invalid JSON field: meta'],
    [{ meta: '[]' }, 'attachment meta must be an object'],
    [{ meta: `${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}` }, 'JSON is nested deeper than 200 levels'],
    [{ meta: '{"a":1e400}' }, 'Numbers must be finite'],
    [{ subject: '{' }, 'Invalid JSON field: subject'],
    [{ subject: '[]' }, 'attachment subject must be an object'],
    [{ subject: '{"type":"inbox"}' }, 'attachment subject requires type and key'],
    [{}, 'attachment subject is required'],
    [{ subjectType: 'inbox', subjectKey: '  ' }, 'attachment subject is required'],
    [{ subjectType: 'other', subjectKey: 'k' }, 'invalid attachment subject type'],
    [{ ...inboxSubject, filename: 'x'.repeat(1_025) }, 'attachment filename must be at most 1024 bytes'],
    [{ ...inboxSubject, filename: '😀'.repeat(257) }, 'attachment filename must be at most 1024 bytes'],
    [{ ...inboxSubject, mimeType: `a/${'x'.repeat(254)}` }, 'attachment mimeType must be at most 255 characters'],
    [{ ...inboxSubject, id: '.hidden' }, 'attachment id must not be empty, start with ".", or contain forward slashes'],
    [{ ...inboxSubject, id: 'a/b' }, 'attachment id must not be empty, start with ".", or contain forward slashes'],
    [{ ...inboxSubject, id: 'x'.repeat(401) }, 'attachment id must be at most 400 bytes, without U+0000'],
    [{ subject: '{"type":"inbox","key":""}' }, 'attachment subject key is required'],
  ])('6–11: %j is a 400 and stores nothing', async (fields, message) => {
    const before = await wire.counts()

    expect(await uploader.post(url, form(fields))).toMatchObject({ status: 400, body: invalid(message) })

    expect(await wire.counts()).toEqual(before)
  })

  it('9: to an ended entity, before the id and the size', async () => {
    const ended = await uploader.freshEntity()
    expectStatus(201, await uploader.upload(ended, { bytes: 'kept', fields: { ...inboxSubject, id: 'kept' } }))
    await wire.kill(ended)

    expect(await uploader.upload(ended, { bytes: 'x'.repeat(2_000), fields: { ...inboxSubject, id: '.x' } })).toMatchObject({
      status: 409,
      body: refusal('NOT_RUNNING', 'Entity is not accepting writes'),
    })
    expect((await uploader.download(ended, 'kept')).bytes.toString()).toBe('kept')
    expect((await uploader.remove(ended, 'kept')).status).toBe(409)
  })

  it('12: up to the limit is taken, one byte more is not, and much more is cut off', async () => {
    expect((await uploader.upload(url, { bytes: 'x'.repeat(1_000) })).status).toBe(201)
    for (const bytes of [1_001, 3_000_000])
      expect(await uploader.upload(url, { bytes: 'x'.repeat(bytes) })).toMatchObject({
        status: 413,
        body: invalid('Attachment exceeds maximum size of 1000 bytes'),
      })
  })

  it('12: much more than the limit to an ended entity is refused for its end', async () => {
    const ended = await uploader.freshEntity()
    await wire.kill(ended)

    expect((await uploader.upload(ended, { bytes: 'x'.repeat(3_000_000) })).status).toBe(409)
  })

  it.each([
    [{ role: 'other' }, 'invalid attachment role'],
    [{ meta: '[]', id: '.x' }, 'attachment meta must be an object'],
    [{ subject: '[]' }, 'attachment subject must be an object'],
    [{ subjectType: 'other' }, 'invalid attachment subject type'],
    [{ filename: 'x'.repeat(1_025) }, 'attachment filename must be at most 1024 bytes'],
    [{ id: '.x' }, 'attachment id must not be empty, start with ".", or contain forward slashes'],
    [{ subject: '{"type":"inbox","key":""}' }, 'attachment subject key is required'],
  ])('12: much more than the limit is refused for the fields that came before it: %j', async (before, message) => {
    const sent = form(before, false)
    sent.append('file', new Blob(['x'.repeat(3_000_000)]), 'x.txt')

    expect(await uploader.post(url, sent)).toMatchObject({ status: 400, body: invalid(message) })
  })

  it('12: much more than the limit to an ended entity is refused for its end before its id', async () => {
    const ended = await uploader.freshEntity()
    await wire.kill(ended)
    const sent = form({ id: '.x' }, false)
    sent.append('file', new Blob(['x'.repeat(3_000_000)]), 'x.txt')

    expect((await uploader.post(ended, sent)).status).toBe(409)
  })

  it('whose manifest row lies about its length is never answered with more than it says', async () => {
    const holder = await uploader.freshEntity()
    expectStatus(201, await uploader.upload(holder, { bytes: 'hello', fields: { ...inboxSubject, id: 'a' } }))
    const path = `/_electric/entities${holder}/attachments/a`
    for (const byteLength of [0, 3, 100]) {
      await wire.sql(
        `UPDATE projections SET value = jsonb_set(value::jsonb, '{byteLength}', $2::jsonb)::text WHERE entity_url = $1`,
        holder,
        String(byteLength),
      )
      const outcome = await wire.askRaw('GET', path).then(
        ({ status }) => status,
        () => 'cut off',
      )
      expect([500, 'cut off']).toContain(outcome)
    }
    for (const byteLength of [-1, 1.5, '"x"']) {
      await wire.sql(
        `UPDATE projections SET value = jsonb_set(value::jsonb, '{byteLength}', $2::jsonb)::text WHERE entity_url = $1`,
        holder,
        String(byteLength),
      )
      expect((await wire.askRaw('GET', path)).text).toBe('hello')
    }
  })

  it('keeps the name that it is sent with, folders and all', async () => {
    const { body } = expectStatus(201, await uploader.upload(url, { name: 'dir/x%22.png' }))

    expect(body).toMatchObject({ attachment: { filename: 'dir/x%22.png' } })
  })

  it.each([
    ['plain', 'x'.repeat(1_024)],
    ['escaped', '😀'.repeat(256)],
  ])('may have a name and a type as long as they may be, and is downloaded: %s', async (_, filename) => {
    const fields = { ...inboxSubject, filename, mimeType: `a/${'x'.repeat(253)}` }
    const { body } = expectStatus(201, await uploader.upload(url, { fields }))

    const { status, headers } = await uploader.download(url, (body as { attachment: { id: string } }).attachment.id)

    expect([status, headers.get('content-type')]).toEqual([200, fields.mimeType])
    expect(headers.get('content-disposition')).toMatch(new RegExp(`''${encodeURIComponent(filename)}$`))
  })

  it.each([
    [{ name: 'x'.repeat(1_025) }, 'attachment filename must be at most 1024 bytes'],
    [{ type: `a/${'x'.repeat(254)}` }, 'attachment mimeType must be at most 255 characters'],
  ])('whose file part has too long a name or type is refused for it, before the state of its entity', async (part, message) => {
    const ended = await uploader.freshEntity()
    await wire.kill(ended)

    expect(await uploader.upload(ended, part)).toMatchObject({ status: 400, body: invalid(message) })
  })

  it('whose fields come after the file, blank ones absent, is understood like any other', async () => {
    const { body } = expectStatus(
      201,
      await uploader.post(url, form({ ...inboxSubject, role: ' output ', id: '  ', meta: 'null', filename: 'né"w.txt' })),
    )

    const { attachment } = body as { attachment: { id: string } & Record<string, unknown> }
    expect(attachment).toMatchObject({ role: 'output', id: expect.stringMatching(/^[0-9a-f-]{36}$/), filename: 'né"w.txt' })
    expect(attachment).not.toHaveProperty('meta')
    expect((await uploader.download(url, attachment.id)).headers.get('content-disposition')).toBe(
      `attachment; filename="n__w.txt"; filename*=UTF-8''n%C3%A9%22w.txt`,
    )
  })

  it('may have an id that must be escaped in its path', async () => {
    const id = 'né %41?#.png'
    const { body } = expectStatus(201, await uploader.upload(url, { fields: { ...inboxSubject, id } }))

    expect(body).toMatchObject({ attachment: { id, streamPath: `${url}/attachments/${encodeURIComponent(id)}` } })
    expect((await uploader.download(url, encodeURIComponent(id))).bytes.toString()).toBe('hello')
    expectStatus(200, await uploader.remove(url, encodeURIComponent(id)))
  })

  it('whose client goes away in the middle leaves nothing', async () => {
    const before = await wire.counts()
    const { hostname, port } = new URL(wire.url)
    const socket = connect({ host: hostname, port: Number(port) })
    const head = `POST /_electric/entities${url}/attachments HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 5000\r\n\r\n`
    await new Promise<void>((resolve) =>
      socket.write(`${head}--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhalf`, () => resolve()),
    )
    socket.resetAndDestroy()

    expect((await uploader.upload(url, { fields: { ...inboxSubject, id: 'after' } })).status).toBe(201)
    await uploader.remove(url, 'after')
    expect((await wire.sql('SELECT count(*)::int AS claims FROM attachment_claims'))[0]).toEqual({ claims: 0 })
    expect(await wire.counts()).toMatchObject({ entities: before.entities })
  })

  it('that a runtime’s manifest row contradicts is not served', async () => {
    const holder = await uploader.freshEntity()
    const row = (value: object) =>
      wire.sql(
        `INSERT INTO projections VALUES ('default', $1, 'manifest', 'attachment:r', $2, '0')
         ON CONFLICT (tenant_id, entity_url, type, key) DO UPDATE SET value = excluded.value`,
        holder,
        JSON.stringify(value),
      )
    const answers = async () => [
      await uploader.wire.ask('GET', `/_electric/entities${holder}/attachments/r`),
      await uploader.remove(holder, 'r'),
    ]

    await row({ kind: 'child' })
    for (const answer of await answers()) expect(answer).toMatchObject({ status: 404, body: refusal('NOT_FOUND', 'Attachment not found') })
    await row({ kind: 'attachment', status: 'pending', streamPath: '/elsewhere' })
    expect((await answers()).map(({ body }) => body)).toEqual([
      invalid('Attachment is not complete'),
      invalid('Attachment stream path does not match its entity and id'),
    ])
    await row({ kind: 'attachment', status: 'complete', streamPath: '/elsewhere' })
    expect((await answers()).map(({ body }) => body)).toEqual([
      invalid('Attachment stream path does not match its entity and id'),
      invalid('Attachment stream path does not match its entity and id'),
    ])
  })

  it('whose id is malformed in a removal is refused for it after the permission and the state of its entity (spec/03 §10.3)', async () => {
    const ended = await uploader.freshEntity('user:sam')
    expect(await uploader.remove(ended, '%zz', 'user:kim')).toMatchObject({ status: 401 })
    expect(await uploader.remove(ended, '%zz', 'user:sam')).toMatchObject({
      status: 400,
      body: invalid('Malformed percent-encoding in the path'),
    })
    await wire.kill(ended, 'user:sam')
    expect(await uploader.remove(ended, '%zz', 'user:sam')).toMatchObject({
      status: 409,
      body: refusal('NOT_RUNNING', 'Entity is not accepting writes'),
    })
    expect(await uploader.remove('/principal/user:sam', '%zz', 'user:sam')).toMatchObject({
      status: 400,
      body: invalid('Principal entities are built in and cannot be stripped of attachments'),
    })
  })

  it('never fails, whatever the form says; ids that cannot be are refused', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(
          fc.constantFrom('id', 'subject', 'subjectType', 'subjectKey', 'role', 'meta', 'mimeType', 'filename', '__proto__'),
          fc.string({ unit: 'binary' }),
        ),
        async (fields) => {
          const { status } = await uploader.post(url, form(fields))
          expect([201, 400, 409]).toContain(status)
        },
      ),
      { numRuns: 100 },
    )
    await refusesAll(
      wire,
      fc.record({ method: fc.constantFrom('GET', 'DELETE'), id: oddSegment }),
      async ({ method, id }) => await wire.askRaw(method, `/_electric/entities${url}/attachments/${id}`),
    )
  })
})
