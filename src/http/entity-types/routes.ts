/** Entity types over HTTP: spec/02-types-spawn-tags.md §2 and §5, the checks in their order. */
import type { FastifyInstance } from 'fastify'
import { errors } from '../../domain/errors.js'
import { authorize } from '../../entities/authorize.js'
import { publicType } from '../../entities/public.js'
import type { RegisteredType } from '../../registry/entity-types.js'
import { entityType, entityTypes as entityTypeList } from '../answers.js'
import type { RouteDocumentation } from '../documentation.js'
import { sendList } from '../lists.js'
import type { Parts } from '../parts.js'
import { amendmentBody, registrationBody } from './bodies.js'

interface TypeAddress {
  readonly Params: { readonly name: string }
}

const types = '/_electric/entity-types'

const one = { description: 'The type.', schema: entityType }
const documentation = {
  list: {
    operation: 'listEntityTypes',
    tag: 'entity types',
    summary: 'The types that the caller may spawn, by name',
    answers: { 200: { description: 'The types.', schema: entityTypeList } },
  },
  register: {
    operation: 'registerEntityType',
    tag: 'entity types',
    summary: 'Registers a type, or replaces its registration',
    body: registrationBody,
    answers: { 201: one },
    errors: [
      'NOT_ALLOWED',
      'NOT_IMPLEMENTED',
      'SERVE_ENDPOINT_UNREACHABLE',
      'SERVE_ENDPOINT_NAME_MISMATCH',
      'TYPE_NAME_RESERVED',
      'SCHEMA_VALIDATION_FAILED',
    ],
  },
  read: {
    operation: 'readEntityType',
    tag: 'entity types',
    summary: 'One type',
    answers: { 200: one },
    errors: ['TYPE_NOT_FOUND', 'NOT_ALLOWED'],
  },
  amend: {
    operation: 'amendEntityType',
    tag: 'entity types',
    summary: 'Adds schemas; none that exists is changed',
    body: amendmentBody,
    answers: { 200: one },
    errors: ['TYPE_NOT_FOUND', 'NOT_ALLOWED', 'TYPE_BUILT_IN', 'SCHEMA_KEY_EXISTS', 'SCHEMA_VALIDATION_FAILED'],
  },
  remove: {
    operation: 'deleteEntityType',
    tag: 'entity types',
    summary: 'Deletes a type; its entities stay',
    answers: { 204: { description: 'Deleted.' } },
    errors: ['TYPE_NOT_FOUND', 'NOT_ALLOWED', 'TYPE_BUILT_IN'],
  },
} as const satisfies Record<string, RouteDocumentation>

export function entityTypeRoutes(app: FastifyInstance, { directory, entityTypes }: Parts): void {
  const named = async (name: string): Promise<RegisteredType> => {
    const found = await directory.type(name)
    if (found === null) throw errors.TYPE_NOT_FOUND()
    return found
  }

  app.get(
    types,
    { config: { documentation: documentation.list } },
    async (request, reply) => await sendList(reply, entityTypes.visibleTo(request.principal), publicType),
  )

  app.post(types, { config: { documentation: documentation.register } }, async (request, reply) => {
    const registration = registrationBody(request)
    const type = await entityTypes.register(request.principal, registration)
    return reply.code(201).send(publicType(type))
  })

  app.get<TypeAddress>(`${types}/:name`, { config: { documentation: documentation.read } }, async (request) => {
    const found = await named(request.params.name)
    await authorize(request.principal, 'spawn', found)
    return publicType(found.type)
  })

  app.patch<TypeAddress>(`${types}/:name/schemas`, { config: { documentation: documentation.amend } }, async (request) => {
    await authorize(request.principal, 'manage', await named(request.params.name)) // before the body: spec/02 §5
    const amendment = amendmentBody(request)
    return publicType(await entityTypes.amend(request.principal, request.params.name, amendment))
  })

  app.delete<TypeAddress>(`${types}/:name`, { config: { documentation: documentation.remove } }, async (request, reply) => {
    await entityTypes.delete(request.principal, request.params.name)
    return reply.code(204).send()
  })
}
