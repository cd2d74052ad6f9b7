import fc from 'fast-check'
import { z } from 'zod'
import { errors } from '../../src/domain/errors.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { acceptAnyContentType, body } from '../../src/http/body.js'
import { shellOnly, type TestServer } from './support/server.js'

const open = body(
  z.looseObject({
    tags: z.record(z.string(), z.string()).optional(),
    mode: z.union([z.literal('a'), z.literal('b')]).optional(),
    name: z.string().min(1).optional(),
    targets: z.array(z.unknown()).min(1).max(1).optional(),
    limit: z.number().optional(),
  }),
)
const closed = body(z.strictObject({ needed: z.string() }), { intoRows: true })

let server: TestServer

beforeAll(async () => {
  server = await shellOnly({ limits: { ...defaultLimits, maxJsonBodyBytes: 10_000, maxJsonDepth: 20 } }, (app) => {
    app.register((scope, _options, done) => {
      acceptAnyContentType(scope)
      scope.addHook('onRequest', async (request) => {
        delete request.raw.headers['content-type']
      })
      scope.post('/_electric/test/open', async (request) => ({ got: open(request) }))
      scope.post('/_electric/test/closed', async (request) => ({ got: closed(request) }))
      scope.post('/_electric/test/failing', async () => {
        throw new Error('secret inner text')
      })
      scope.post('/_electric/test/busy', async () => {
        throw errors.OVERLOADED('appends').retryAfter(2)
      })
      done()
    })
  })
})
afterAll(async () => await server.close())

async function post(route: string, sent: string | Uint8Array<ArrayBuffer>, contentType: string | null = 'application/json') {
  const request = {
    method: 'POST',
    body: new Blob([sent]),
    headers: new Headers(contentType === null ? [] : [['content-type', contentType]]),
  }
  const response = await fetch(`${server.url}/_electric/test/${route}`, request)
  return { status: response.status, body: await response.json(), headers: response.headers }
}

const refused = (details: unknown) => ({
  error: { code: 'INVALID_REQUEST', message: 'Request body does not match API schema', details },
})

describe('a JSON body', () => {
  it.each(['text/plain', 'application/x-www-form-urlencoded', 'not a content type', null])(
    'is parsed whatever the content type: %s',
    async (type) => {
      expect(await post('open', '{"a":1}', type)).toMatchObject({ status: 200, body: { got: { a: 1 } } })
    },
  )

  it('that is blank counts as {}', async () => {
    expect((await post('open', ' \n')).body).toEqual({ got: {} })
    expect((await post('open', '')).body).toEqual({ got: {} })
  })

  it.each([
    ['unparsable', Buffer.from('{"a":')],
    ['invalid UTF-8', Buffer.from([0x22, 0xff, 0x22])],
  ])('that is %s is refused', async (_why, sent) => {
    expect(await post('open', sent)).toMatchObject({
      status: 400,
      body: { error: { code: 'INVALID_REQUEST', message: 'Invalid JSON body' } },
    })
  })

  it.each([
    ['[]', [{ path: '/', message: 'must be object' }]],
    ['null', [{ path: '/', message: 'must be object' }]],
    ['{"tags":{"p":1}}', [{ path: '/tags/p', message: 'must be string' }]],
    ['{"limit":"1"}', [{ path: '/limit', message: 'must be number' }]],
    ['{"name":""}', [{ path: '/name', message: 'must NOT have fewer than 1 characters' }]],
    ['{"targets":[]}', [{ path: '/targets', message: 'must NOT have fewer than 1 items' }]],
    ['{"targets":[1,2]}', [{ path: '/targets', message: 'must NOT have more than 1 items' }]],
    [
      '{"mode":"c"}',
      [
        { path: '/mode', message: 'must be equal to constant' },
        { path: '/mode', message: 'must be equal to constant' },
        { path: '/mode', message: 'must match a schema in anyOf' },
      ],
    ],
  ])('names its violations as Ajv does: %s', async (sent, details) => {
    expect(await post('open', sent)).toMatchObject({ status: 400, body: refused(details) })
  })

  it('collects all violations, a missing member under the pointer of its object', async () => {
    expect((await post('closed', '{"x":1}')).body).toEqual(
      refused([
        { path: '/', message: "must have required property 'needed'" },
        { path: '/', message: 'must NOT have additional properties' },
      ]),
    )
  })

  it('keeps members that an open schema does not name', async () => {
    expect((await post('open', '{"other":{"deep":[1]}}')).body).toEqual({ got: { other: { deep: [1] } } })
  })

  it('beyond the limit is 413', async () => {
    expect(await post('open', JSON.stringify('a'.repeat(10_000)))).toMatchObject({
      status: 413,
      body: { error: { code: 'INVALID_REQUEST', message: 'Request body exceeds 10000 bytes' } },
    })
  })

  it('nested too deeply is refused', async () => {
    expect((await post('open', `{"a":${'['.repeat(20)}${']'.repeat(20)}}`)).status).toBe(400)
    expect((await post('open', `{"a":${'['.repeat(19)}${']'.repeat(19)}}`)).status).toBe(200)
  })

  it('with a number beyond all numbers is refused', async () => {
    expect((await post('open', '{"a":1e400}')).status).toBe(400)
  })

  it.each(['{"needed":"\\u0000"}', '{"needed":"\\ud800"}', '{"needed":"a","\\u0000":1}'])(
    'bound for a database row is refused when Postgres cannot store it: %s',
    async (sent) => {
      expect((await post('closed', sent)).status).toBe(400)
    },
  )

  it('is answered 200 or 400, whatever JSON it holds', async () => {
    await fc.assert(
      fc.asyncProperty(fc.json({ maxDepth: 30 }), async (text) => {
        expect([200, 400]).toContain((await post('open', text)).status)
      }),
      { numRuns: 100 },
    )
  })

  it('is answered 200 or 400, whatever bytes it holds', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        expect([200, 400]).toContain((await post('open', Buffer.from(bytes))).status)
      }),
      { numRuns: 100 },
    )
  })
})

describe('a failure', () => {
  it('that nobody expected is a 500 without inner text', async () => {
    expect(await post('failing', '{}')).toMatchObject({
      status: 500,
      body: { error: { code: 'INTERNAL_SERVER_ERROR', message: 'Internal server error' } },
    })
  })

  it('that may be repeated says when', async () => {
    const { status, headers } = await post('busy', '{}')

    expect(status).toBe(503)
    expect(headers.get('retry-after')).toBe('2')
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8')
  })
})
