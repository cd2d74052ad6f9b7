import { connect } from 'node:net'
import fc from 'fast-check'
import { type Answer, Wire } from '../support/wire.js'

const bodyLimitBytes = 64 * 1024

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start({ env: { ELECTRIC_AGENTS_MAX_JSON_BODY_BYTES: String(bodyLimitBytes) } })
  await wire.spawned('/chat/a', { tags: { a: '1' } })
})
afterAll(async () => await wire.stop())

const at = (path: string) => `/_electric/entities${path}`

/** Requests whose body is all that is wrong with them. */
const bodyRoutes = [
  { name: 'spawn', method: 'PUT', path: at('/chat/fresh') },
  { name: 'send', method: 'POST', path: at('/chat/a/send') },
  { name: 'signal', method: 'POST', path: at('/chat/a/signal') },
] as const
type BodyRoute = (typeof bodyRoutes)[number]

const isRefusal = ({ status }: Pick<Answer, 'status'>): boolean => (status >= 400 && status < 500) || status === 501

async function expectRefused(request: () => Promise<Answer>): Promise<void> {
  const answer = await request()
  if (!isRefusal(answer)) throw new Error(`answered ${answer.status}: ${answer.text.slice(0, 300)}`)
}

/** Every request drawn is refused with a 4xx (or a documented 501), and after all of them nothing has changed. */
async function refusesAll<Drawn>(drawn: fc.Arbitrary<Drawn>, request: (drawn: Drawn) => Promise<Answer>, numRuns = 60): Promise<void> {
  const before = await wire.counts()
  await fc.assert(
    fc.asyncProperty(drawn, async (value) => await expectRefused(() => request(value))),
    { numRuns },
  )
  expect(await wire.counts()).toEqual(before)
  expect((await wire.get('/chat/a')).status).toBe(200)
}

const oddSegment = fc.oneof(
  fc.constantFrom(
    '%zz',
    '%',
    '%2F',
    '%2f..%2f',
    '%00',
    '%E0%A4%A',
    '%ff%fe',
    '..;',
    '%252e',
    '__proto__',
    'constructor',
    'toString',
    '_x',
    '_entities',
  ),
  fc.constantFrom(
    '*',
    'a*',
    '**',
    '~',
    "'",
    '"',
    '$(id)',
    '`',
    '{}',
    '[0]',
    '\\',
    '|',
    '^',
    'main',
    'principal',
    'null',
    'undefined',
    '-1',
    '1e999',
  ),
  fc.string({ minLength: 1, maxLength: 12 }).map((text) => encodeURIComponent(text.toWellFormed())),
  fc.integer({ min: 1_001, max: 6_000 }).map((length) => 'a'.repeat(length)),
)

describe('hostile paths', () => {
  const actions = ['', '/send', '/signal', '/nothing', '/send/more'] as const

  it('of unknown types are refused on every route', async () => {
    const drawn = fc.record({
      method: fc.constantFrom('PUT', 'GET', 'DELETE', 'POST', 'PATCH'),
      type: oddSegment.map((segment) => (segment === 'principal' ? 'principals' : segment)),
      id: oddSegment,
      action: fc.constantFrom(...actions),
    })

    await refusesAll(drawn, async ({ method, type, id, action }) => await wire.askRaw(method, at(`/${type}/${id}${action}`), '{}'), 150)
  })

  it('of ids that do not exist are refused on every route but spawn', async () => {
    const drawn = fc.record({ method: fc.constantFrom('GET', 'DELETE', 'POST'), id: oddSegment, action: fc.constantFrom(...actions) })

    await refusesAll(
      drawn,
      async ({ method, id, action }) => await wire.askRaw(method, at(`/chat/${id}${action}`), '{"payload":1,"signal":"SIGKILL"}'),
      100,
    )
  })

  it('of ids that cannot be are refused by spawn', async () => {
    const impossible = fc.oneof(
      oddSegment.map((segment) => `${segment}*`),
      fc.constantFrom('.', '..', '%2e', '%2E%2e', '.%2E'),
      fc.integer({ min: 996, max: 8_000 }).map((length) => 'a'.repeat(length)),
      fc.constantFrom('a/b', 'a/', '/a', 'a//b').map((tail) => `x/${tail}`),
    )

    await refusesAll(impossible, async (id) => await wire.askRaw('PUT', at(`/chat/${id}`), '{}'))
  })

  it('of principals are refused, and make none', async () => {
    const key = fc.oneof(
      oddSegment,
      fc.constantFrom('user', ':', 'user:', 'user%3A', 'entity%3Asam', 'user%3Aa%2Fb', 'user%3A%00', 'user:a*', 'USER:sam'),
    )

    await refusesAll(key, async (id) => await wire.askRaw('GET', at(`/principal/${id}`)))
  })
})

