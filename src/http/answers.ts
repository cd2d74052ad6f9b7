/** Answers that several routes give (spec/01 §5), for the OpenAPI document; tests hold real answers to them. */
import { z } from 'zod'
import { entityStatuses } from '../domain/entity.js'
import { dispatchPolicy } from './schemas.js'

const jsonObject = z.record(z.string(), z.unknown())
const schemas = z.record(z.string(), jsonObject)
const milliseconds = z.int().describe('Milliseconds since the epoch')
const writableCollections = z.record(
  z.string(),
  z.object({ type: z.string(), contract: z.string().optional(), operations: z.array(z.enum(['insert', 'update', 'delete'])).optional() }),
)

const txid = z.int().describe('The Postgres transaction, to be awaited on a shape')
/** Of changes whose event carries it. */
export const eventTxid = z.object({ txid: z.string().describe('In the headers of the event') })
export const txidOf = z.object({ txid })

const sandbox = z.object({
  profile: z.string(),
  key: z.string().optional(),
  scope: z.enum(['entity', 'wake']).optional(),
  persistent: z.boolean().optional(),
  owner: z.literal(false).optional(),
})

const entityShape = {
  url: z.string(),
  type: z.string(),
  status: z.enum(entityStatuses),
  streams: z.object({ main: z.string() }),
  dispatch_policy: dispatchPolicy.optional(),
  tags: z.record(z.string(), z.string()),
  spawn_args: jsonObject,
  sandbox: sandbox.optional(),
  parent: z.string().optional(),
  created_by: z.string().optional(),
  created_at: milliseconds,
  updated_at: milliseconds,
}

export const entity = z.object(entityShape).meta({ id: 'Entity' })
export const entities = z.array(entity)
export const foundEntity = z.object({ ...entityShape, externally_writable_collections: writableCollections.optional() })
export const spawnedEntity = z.object({ ...entityShape, spawn_args: jsonObject.optional(), txid })
export const changedEntity = z.object({ ...entityShape, txid: txid.optional() })

export const entityType = z
  .object({
    name: z.string(),
    description: z.string(),
    creation_schema: jsonObject.nullable(),
    inbox_schemas: schemas.nullable(),
    state_schemas: schemas.nullable(),
    slash_commands: z.array(jsonObject).optional(),
    externally_writable_collections: writableCollections.optional(),
    serve_endpoint: z.string().optional(),
    default_dispatch_policy: dispatchPolicy.optional(),
    revision: z.int(),
    created_at: z.string(),
    updated_at: z.string(),
  })
  .meta({ id: 'EntityType' })
export const entityTypes = z.array(entityType)

/** Every refusal of the house (spec/02 §1.3). */
export const refusal = z
  .object({ error: z.object({ code: z.string(), message: z.string(), details: z.unknown().optional() }) })
  .meta({ id: 'Refusal' })
