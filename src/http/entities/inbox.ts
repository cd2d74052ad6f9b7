/** `PATCH`, `DELETE /_electric/entities/:type/:instanceId/inbox/:messageKey`: spec/03 §4. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { InboxEdit } from '../../domain/events.js'
import { authorize } from '../../entities/authorize.js'
import { eventTxid } from '../answers.js'
import { body } from '../body.js'
import { entityErrors, type RouteDocumentation } from '../documentation.js'
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

const answers = { 200: { description: 'The event is on the stream.', schema: eventTxid } }
const editing: RouteDocumentation = {
  operation: 'editMessage',
  tag: 'entities',
  summary: 'Changes a message in the inbox',
  body: editBody,
  answers,
  errors: [...entityErrors, 'INVALID_REQUEST', 'NOT_RUNNING', 'NO_INBOX_FIELDS'],
}
const deleting: RouteDocumentation = {
  operation: 'deleteMessage',
  tag: 'entities',
  summary: 'Takes a message out of the inbox',
  answers,
  errors: [...entityErrors, 'INVALID_REQUEST', 'NOT_RUNNING'],
}

export function inboxRoutes(app: FastifyInstance, parts: Parts): void {
  app.patch<AtMessage>(
    '/_electric/entities/:type/:instanceId/inbox/:messageKey',
    { config: { documentation: editing } },
    async (request) => {
      const entity = await addressedEntity(parts, request.principal, request.params) // 404
      const edit = editBody(request) as InboxEdit // 400; `payload` is JSON, whatever it is
      await authorize(request.principal, 'write', entity) // 401
      const key = decodedParam(request.params.messageKey) // 400
      return await parts.inboxEditing.edit(entity, key, edit) // 409, 400
    },
  )

  app.delete<AtMessage>(
    '/_electric/entities/:type/:instanceId/inbox/:messageKey',
    { config: { documentation: deleting } },
    async (request) => {
      const entity = await addressedEntity(parts, request.principal, request.params) // 404
      await authorize(request.principal, 'write', entity) // 401
      const key = decodedParam(request.params.messageKey) // 400
      return await parts.inboxEditing.delete(entity, key) // 409
    },
  )
}