const notA = {
  object: fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null), fc.array(fc.integer())),
  string: fc.oneof(fc.integer(), fc.boolean(), fc.constant(null), fc.constant({}), fc.array(fc.string())),
  number: fc.oneof(fc.string(), fc.boolean(), fc.constant(null), fc.constant([])),
  array: fc.oneof(fc.string(), fc.integer(), fc.constant(null), fc.constant({})),
}
const brokenPolicy = fc.oneof(
  notA.object,
  fc.constantFrom({}, { targets: {} }, { targets: [] }, { targets: [{}, {}] }, { targets: [{ type: 'webhook', url: '' }] }),
  fc.constantFrom(
    { targets: [{ type: 'runner' }] },
    { targets: [{ type: 'webhook', url: 'http://a', extra: 1 }] },
    { targets: [{ type: 'x' }], more: 1 },
  ),
)
const wrongMembers: Readonly<Record<BodyRoute['name'], Readonly<Record<string, fc.Arbitrary<unknown>>>>> = {
  spawn: {
    args: notA.object,
    tags: fc.oneof(notA.object, fc.dictionary(fc.string(), notA.string, { minKeys: 1 })),
    parent: fc.oneof(notA.string, fc.string({ minLength: 1 })),
    dispatch_policy: brokenPolicy,
    sandbox: notA.object,
    initialMessageType: notA.string,
    grants: notA.array,
    wake: notA.object,
  },
  send: {
    key: notA.string,
    type: notA.string,
    mode: fc.oneof(notA.string, fc.constantFrom('', 'IMMEDIATE', 'constructor', '__proto__')),
    position: notA.string,
    afterMs: notA.number,
    from: fc.oneof(notA.string, fc.string()),
    from_principal: fc.oneof(notA.string, fc.string()),
    from_agent: fc.oneof(notA.string, fc.string()),
  },
  signal: { signal: fc.oneof(notA.string, fc.constantFrom('', 'sigkill', 'SIGHUP ', 'constructor')), reason: notA.string },
}
const valid = { spawn: {}, send: { payload: 1 }, signal: { signal: 'SIGKILL' } } as const

