/** Routes of the wire whose feature comes later: they answer 501 and name it, so that nothing is accepted and then ignored. */
import type { FastifyInstance, HTTPMethods } from 'fastify'
import { errors } from '../domain/errors.js'

interface LaterRoute {
  readonly methods: readonly HTTPMethods[]
  readonly url: string
  readonly feature: string
}

const entity = '/_electric/entities/:type/:instanceId'
const type = '/_electric/entity-types/:name'
const anyMethod = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const

export const laterRoutes: readonly LaterRoute[] = [
  { methods: ['GET', 'POST'], url: `${entity}/grants`, feature: 'permission grants' },
  { methods: ['DELETE'], url: `${entity}/grants/:grantId`, feature: 'permission grants' },
  { methods: ['PUT', 'DELETE'], url: `${entity}/schedules/:scheduleId`, feature: 'schedules' },
  { methods: ['PUT', 'DELETE'], url: `${entity}/webhook-source-subscriptions/:subscriptionId`, feature: 'webhook sources' },
  { methods: ['DELETE'], url: `${entity}/pg-sync-observations/:sourceRef`, feature: 'Postgres observation' },
  { methods: ['GET', 'POST'], url: `${type}/grants`, feature: 'permission grants' },
  { methods: ['DELETE'], url: `${type}/grants/:grantId`, feature: 'permission grants' },
  { methods: ['POST'], url: '/_electric/wake', feature: 'wakes' },
  { methods: ['POST'], url: '/_electric/wake/unregister', feature: 'wakes' },
  { methods: ['POST'], url: '/_electric/observations/entities/ensure-stream', feature: 'observations' },
  { methods: ['POST'], url: '/_electric/observations/cron/ensure-stream', feature: 'cron' },
  { methods: ['GET'], url: '/_electric/webhook-sources', feature: 'webhook sources' },
  { methods: anyMethod, url: '/_electric/pg-sync/*', feature: 'Postgres observation' },
  { methods: ['GET'], url: '/_electric/electric/*', feature: 'shapes' },
]

export function laterFeatures(app: FastifyInstance): void {
  for (const { methods, url, feature } of laterRoutes) {
    app.route({
      method: [...methods],
      url,
      config: { undocumented: `comes later: ${feature}` },
      handler: async () => {
        throw errors.NOT_IMPLEMENTED(feature)
      },
    })
  }
}
