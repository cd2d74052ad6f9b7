/** `PUT /_electric/entities/:type/:instanceId`: spec/02 §6. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { JsonObject } from '../../domain/entity.js'
import { errors } from '../../domain/errors.js'
import type { EntityUrl } from '../../domain/ids.js'
import type { SpawnItem } from '../../domain/operations.js'
import type { Principal } from '../../domain/principals.js'
import type { SandboxRequest } from '../../domain/sandbox.js'
import { publicEntity } from '../../entities/public.js'
import { spawnedEntity } from '../answers.js'
import { body } from '../body.js'
import { operationErrors, type RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { anObject, dispatchPolicy, oneOf, requestedWake } from '../schemas.js'
import type { AtEntity } from './addressed.js'

/** spec/12 §8.1. */
const entityGrant = z.strictObject({
  subject_kind: oneOf('principal', 'principal_kind'),
  subject_value: z.string(),
  permission: oneOf('read', 'write', 'delete', 'signal', 'fork', 'schedule', 'spawn', 'manage'),
  propagation: oneOf('self', 'descendants').optional(),
  copy_to_children: z.boolean().optional(),
  expires_at: z.string().optional(),
})

const spawnBody = body(
  z.looseObject({
    args: anObject.optional(),
    tags: z.record(z.string(), z.string()).optional(),
    parent: z.string().optional(),
    dispatch_policy: dispatchPolicy.optional(),
    sandbox: z
      .looseObject({
        profile: z.string().optional(),
        key: z.string().optional(),
        scope: oneOf('entity', 'wake').optional(),
        persistent: z.boolean().optional(),
        owner: z.boolean().optional(),
        inherit: z.boolean().optional(),
      })
      .optional(),
    initialMessage: z.unknown().optional(),
    initialMessageType: z.string().optional(),
    grants: z.array(entityGrant).optional(),
    wake: requestedWake.optional(),
  }),
)
type SpawnBody = ReturnType<typeof spawnBody>

const documentation: RouteDocumentation = {
  operation: 'spawnEntity',
  tag: 'entities',
  summary: 'Spawns an entity, with its stream and first message',
  body: spawnBody,
  answers: { 201: { description: 'It exists, complete.', schema: spawnedEntity } },
  errors: [
    ...operationErrors,
    'UNKNOWN_ENTITY_TYPE',
    'INVALID_ENTITY_URL',
    'NOT_IMPLEMENTED',
    'NOT_ALLOWED',
    'PARENT_NOT_FOUND',
    'NOT_RUNNING',
    'RUNNER_NOT_FOUND',
    'RUNNER_NOT_OWNED',
    'FOREIGN_RUNNER_SUBSCRIPTION',
    'SCHEMA_VALIDATION_FAILED',
    'DUPLICATE_URL',
    'SANDBOX_NEEDS_PROFILE',
    'SANDBOX_NOT_ADVERTISED',
    'SANDBOX_NOT_OFFERED',
    'SANDBOX_NEEDS_RUNNER',
    'UNKNOWN_MESSAGE_TYPE',
    'TAG_LIMIT',
  ],
}

export function spawnRoute(app: FastifyInstance, { spawning }: Parts): void {
  app.put<AtEntity>('/_electric/entities/:type/:instanceId', { config: { documentation } }, async (request, reply) => {
    const url = `/${request.params.type}/${request.params.instanceId}` as EntityUrl
    const address = await spawning.addressed(url) // 400, 404
    const sent = spawnBody(request) // 400
    refuseLater(sent)
    const { entity, txid } = await spawning.spawn(spawnItem(url, sent, request.principal), address, request.principal) // 401, 404, 422, 409
    const { spawn_args, ...shown } = publicEntity(entity)
    return await reply.code(201).send({ ...shown, ...(sent.args === undefined ? {} : { spawn_args }), txid })
  })
}

/** An empty list of grants asks for nothing. */
function refuseLater(sent: SpawnBody): void {
  if ((sent.grants ?? []).length > 0) throw errors.NOT_IMPLEMENTED('permission grants')
  if (sent.wake !== undefined) throw errors.NOT_IMPLEMENTED('wakes')
}

/** Out of `JSON.parse` and a schema: objects are JSON objects. */
function spawnItem(url: EntityUrl, sent: SpawnBody, principal: Principal): SpawnItem {
  const type = sent.initialMessageType || undefined
  return {
    url,
    principal: principal.key,
    ...(sent.args === undefined ? {} : { args: sent.args as JsonObject }),
    ...(sent.tags === undefined ? {} : { tags: sent.tags }),
    ...(sent.parent ? { parent: sent.parent as EntityUrl } : {}),
    ...(sent.dispatch_policy === undefined ? {} : { dispatchPolicy: sent.dispatch_policy }),
    ...(sent.sandbox === undefined ? {} : { sandbox: sent.sandbox as SandboxRequest }),
    ...('initialMessage' in sent
      ? { initialMessage: { payload: sent.initialMessage as JsonObject, ...(type === undefined ? {} : { type }) } }
      : {}),
  }
}
