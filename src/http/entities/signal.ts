/** `POST …/signal` and its legacy alias `DELETE /_electric/entities/:type/:instanceId`: spec/05 §1. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { Json } from '../../domain/entity.js'
import { signals } from '../../domain/signals.js'
import { authorize } from '../../entities/authorize.js'
import { body } from '../body.js'
import type { Parts } from '../parts.js'
import { oneOf } from '../schemas.js'
import { type AtEntity, addressedEntity } from './addressed.js'

const signalBody = body(z.looseObject({ signal: oneOf(...signals), reason: z.string().optional(), payload: z.unknown().optional() }))

export function signalRoutes(app: FastifyInstance, parts: Parts): void {
  app.post<AtEntity>('/_electric/entities/:type/:instanceId/signal', async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    const sent = signalBody(request) // 400
    await authorize(request.principal, 'signal', entity) // 401
    const signalled = await parts.signalling.signal({
      url: entity.url,
      principal: request.principal.key,
      permission: 'signal',
      signal: sent.signal,
      ...(sent.reason === undefined ? {} : { reason: sent.reason }),
      ...('payload' in sent ? { payload: sent.payload as Json } : {}),
    }) // 400, 409
    return {
      url: signalled.url,
      signal: signalled.signal,
      previous_state: signalled.previousStatus,
      new_state: signalled.newStatus,
      created_at: signalled.at,
      txid: signalled.txid,
    }
  })

  app.delete<AtEntity>('/_electric/entities/:type/:instanceId', async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    await authorize(request.principal, 'delete', entity) // 401
    const { url } = entity
    const reason = 'Legacy kill command'
    const { txid } = await parts.signalling.signal({
      url,
      principal: request.principal.key,
      permission: 'delete',
      signal: 'SIGKILL',
      reason,
    })
    return { txid }
  })
}
