/** `POST /_electric/entities/:type/:instanceId/send`: spec/03 §2. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { authorize } from '../../entities/authorize.js'
import type { SendRequest } from '../../entities/sending.js'
import { eventTxid } from '../answers.js'
import { body } from '../body.js'
import { entityErrors, type RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { oneOf } from '../schemas.js'
import { presentedToken } from '../tokens.js'
import { type AtEntity, addressedEntity } from './addressed.js'

const sendBody = body(
  z.looseObject({
    payload: z.unknown().optional(),
    key: z.string().optional(),
    type: z.string().optional(),
    mode: oneOf('immediate', 'queued', 'paused', 'steer').optional(),
    position: z.string().optional(),
    afterMs: z.number().optional(),
    from: z.string().optional(),
    from_principal: z.string().optional(),
    from_agent: z.string().optional(),
  }),
)

const documentation: RouteDocumentation = {
  operation: 'sendMessage',
  tag: 'entities',
  summary: 'Puts a message into the inbox',
  body: sendBody,
  answers: { 200: { description: 'The message is on the stream.', schema: eventTxid } },
  errors: [
    ...entityErrors,
    'NOT_IMPLEMENTED',
    'FROM_MISMATCH',
    'FROM_AGENT_MISMATCH',
    'NOT_RUNNING',
    'UNKNOWN_MESSAGE_TYPE',
    'SCHEMA_VALIDATION_FAILED',
    'IDENTITY_NOT_ALLOWED',
    'MISSING_PAYLOAD',
  ],
}

export function sendRoute(app: FastifyInstance, parts: Parts): void {
  app.post<AtEntity>('/_electric/entities/:type/:instanceId/send', { config: { documentation } }, async (request) => {
    const sender = parts.sending.sender(request.principal, presentedToken(request))
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    const sent = sendBody(request) as SendRequest // 400; `payload` is JSON, whatever it is
    await authorize(request.principal, 'write', entity) // 401
    return await parts.sending.send(entity, sent, sender) // 400, 409, 422
  })
}
