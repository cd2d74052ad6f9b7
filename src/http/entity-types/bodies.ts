/** spec/02 §2.1 and §5.1. */
import { z } from 'zod'
import type { ParseRegistration } from '../../entities/discovery.js'
import { body, document } from '../body.js'
import { dispatchPolicy, jsonSchema, oneOf, schemaMap } from '../schemas.js'

const slashCommand = z.strictObject({
  name: z.string(),
  description: z.string().optional(),
  arguments: z
    .array(
      z.strictObject({
        name: z.string(),
        type: oneOf('string', 'number', 'boolean'),
        required: z.boolean().optional(),
        description: z.string().optional(),
      }),
    )
    .optional(),
})

const typeGrant = z.strictObject({
  subject_kind: oneOf('principal', 'principal_kind'),
  subject_value: z.string(),
  permission: oneOf('spawn', 'manage'),
  expires_at: z.string().optional(),
})

const writableCollection = z.strictObject({
  type: z.string().min(1), // the event gate has nothing to say of an event without a type (spec/01 §7.24)
  contract: z.string().optional(),
  operations: z.array(oneOf('insert', 'update', 'delete')).optional(),
  principalColumn: z.string().optional(),
})

const registration = z.strictObject({
  name: z.string().optional(),
  description: z.string().optional(),
  creation_schema: jsonSchema.optional(),
  inbox_schemas: schemaMap.optional(),
  state_schemas: schemaMap.optional(),
  slash_commands: z.array(slashCommand).optional(),
  serve_endpoint: z.string().optional(),
  default_dispatch_policy: dispatchPolicy.optional(),
  permission_grants: z.array(typeGrant).optional(),
  externally_writable_collections: z.record(z.string(), writableCollection).optional(),
})

export const registrationBody = body(registration, { intoRows: true })

const discovered = document(registration, { intoRows: true })
const known = Object.keys(registration.shape)

/** What a serve endpoint answers, by the same schema; members that it does not have are ignored (spec/02 §4). */
export const discoveredRegistration =
  (maxDepth: number): ParseRegistration =>
  (answer) => {
    const members = Object.fromEntries(Object.entries(answer).filter(([name]) => known.includes(name)))
    return discovered(members, maxDepth, Number.POSITIVE_INFINITY)
  }

export const amendmentBody = body(z.strictObject({ inbox_schemas: schemaMap.optional(), state_schemas: schemaMap.optional() }), {
  intoRows: true,
})
