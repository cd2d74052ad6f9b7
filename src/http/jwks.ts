/** The key set that receivers of webhooks verify signatures with (spec/06 §5): public, for they send no principal. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { DocumentedAnswer, RouteDocumentation } from './documentation.js'
import type { Parts } from './parts.js'

const contentType = 'application/jwk-set+json'

/** The second view is below the prefix under which the public stream suite looks for it (spec/14 §7.1). */
const views = [
  { url: '/__ds/jwks.json', operation: 'readSigningKeys' },
  { url: '/v1/stream/__ds/jwks.json', operation: 'readSigningKeysOfStreams' },
] as const

export const isJwks = (path: string): boolean => views.some(({ url }) => url === path)

const keySet: DocumentedAnswer = {
  description: 'A JWK set: the key that signs, those that will, and those that did.',
  contentType,
  headers: { 'Cache-Control': '`public, max-age=300`: a key is in the set for longer than that before it signs, and after it did.' },
  schema: z.object({
    keys: z.array(
      z.object({
        kty: z.literal('OKP'),
        crv: z.literal('Ed25519'),
        x: z.string(),
        kid: z.string(),
        use: z.literal('sig'),
        alg: z.literal('EdDSA'),
      }),
    ),
  }),
}
const documented = (operation: string): RouteDocumentation => ({
  operation,
  tag: 'server',
  summary: 'The keys that webhooks are signed with',
  answers: { 200: keySet },
  errors: ['DATABASE_UNAVAILABLE'],
  isPublic: true,
})

export function jwksRoutes(app: FastifyInstance, { signing }: Pick<Parts, 'signing'>): void {
  for (const { url, operation } of views) {
    app.get(url, { config: { documentation: documented(operation) } }, async (_request, reply) => {
      const keys = Buffer.from(JSON.stringify(await signing.jwks())) // bytes, for Fastify gives text a charset
      return await reply.headers({ 'content-type': contentType, 'cache-control': 'public, max-age=300' }).send(keys)
    })
    app.route({
      method: ['POST', 'PUT', 'PATCH', 'DELETE'],
      url,
      config: { undocumented: 'answers 405' },
      onRequest: async (_request, reply) =>
        await reply.code(405).headers({ 'content-type': 'text/plain', allow: 'GET, HEAD, OPTIONS' }).send('Method not allowed'), // its body is not read
      handler: async () => undefined,
    })
  }
}
