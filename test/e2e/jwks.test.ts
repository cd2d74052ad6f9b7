/** The key set over HTTP, as the receiver in a runtime asks for it. */
import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { eventually } from '../support/eventually.js'
import { House } from '../support/house.js'
import { Wire } from '../support/wire.js'

const views = ['/__ds/jwks.json', '/v1/stream/__ds/jwks.json'] as const
const key = {
  kty: 'OKP',
  crv: 'Ed25519',
  x: expect.stringMatching(/^[\w-]{43}$/),
  kid: expect.stringMatching(/^ds_[\w-]{43}$/),
  use: 'sig',
  alg: 'EdDSA',
}

const keySetAt = async (url: string): Promise<{ readonly keys: readonly { readonly x: string }[] }> =>
  (await (await fetch(url + views[1])).json()) as { keys: { x: string }[] }

describe('the key set', () => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start()
  })
  afterAll(async () => await wire.stop())

  const everywhere = () => wire.house.urls.flatMap((url) => views.map((view) => url + view))

  it('is the same at every replica and in both views', async () => {
    const accept = { accept: 'application/jwk-set+json, application/json' }
    const answers = await Promise.all(everywhere().map(async (url) => await fetch(url, { headers: accept })))

    for (const answer of answers) {
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-type')).toBe('application/jwk-set+json')
      expect(answer.headers.get('cache-control')).toBe('public, max-age=300')
      expect(answer.headers.get('access-control-allow-origin')).toBe('*')
    }
    const sets = await Promise.all(answers.map(async (answer) => await answer.json()))
    expect(sets).toEqual(sets.map(() => sets[0]))
    expect(sets[0]).toEqual({ keys: [key] })
  })

  it('is shown whatever the caller says of itself and asks for', async () => {
    const headers = { authorization: 'Bearer x', 'content-type': 'nonsense' }
    for (const view of views)
      expect((await wire.ask('GET', `${view}?offset=-1&live=sse`, undefined, { as: 'nonsense', headers })).body).toEqual({ keys: [key] })
  })

  it('answers HEAD and preflights', async () => {
    for (const view of views) {
      const head = await wire.ask('HEAD', view)
      expect([head.status, head.headers.get('content-type'), head.text]).toEqual([200, 'application/jwk-set+json', ''])
      expect((await wire.ask('OPTIONS', view)).status).toBe(204)
    }
  })

  it('takes no other method, whatever is sent with it, and changes nothing', async () => {
    const [before, counts] = [await wire.ask('GET', views[0]), await wire.counts()]

    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('POST', 'PUT', 'PATCH', 'DELETE'),
        fc.constantFrom(...views),
        fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.constantFrom('{', '', 'x'.repeat(200_000))),
        fc.constantFrom('application/json', 'nonsense', 'multipart/form-data', ''),
        async (method, view, body, contentType) => {
          const answer = await wire.ask(method, view, body, { headers: contentType === '' ? {} : { 'content-type': contentType } })
          expect([answer.status, answer.text, answer.headers.get('content-type')]).toEqual([405, 'Method not allowed', 'text/plain'])
          expect(answer.headers.get('allow')).toBe('GET, HEAD, OPTIONS')
        },
      ),
      { numRuns: 60 },
    )

    expect(await wire.counts()).toEqual(counts)
    expect((await wire.ask('GET', views[0])).body).toEqual(before.body)
  })

  it('opens no other path beside it', async () => {
    for (const path of ['/__ds/jwks.json/', '/__ds/jwks.json/x', '/__ds/jwks', '/__ds/JWKS.json', '/__ds/jwks%2Ejson'])
      expect([path, (await wire.askRaw('GET', path)).status]).toEqual([path, 404])
    for (const path of ['/x/../__ds/jwks.json', '//__ds/jwks.json', '/v1/stream/x/../__ds/jwks.json'])
      expect([path, (await wire.askRaw('GET', path)).text]).toEqual([path, expect.not.stringContaining('kid')])
  })

  it('outlives its processes, and follows a rotation within seconds', async () => {
    const before = (await wire.ask('GET', views[0])).body
    await wire.house.kill('server')
    await wire.house.restart('server')
    expect((await wire.ask('GET', views[0], undefined, { at: wire.house.url })).body).toEqual(before)

    await wire.sql(`UPDATE signing_keys SET created_at = created_at - interval '91 days'`)

    await eventually(async () => (await keySetAt(wire.house.url)).keys.length === 2, { withinMs: 30_000 })
  })
})

describe('the key set of a server in production', () => {
  it('is shown to callers without a principal, unlike all beside it; it is that of the configured key, also after a restart', async () => {
    const key = generateKeyPairSync('ed25519').privateKey
    const pem = key.export({ type: 'pkcs8', format: 'pem' }).toString().replaceAll('\n', '\\n')
    const env = { NODE_ENV: 'production', ELECTRIC_INSECURE: undefined, WEBHOOK_SIGNING_PRIVATE_KEY: pem }

    await House.with({ env }, async (house) => {
      const before = await keySetAt(house.url)
      await house.restart('server')

      expect(before.keys.map(({ x }) => x)).toEqual([key.export({ format: 'jwk' }).x])
      expect(await keySetAt(house.url)).toEqual(before)
      for (const beside of ['/__ds/jwks', '/__ds/jwks.json/', '/v1/stream/__ds/jwks', '/_electric/entities'])
        expect([beside, (await fetch(house.url + beside)).status]).toEqual([beside, 401])
      expect(await house.logs()).not.toContain(pem.slice(40, 80))
    })
  })
})
