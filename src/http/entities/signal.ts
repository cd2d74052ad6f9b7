/** `POST …/signal` and its legacy alias `DELETE /_electric/entities/:type/:instanceId`: spec/05 §1. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { Json } from '../../domain/entity.js'
import { entityStatuses } from '../../domain/entity.js'
import { signals } from '../../domain/signals.js'
import { txidOf } from '../answers.js'
import { body } from '../body.js'
import { entityErrors, operationErrors, type RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { oneOf } from '../schemas.js'
import { type AtEntity, addressedEntity } from './addressed.js'

const signalBody = body(z.looseObject({ signal: oneOf(...signals), reason: z.string().optional(), payload: z.unknown().optional() }))

const signalled = z.object({
  url: z.string(),
  signal: z.enum(signals),
  previous_state: z.enum(entityStatuses),
  new_state: z.enum(entityStatuses),
  created_at: z.int().describe('Milliseconds since the epoch'),
  txid: z.int(),
})
const errors = [...entityErrors, ...operationErrors, 'PRINCIPAL_REFUSES', 'INVALID_SIGNAL', 'SIGNAL_LOST_RACE'] as const
const signalling: RouteDocumentation = {
  operation: 'signalEntity',
  tag: 'entities',
  summary: 'Signals an entity: pause, resume, interrupt, end',
  body: signalBody,
  answers: { 200: { description: 'What the signal did.', schema: signalled } },
  errors,
}
const killing: RouteDocumentation = {
  operation: 'killEntity',
  tag: 'entities',
  summary: 'Ends an entity at once (SIGKILL)',
  answers: { 200: { description: 'It has ended.', schema: txidOf } },
  errors,
}

export function signalRoutes(app: FastifyInstance, parts: Parts): void {
  app.post<AtEntity>('/_electric/entities/:type/:instanceId/signal', { config: { documentation: signalling } }, async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    const sent = signalBody(request) // 400
    const done = await parts.signalling.signal(
      {
        url: entity.url,
        principal: request.principal.key,
        permission: 'signal',
        signal: sent.signal,
        ...(sent.reason === undefined ? {} : { reason: sent.reason }),
        ...('payload' in sent ? { payload: sent.payload as Json } : {}),
      },
      entity,
      request.principal,
    ) // 401, 400, 409
    return {
      url: done.url,
      signal: done.signal,
      previous_state: done.previousStatus,
      new_state: done.newStatus,
      created_at: done.at,
      txid: done.txid,
    }
  })

  app.delete<AtEntity>('/_electric/entities/:type/:instanceId', { config: { documentation: killing } }, async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    const { url } = entity
    const reason = 'Legacy kill command'
    const { txid } = await parts.signalling.signal(
      {
        url,
        principal: request.principal.key,
        permission: 'delete',
        signal: 'SIGKILL',
        reason,
      },
      entity,
      request.principal,
    ) // 401, 400, 409
    return { txid }
  })
}
