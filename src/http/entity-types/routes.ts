/** Entity types over HTTP: spec/02-types-spawn-tags.md §2 and §5, the checks in their order. */
import type { FastifyInstance } from 'fastify'
import { errors } from '../../domain/errors.js'
import { authorize } from '../../entities/authorize.js'
import { publicType } from '../../entities/public.js'
import type { RegisteredType } from '../../registry/entity-types.js'
import type { Parts } from '../parts.js'
import { amendmentBody, registrationBody } from './bodies.js'

interface TypeAddress {
  readonly Params: { readonly name: string }
}

const types = '/_electric/entity-types'

export function entityTypeRoutes(app: FastifyInstance, { directory, entityTypes }: Parts): void {
  const named = async (name: string): Promise<RegisteredType> => {
    const found = await directory.type(name)
    if (found === null) throw errors.TYPE_NOT_FOUND()
    return found
  }

  app.get(types, async (request) => (await entityTypes.visibleTo(request.principal)).map(publicType))

  app.post(types, async (request, reply) => {
    const registration = registrationBody(request)
    const type = await entityTypes.register(request.principal, registration)
    return reply.code(201).send(publicType(type))
  })

  app.get<TypeAddress>(`${types}/:name`, async (request) => {
    const found = await named(request.params.name)
    await authorize(request.principal, 'spawn', found)
    return publicType(found.type)
  })

  app.patch<TypeAddress>(`${types}/:name/schemas`, async (request) => {
    await authorize(request.principal, 'manage', await named(request.params.name)) // before the body: spec/02 §5
    const amendment = amendmentBody(request)
    return publicType(await entityTypes.amend(request.principal, request.params.name, amendment))
  })

  app.delete<TypeAddress>(`${types}/:name`, async (request, reply) => {
    await entityTypes.delete(request.principal, request.params.name)
    return reply.code(204).send()
  })
}