describe.each(bodyRoutes)('hostile bodies of $name', ({ name, method, path }) => {
  it('that are no JSON in UTF-8 are refused', async () => {
    const bytes = fc
      .uint8Array({ minLength: 1, maxLength: 64 })
      .map((tail) => Buffer.concat([Buffer.from('{"payload":"'), tail, Buffer.from([0xff])]))
    const text = fc
      .constantFrom('{', '[', 'nul', '{"a":1,}', "{'a':1}", '{"a":1}{}', '\u{0}', '{"payload":NaN}', '{"payload":01}', '\ufeff\ufeff{}')
      .map((sent) => Buffer.from(sent))

    await refusesAll(fc.oneof(bytes, text), async (body) => await wire.askRaw(method, path, body))
  })

  it('that are no objects are refused', async () => {
    const scalar = fc.oneof(
      fc.jsonValue({ maxDepth: 1 }).filter((value) => typeof value !== 'object' || Array.isArray(value)),
      fc.constant(null),
    )

    await refusesAll(scalar, async (value) => await wire.ask(method, path, JSON.stringify(value)))
  })

  it('that are deep, or hold numbers beyond all numbers, are refused', async () => {
    const deep = fc.integer({ min: 201, max: 30_000 }).map((depth) => '['.repeat(depth) + ']'.repeat(depth))
    const deepObject = fc.integer({ min: 201, max: 8_000 }).map((depth) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`)
    const huge = fc.constantFrom('1e400', '-1e999', `1${'0'.repeat(400)}`)
    const member = fc.constantFrom('payload', 'initialMessage', 'args', 'unknown', '__proto__')

    await refusesAll(fc.record({ member, value: fc.oneof(deep, deepObject, huge) }), async ({ member: name, value }) => {
      const inside = name === 'args' && !value.startsWith('{') ? `{"x":${value}}` : value
      return await wire.ask(method, path, `{"signal":"SIGINT","${name}":${inside}}`)
    })
  })

  it('with a member of the wrong type are refused', async () => {
    const members = Object.entries(wrongMembers[name]).map(([member, wrong]) => wrong.map((value) => ({ ...valid[name], [member]: value })))

    await refusesAll(fc.oneof(...members), async (body) => await wire.ask(method, path, body), 120)
  })

  it('beyond the limit are 413, whatever they hold', async () => {
    const drawn = fc.record({ extra: fc.integer({ min: 1, max: 100_000 }), fill: fc.constantFrom('a', ' ', '[', '{', '\0') })

    await refusesAll(
      drawn,
      async ({ extra, fill }) => {
        const answer = await wire.ask(method, path, fill.repeat(bodyLimitBytes + extra))
        expect(answer.status).toBe(413)
        return answer
      },
      15,
    )
  })
})

describe('hostile callers', () => {
  it('are refused on every route', async () => {
    const header = fc.oneof(
      fc.string({ maxLength: 40, unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)) }),
      fc.constantFrom(
        'user:',
        ':',
        '/principal/',
        '/principal/%zz',
        'user:a/b',
        'system:root',
        'user:a*',
        'constructor:x',
        '/principal/user%3A%00',
      ),
      fc.integer({ min: 900, max: 6_000 }).map((length) => `user:${'a'.repeat(length)}`),
    )
    const route = fc.constantFrom(
      ...bodyRoutes,
      { name: 'get', method: 'GET', path: at('/chat/a') } as const,
      { name: 'kill', method: 'DELETE', path: at('/chat/a') } as const,
    )

    await refusesAll(
      fc.record({ as: header, route }),
      async ({ as, route: { method, path } }) =>
        await wire.ask(method, path, method === 'GET' ? undefined : '{"payload":1,"signal":"SIGKILL"}', { as: as || 'none' }),
      100,
    )
  })
})

describe('hostile lists', () => {
  it('are answered with an array or a 400', async () => {
    const before = await wire.counts()
    const name = fc.constantFrom('type', 'status', 'parent', 'created_by', 'limit', 'cursor', '__proto__', 'unknown')
    const value = fc.oneof(
      fc.constantFrom('%00', '%ff', '%zz', '-1', '0', '1001', '1e3', '9'.repeat(50), "' OR 1=1 --", '%ED%A0%80'),
      fc.string().map((text) => encodeURIComponent(text.toWellFormed())),
    )

    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(name, value), { maxLength: 4 }), async (pairs) => {
        const { status, body } = await wire.askRaw(
          'GET',
          `/_electric/entities?${pairs.map(([key, text]) => `${key}=${encodeURI(text).replaceAll('%25', '%')}`).join('&')}`,
        )
        if (status !== 400) expect([status, Array.isArray(body)]).toEqual([200, true])
      }),
      { numRuns: 100 },
    )
    expect(await wire.counts()).toEqual(before)
  })
})

describe('request lines that are no HTTP', () => {
  it.each([
    [
      'raw bytes in the path',
      Buffer.concat([Buffer.from('GET /_electric/entities/chat/'), Buffer.from([0xff, 0xfe, 0x80]), Buffer.from(' HTTP/1.1')]),
    ],
    ['U+0000 in the path', Buffer.from('GET /_electric/entities/chat/\0 HTTP/1.1')],
    ['a space in the path', Buffer.from('GET /_electric/entities/chat/a b HTTP/1.1')],
    ['an unknown method', Buffer.from('GRAB /_electric/entities/chat/a HTTP/1.1')],
    ['an authority of its own', Buffer.from('PUT http://elsewhere/_electric/entities/nothing/a HTTP/1.1')],
  ])('are a 4xx, and the server lives on: %s', async (_, line) => {
    const status = await statusOfLine(line)

    expect(status).toBeGreaterThanOrEqual(400)
    expect(status).toBeLessThan(500)
    expect((await wire.get('/chat/a')).status).toBe(200)
  })
})

/** Sends a request line as it is; the status of the answer. */
async function statusOfLine(line: Buffer): Promise<number> {
  const { hostname, port } = new URL(wire.url)
  const socket = connect(Number(port), hostname)
  socket.write(Buffer.concat([line, Buffer.from('\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')]))
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0)
}
