/** `GET` and `HEAD /_electric/entities/:type/:instanceId`: spec/02 §9.1. */
import type { FastifyInstance } from 'fastify'
import { authorize } from '../../entities/authorize.js'
import { publicFoundEntity } from '../../entities/public.js'
import { foundEntity } from '../answers.js'
import { entityErrors, type RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { type AtEntity, addressedEntity } from './addressed.js'

const documentation: RouteDocumentation = {
  operation: 'readEntity',
  tag: 'entities',
  summary: 'One entity',
  answers: { 200: { description: 'The entity.', schema: foundEntity } },
  errors: entityErrors,
}

export function getRoute(app: FastifyInstance, parts: Parts): void {
  app.get<AtEntity>('/_electric/entities/:type/:instanceId', { config: { documentation } }, async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    await authorize(request.principal, 'read', entity) // 401
    return publicFoundEntity(entity)
  })
}
