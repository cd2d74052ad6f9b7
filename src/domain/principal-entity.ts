/** Principal entities: the built-in type, and what stands in the row of one (spec/01 §3). */
import type { JsonObject, JsonSchema, Tags } from './entity.js'
import type { TypeDefinition } from './entity-types.js'
import { type Principal, principalKinds } from './principals.js'

const text = { type: 'string' } as const

export const identitySchema: JsonSchema = {
  type: 'object',
  properties: {
    kind: { type: 'string', enum: principalKinds },
    id: text,
    key: text,
    url: text,
    display_name: text,
    email: text,
    avatar_url: text,
    auth_provider: text,
    auth_subject: text,
    claims: { type: 'object' },
    created_at: text,
    updated_at: text,
  },
  required: ['kind', 'id', 'key', 'url', 'updated_at'],
  additionalProperties: false,
}

export const principalType: TypeDefinition = {
  name: 'principal',
  description: 'built-in principal entity',
  creation_schema: null,
  inbox_schemas: {
    update_identity: { type: 'object', properties: { identity: identitySchema }, required: ['identity'], additionalProperties: false },
  },
  state_schemas: { identity: identitySchema },
  slash_commands: null,
  externally_writable_collections: null,
  serve_endpoint: null,
  default_dispatch_policy: null,
}

export const principalArgs = ({ kind, id, key }: Principal): JsonObject => ({ kind, id, key })
export const principalTags = ({ kind, id }: Principal): Tags => ({ principal_id: id, principal_kind: kind })
