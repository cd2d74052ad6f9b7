/** `/__ds/subscriptions/*`, and its second view (spec/06 §3). */
import type { FastifyInstance, HTTPMethods } from 'fastify'
import { errors } from '../../domain/errors.js'
import type { SubscriptionAccess } from '../../entities/subscription-access.js'
import { renderPlainError } from '../errors.js'
import type { Parts } from '../parts.js'
import { editingRoutes } from './editing.js'
import { type AtSubscription, idOf, views } from './views.js'
import { workingRoutes } from './working.js'

export interface SubscriptionRouteParts extends Parts {
  readonly access: SubscriptionAccess
}

const anyMethod = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const

/** Known paths, and the methods that they have. */
const known: readonly (readonly [below: string, methods: readonly HTTPMethods[]])[] = [
  ['/:id', ['GET', 'PUT', 'DELETE']],
  ['/:id/streams', ['POST']],
  ['/:id/streams/*', ['DELETE']],
  ['/:id/claim', ['POST']],
  ['/:id/callback', ['POST']],
  ['/:id/ack', ['POST']],
  ['/:id/release', ['POST']],
]

export function subscriptionRoutes(app: FastifyInstance, parts: SubscriptionRouteParts): void {
  app.register((scope, _options, done) => {
    scope.setErrorHandler(renderPlainError)
    for (const view of views) {
      editingRoutes(scope, view, parts)
      workingRoutes(scope, view, parts)
      for (const [below, methods] of known) otherMethods(scope, `${view.prefix}/subscriptions${below}`, methods)
      for (const url of [view.prefix, `${view.prefix}/*`]) nothingElse(scope, url)
    }
    done()
  })
}

function otherMethods(app: FastifyInstance, url: string, methods: readonly HTTPMethods[]): void {
  app.route<AtSubscription>({
    method: anyMethod.filter((method) => !methods.includes(method)),
    url,
    config: { undocumented: 'answers 405' },
    handler: async (request, reply) => {
      idOf(request.params) // 404
      return await reply
        .code(405)
        .headers({ 'content-type': 'text/plain', allow: [...methods, 'OPTIONS'].join(', ') })
        .send('Method not allowed')
    },
  })
}

function nothingElse(app: FastifyInstance, url: string): void {
  app.route({
    method: [...anyMethod],
    url,
    config: { undocumented: 'answers 404' },
    handler: async () => {
      throw errors.CONTROL_ROUTE_NOT_FOUND()
    },
  })
}
