/** `POST /_electric/entities/:type/:instanceId/collections/:collection`: spec/03 §5. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { authorize } from '../../entities/authorize.js'
import type { RowWrite } from '../../entities/collection-writing.js'
import { body } from '../body.js'
import { entityErrors, type RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { anObject, oneOf } from '../schemas.js'
import { addressedEntity, type EntityAddress } from './addressed.js'

interface AtCollection {
  readonly Params: EntityAddress & { readonly collection: string }
}

const rowKey = z.object({ key: z.string() })

const rowBody = body(
  z.strictObject({ operation: oneOf('insert', 'update', 'delete'), key: z.string().optional(), value: anObject.optional() }),
)

const documentation: RouteDocumentation = {
  operation: 'writeCollectionRow',
  tag: 'entities',
  summary: 'Writes one row of a collection that the type opens to external writers',
  body: rowBody,
  answers: {
    200: { description: 'Updated or deleted.', schema: rowKey },
    201: { description: 'Inserted.', schema: rowKey },
  },
  errors: [
    ...entityErrors,
    'COLLECTION_NOT_WRITABLE',
    'OPERATION_NOT_ALLOWED',
    'NOT_RUNNING',
    'ROW_VALUE_REQUIRED',
    'ROW_KEY_REQUIRED',
    'UNKNOWN_EVENT_TYPE',
    'SCHEMA_VALIDATION_FAILED',
  ],
}

export function collectionRoute(app: FastifyInstance, parts: Parts): void {
  app.post<AtCollection>(
    '/_electric/entities/:type/:instanceId/collections/:collection',
    { config: { documentation } },
    async (request, reply) => {
      const entity = await addressedEntity(parts, request.principal, request.params) // 404
      const sent = rowBody(request) as RowWrite // 400; `value` is a JSON object
      await authorize(request.principal, 'write', entity) // 401
      const written = await parts.collections.write(entity, request.params.collection, sent, request.principal) // 403, 409, 400, 422
      return await reply.code(sent.operation === 'insert' ? 201 : 200).send(written)
    },
  )
}
