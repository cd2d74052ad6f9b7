/** `PATCH`, `DELETE /_electric/entities/:type/:instanceId/inbox/:messageKey`: spec/03 §4. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { InboxEdit } from '../../domain/events.js'
import { authorize } from '../../entities/authorize.js'
import { body } from '../body.js'
import type { Parts } from '../parts.js'
import { oneOf } from '../schemas.js'
import { decodedParam } from '../urls.js'
import { addressedEntity, type EntityAddress } from './addressed.js'

interface AtMessage {
  readonly Params: EntityAddress & { readonly messageKey: string }
}

const editBody = body(
  z.looseObject({
    payload: z.unknown().optional(),
    position: z.string().optional(),
    mode: oneOf('immediate', 'queued', 'paused', 'steer').optional(),
    status: oneOf('pending', 'processed', 'cancelled').optional(),
  }),
)

export function inboxRoutes(app: FastifyInstance, parts: Parts): void {
  app.patch<AtMessage>('/_electric/entities/:type/:instanceId/inbox/:messageKey', async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    const edit = editBody(request) as InboxEdit // 400; `payload` is JSON, whatever it is
    const key = decodedParam(request.params.messageKey) // 400
    await authorize(request.principal, 'write', entity) // 401
    return await parts.inboxEditing.edit(entity, key, edit) // 409, 400
  })

  app.delete<AtMessage>('/_electric/entities/:type/:instanceId/inbox/:messageKey', async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    const key = decodedParam(request.params.messageKey) // 400
    await authorize(request.principal, 'write', entity) // 401
    return await parts.inboxEditing.delete(entity, key) // 409
  })
}
