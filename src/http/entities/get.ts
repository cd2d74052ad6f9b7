/** `GET` and `HEAD /_electric/entities/:type/:instanceId`: spec/02 §9.1. */
import type { FastifyInstance } from 'fastify'
import { authorize } from '../../entities/authorize.js'
import { publicFoundEntity } from '../../entities/public.js'
import type { Parts } from '../parts.js'
import { type AtEntity, addressedEntity } from './addressed.js'

export function getRoute(app: FastifyInstance, parts: Parts): void {
  app.get<AtEntity>('/_electric/entities/:type/:instanceId', async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    await authorize(request.principal, 'read', entity) // 401
    return publicFoundEntity(entity)
  })
}
