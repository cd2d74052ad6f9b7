/** Whatever a caller sends to the stream routes, the answer is never a 5xx, carries CORS, and what was refused changed nothing (property tests). */
import fc from 'fast-check'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type RawRequest, sendRaw } from '../../support/raw-request.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'

let fresh: FreshDatabase
let app: StreamApp

beforeAll(async () => {
  fresh = await freshDatabase()
  app = await startStreamApp(fresh.url, { longPollTimeoutMs: 50, sseConnectionMs: 50, maxStreamBodyBytes: 100_000 })
})

afterAll(async () => {
  await app.stop()
  await fresh.drop()
})

/** Few streams, so that requests meet. */
const path = fc.oneof(
  fc.constantFrom('/s/1', '/s/2', '/s/1/', '/s/%31', '/s/../s/1', '//s/1', '/s/%zz', '/s/%00', '/__proto__', '/s/%F0%9F', '/'),
  fc.webPath().map((text) => (text.startsWith('/') ? text : `/${text}`)),
)
const offsetText = fc.constantFrom(
  '-1',
  'now',
  '',
  '0_0',
  '0000000000000000_0000000000000001',
  '9999999999999999_9999999999999999',
  '-2',
  '1e9',
  'NaN',
  '%00',
  '..',
)
const number = fc.oneof(
  fc.constantFrom('0', '1', '-1', '01', '1.5', '1e3', '', '9007199254740991', '9007199254740992', '99999999999999999999'),
  fc.integer({ min: 0, max: 3 }).map(String),
)
const instant = fc.constantFrom(
  '2099',
  '2099-01-01T00:00:00Z',
  '0000-01-01T00:00:00Z',
  '9999-12-31T23:59:59Z',
  '2020-13-01T00:00:00Z',
  'x',
  '',
)
const headers = fc.record(
  {
    'content-type': fc.constantFrom('application/json', 'text/plain', 'garbage', ';', 'application/json; charset=utf-8', ''),
    'stream-ttl': number,
    'stream-expires-at': instant,
    'stream-closed': fc.constantFrom('true', 'TRUE', 'false', ''),
    'stream-seq': fc.constantFrom('a', 'b', '\u00ff', ''),
    'producer-id': fc.constantFrom('p', '', '\u00e9', '__proto__'),
    'producer-epoch': number,
    'producer-seq': number,
    'stream-forked-from': fc.constantFrom('/s/1', '/s/2', '', 'http://x/s/1', '/s/1?offset=1'),
    'stream-fork-offset': offsetText.filter((text) => text !== '%00'),
    'stream-fork-sub-offset': number,
    'if-none-match': fc.constantFrom('*', '"', 'W/"x"', ''),
  },
  { requiredKeys: [] },
)
const body = fc.oneof(
  fc
    .constantFrom('', '[]', '{', '[[1]]', '{"headers":{"operation":"x"}}', '"\\ud800"', '"\\u0000"', '{"__proto__":{"a":1}}', '1e400')
    .map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
  fc.json().map((text) => Buffer.from(text)),
)
const query = fc.record({ offset: offsetText, live: fc.constantFrom('long-poll', 'sse', 'x', ''), cursor: number }, { requiredKeys: [] })

const request: fc.Arbitrary<RawRequest> = fc
  .record({
    method: fc.constantFrom('GET', 'PUT', 'PUT', 'POST', 'POST', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH'),
    path,
    headers,
    body,
    query,
  })
  .map((sent) => ({
    ...sent,
    path: `${sent.path}?${Object.entries(sent.query)
      .map(([name, value]) => `${name}=${value}`)
      .join('&')}`,
    body: /GET|HEAD|OPTIONS/.test(sent.method) ? Buffer.alloc(0) : sent.body,
  }))

describe('the stream routes', () => {
  it('answer any request with less than 500, and with CORS', async () => {
    await fc.assert(
      fc.asyncProperty(request, async (sent) => {
        const { status, headers: answered } = await sendRaw(app.url, sent)
        expect(status).toBeLessThan(500)
        expect(answered['access-control-allow-origin']).toBe('*')
      }),
      { numRuns: 1_500 },
    )
  })

  it('give back JSON as it was sent, whatever JSON it is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.jsonValue({ stringUnit: 'binary' }), { minLength: 1 }), async (values) => {
        const stream = `/json/${Math.random()}`
        await fetch(app.url + stream, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(values) })
        const text = await (await fetch(app.url + stream)).text()
        expect(text).toBe(JSON.stringify(JSON.parse(JSON.stringify(values))))
      }),
      { numRuns: 200 },
    )
  })

  it.each([
    [
      'a body beyond the limit',
      { method: 'POST', path: '/s/1', headers: { 'content-type': 'text/plain' }, body: Buffer.alloc(100_001) },
      413,
    ],
    [
      'JSON deeper than any stack',
      {
        method: 'PUT',
        path: '/s/deep',
        headers: { 'content-type': 'application/json' },
        body: Buffer.from('['.repeat(49_000) + ']'.repeat(49_000)),
      },
      400,
    ],
    ['a path below /__ds', { method: 'PUT', path: '/__ds/x', headers: {}, body: Buffer.alloc(0) }, 404],
    ['a path below /__ds behind dot segments', { method: 'PUT', path: '/a/../__ds/x', headers: {}, body: Buffer.alloc(0) }, 404],
    ['a preflight of anything', { method: 'OPTIONS', path: '/nothing/here', headers: {}, body: Buffer.alloc(0) }, 204],
    ['another method', { method: 'PATCH', path: '/s/1', headers: {}, body: Buffer.alloc(0) }, 405],
  ])('answer %s', async (_what, sent, status) => {
    expect((await sendRaw(app.url, sent)).status).toBe(status)
  })
})
