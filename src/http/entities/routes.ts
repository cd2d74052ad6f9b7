/** Entities over HTTP, one file a route. */
import type { FastifyInstance } from 'fastify'
import type { Parts } from '../parts.js'
import { collectionRoute } from './collections.js'
import { forkRoute } from './fork.js'
import { getRoute } from './get.js'
import { inboxRoutes } from './inbox.js'
import { listRoute } from './list.js'
import { sendRoute } from './send.js'
import { signalRoutes } from './signal.js'
import { spawnRoute } from './spawn.js'
import { tagRoutes } from './tags.js'

export function entityRoutes(app: FastifyInstance, parts: Parts): void {
  listRoute(app, parts)
  getRoute(app, parts)
  spawnRoute(app, parts)
  sendRoute(app, parts)
  inboxRoutes(app, parts)
  collectionRoute(app, parts)
  tagRoutes(app, parts)
  signalRoutes(app, parts)
  forkRoute(app, parts)
}
