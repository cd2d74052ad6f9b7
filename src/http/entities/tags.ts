/** `POST`, `DELETE /_electric/entities/:type/:instanceId/tags/:tagKey`: spec/02 §10. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { authorize } from '../../entities/authorize.js'
import { publicEntity } from '../../entities/public.js'
import type { TaggedHead } from '../../entities/tagging.js'
import { changedEntity } from '../answers.js'
import { body } from '../body.js'
import { entityErrors, type RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { decodedParam } from '../urls.js'
import { addressedEntity, type EntityAddress } from './addressed.js'

interface AtTag {
  readonly Params: EntityAddress & { readonly tagKey: string }
}

const tagBody = body(z.looseObject({ value: z.string() }))

const answers = { 200: { description: 'The entity; without `txid` nothing was to be changed.', schema: changedEntity } }
const setting: RouteDocumentation = {
  operation: 'setTag',
  tag: 'entities',
  summary: 'Sets one tag',
  body: tagBody,
  answers,
  errors: [...entityErrors, 'PRINCIPAL_REFUSES', 'NOT_RUNNING', 'TAG_LIMIT', 'ENTITY_PERSIST_FAILED'],
}
const deleting: RouteDocumentation = {
  operation: 'deleteTag',
  tag: 'entities',
  summary: 'Removes one tag',
  answers,
  errors: [...entityErrors, 'INVALID_REQUEST', 'PRINCIPAL_REFUSES', 'NOT_RUNNING', 'ENTITY_PERSIST_FAILED'],
}

export function tagRoutes(app: FastifyInstance, parts: Parts): void {
  app.post<AtTag>('/_electric/entities/:type/:instanceId/tags/:tagKey', { config: { documentation: setting } }, async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    const { value } = tagBody(request) // 400
    await authorize(request.principal, 'write', entity) // 401
    const key = decodedParam(request.params.tagKey) // 400
    return shown(await parts.tagging.set(entity, key, value)) // 400, 409
  })

  app.delete<AtTag>('/_electric/entities/:type/:instanceId/tags/:tagKey', { config: { documentation: deleting } }, async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    await authorize(request.principal, 'write', entity) // 401
    const key = decodedParam(request.params.tagKey) // 400
    return shown(await parts.tagging.delete(entity, key)) // 400, 409
  })
}

/** Without `txid` nothing was changed. */
const shown = ({ entity, txid }: TaggedHead): object => ({ ...publicEntity(entity), ...(txid === undefined ? {} : { txid }) })
