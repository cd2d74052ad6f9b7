/** `POST /_electric/entities/:type/:instanceId/fork`: spec/04. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Json, JsonObject } from '../../domain/entity.js'
import { errors } from '../../domain/errors.js'
import type { EntityUrl } from '../../domain/ids.js'
import { authorize } from '../../entities/authorize.js'
import type { ForkAsked } from '../../entities/forking.js'
import { publicEntity } from '../../entities/public.js'
import type { FoundEntity } from '../../registry/entities.js'
import { entities, entity } from '../answers.js'
import { body } from '../body.js'
import { entityErrors, operationErrors, type RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { requestedWake } from '../schemas.js'
import { type AtEntity, addressedEntity } from './addressed.js'

const forkBody = body(
  z.looseObject({
    instance_id: z.string().optional(),
    waitTimeoutMs: z.number().optional(),
    fork_pointer: z.looseObject({ offset: z.string().nullable(), sub_offset: z.number() }).optional(),
    anchor: z.literal('latest_completed_run').optional(),
    parent: z.string().optional(),
    wake: requestedWake.optional(),
    initialMessage: z.unknown().optional(),
    tags: z.record(z.string(), z.string()).optional(),
  }),
)
type ForkBody = ReturnType<typeof forkBody>

const forked = z.object({ root: entity, entities })

const documentation: RouteDocumentation = {
  operation: 'forkEntity',
  tag: 'entities',
  summary: 'Copies an entity with its children, shared state and attachments, now or at an earlier event',
  body: forkBody,
  answers: { 201: { description: 'The copies exist, complete; the root is the first.', schema: forked } },
  errors: [
    ...entityErrors,
    ...operationErrors,
    'PRINCIPAL_REFUSES',
    'FORK_CUT_TWICE',
    'RUNNER_NOT_FOUND',
    'PARENT_NOT_FOUND',
    'NOT_RUNNING',
    'FORK_WAKE_NEEDS_PARENT',
    'FORK_WAKE_NOT_PARENTS',
    'NOT_IMPLEMENTED',
    'FORK_WAIT_INVALID',
    'FORK_NOT_TOP_LEVEL',
    'FORK_TERMINAL',
    'FORK_ID_INVALID',
    'INVALID_ENTITY_URL',
    'DUPLICATE_URL',
    'TAG_LIMIT',
    'FORK_TOO_LARGE',
    'FORK_TOO_MANY_ROWS',
    'FORK_POINTER_UNKNOWN',
    'FORK_POINTER_OUT_OF_RANGE',
    'FORK_NO_COMPLETED_RUN',
    'FORK_WAIT_TIMEOUT',
    'IDEMPOTENCY_KEY_REUSED',
  ],
}

export function forkRoute(app: FastifyInstance, parts: Parts): void {
  app.post<AtEntity>('/_electric/entities/:type/:instanceId/fork', { config: { documentation } }, async (request, reply) => {
    const source = await addressedEntity(parts, request.principal, request.params) // 404
    const sent = forkBody(request) // 400
    await authorize(request.principal, 'fork', source) // 401
    const copies = await parts.forking.fork(asked(source, sent, request.principal.key), request.principal, keyOf(request)) // 400, 401, 404, 409
    return await reply.code(201).send({ root: publicEntity(copies.root), entities: copies.entities.map(publicEntity) })
  })
}

const maxKeyLength = 255

/** `Idempotency-Key`: a repeated request meets the outcome of the first. */
function keyOf({ headers }: FastifyRequest): string | undefined {
  const key = headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key !== 'string' || key === '' || key.length > maxKeyLength)
    throw errors.INVALID_REQUEST(`Idempotency-Key must have 1 to ${maxKeyLength} characters`)
  return key
}

/** Out of `JSON.parse` and a schema: objects are JSON objects. */
function asked(source: FoundEntity, sent: ForkBody, principal: string): ForkAsked {
  const { instance_id, waitTimeoutMs, fork_pointer: pointer, anchor, parent, tags } = sent
  return {
    source: source.url,
    principal,
    ...(instance_id === undefined ? {} : { instanceId: instance_id }),
    ...(waitTimeoutMs === undefined ? {} : { waitTimeoutMs }),
    ...(pointer === undefined ? {} : { pointer: { offset: pointer.offset, subOffset: pointer.sub_offset } }),
    ...(anchor === undefined ? {} : { anchor }),
    ...(parent === undefined ? {} : { parent: parent as EntityUrl }), // looked up by the rules
    ...(sent.wake === undefined ? {} : { wake: sent.wake as JsonObject }),
    ...(tags === undefined ? {} : { tags }),
    ...('initialMessage' in sent ? { initialMessage: { payload: sent.initialMessage as Json } } : {}),
  }
}
