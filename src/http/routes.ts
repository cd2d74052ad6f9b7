/** Every JSON route of the server, one line a resource. Register new resources here. */
import type { FastifyInstance } from 'fastify'
import type { SubscriptionAccess } from '../entities/subscription-access.js'
import { deadLetterRoutes } from './dead-letters.js'
import { entityRoutes } from './entities/routes.js'
import { entityTypeRoutes } from './entity-types/routes.js'
import { jwksRoutes } from './jwks.js'
import { laterFeatures } from './later.js'
import type { Parts } from './parts.js'
import { runnerClaimRoute } from './runners/claim.js'
import { runnerRoutes } from './runners/routes.js'
import { subscriptionRoutes } from './subscriptions/routes.js'
import { wakeCallbackRoute } from './wake-callbacks.js'

export function jsonRoutes(app: FastifyInstance, parts: Parts, access: SubscriptionAccess): void {
  entityTypeRoutes(app, parts)
  entityRoutes(app, parts)
  runnerRoutes(app, parts)
  jwksRoutes(app, parts)
  runnerClaimRoute(app, parts)
  wakeCallbackRoute(app, parts)
  deadLetterRoutes(app, parts)
  subscriptionRoutes(app, { ...parts, access })
  laterFeatures(app)
}
