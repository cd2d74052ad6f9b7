/** What may be registered as an entity type, and what a registration stores (spec/02 §2.2, §2.4, §5.1). Pure: who may do it is decided elsewhere. */
import type { DispatchPolicy, Entity, EntityType, JsonSchema, SchemaMap, SlashCommand, WritableCollections } from './entity.js'
import { errors, type Violation } from './errors.js'
import { isBuiltInType } from './event-gate.js'
import { disallowedKeywords, schemaProblem } from './json-schema.js'
import type { Limits } from './limits.js'
import { httpUrl } from './loopback.js'
import { countSchemas } from './schema-work.js'
import { slashCommandViolations } from './slash-commands.js'

/** The body of a registration, already of the right shape. */
export interface TypeRegistration {
  readonly name?: string
  readonly description?: string
  readonly creation_schema?: JsonSchema
  readonly inbox_schemas?: SchemaMap
  readonly state_schemas?: SchemaMap
  readonly slash_commands?: readonly SlashCommand[]
  readonly serve_endpoint?: string
  readonly default_dispatch_policy?: DispatchPolicy
  readonly externally_writable_collections?: WritableCollections
  readonly permission_grants?: readonly unknown[]
}

/** What a registration stores; revision and times are the registry's. */
export type TypeDefinition = Omit<EntityType, 'revision' | 'created_at' | 'updated_at'>

const namePattern = /^[A-Za-z0-9._~-]{1,200}$/
const commentsContract = 'comments/v1'

/** spec/02 §2.2 steps 2 and 3; built-in events are nobody's to open (event-gate.ts). */
export function checkCollections(collections: WritableCollections | undefined): void {
  for (const [name, { type, contract }] of Object.entries(collections ?? {})) {
    if (name === 'comments' && contract !== commentsContract)
      throw errors.INVALID_REQUEST(`The externally-writable collection name "comments" is reserved for the "${commentsContract}" contract`)
    if (name !== 'comments' && contract === commentsContract)
      throw errors.INVALID_REQUEST(`The "${commentsContract}" contract must be registered under the collection name "comments"`)
    if (isBuiltInType(type))
      throw errors.INVALID_REQUEST(`The externally-writable collection "${name}" cannot hold the built-in event type "${type}"`)
  }
}

/** Whether the registration asks the serve endpoint for the rest (spec/02 §4). */
export const asksForDiscovery = (sent: TypeRegistration): boolean =>
  Boolean(sent.serve_endpoint) && !sent.description && sent.creation_schema === undefined

/** spec/02 §2.2 steps 6 to 12. */
export function typeDefinition(sent: TypeRegistration, limits: Limits): TypeDefinition {
  if (!sent.name) throw errors.INVALID_REQUEST('Missing required field: name')
  if (sent.name === 'principal') throw errors.TYPE_BUILT_IN('registered or updated')
  if (sent.name.startsWith('_')) throw errors.TYPE_NAME_RESERVED()
  if (!sent.description) throw errors.INVALID_REQUEST('Missing required field: description')
  const schemas = allSchemas(sent)
  checkKeywords(schemas)
  checkSlashCommands(sent.slash_commands ?? [])
  checkName(sent.name)
  checkUsable(schemas, limits)
  const definition = stored(sent, sent.name, sent.description)
  checkSize(definition, limits)
  return definition
}

function checkSize(registered: object, { maxTypeBytes }: Limits): void {
  if (Buffer.byteLength(JSON.stringify(registered)) > maxTypeBytes) throw errors.INVALID_REQUEST(`The type exceeds ${maxTypeBytes} bytes`)
}

function checkName(name: string): void {
  if (!namePattern.test(name) || name === '.' || name === '..')
    throw errors.INVALID_REQUEST('Entity type names are 1 to 200 characters of A-Z a-z 0-9 . _ ~ -')
}

function checkSlashCommands(commands: readonly SlashCommand[]): void {
  const violations = slashCommandViolations(commands)
  if (violations.length > 0) throw errors.SCHEMA_VALIDATION_FAILED().withDetails(violations)
}

/** Every member that was not sent becomes unset (spec/02 §2.4). */
function stored(sent: TypeRegistration, name: string, description: string): TypeDefinition {
  const policy = sent.default_dispatch_policy ?? (sent.serve_endpoint ? webhookPolicy(sent.serve_endpoint) : null)
  checkPolicy(policy)
  return {
    name,
    description,
    creation_schema: sent.creation_schema ?? null,
    inbox_schemas: sent.inbox_schemas ?? null,
    state_schemas: sent.state_schemas ?? null,
    slash_commands: sent.slash_commands ?? null,
    externally_writable_collections: sent.externally_writable_collections ?? null,
    serve_endpoint: sent.serve_endpoint || null,
    default_dispatch_policy: policy,
  }
}

const webhookPolicy = (url: string): DispatchPolicy => ({ targets: [{ type: 'webhook', url }] })

/** A webhook target is an absolute http(s) URL (spec/01 §5.2, DEVIATE). */
export function checkPolicy(policy: DispatchPolicy | null): void {
  const target = policy?.targets[0]
  if (target?.type === 'webhook') httpUrl(target.url, 'dispatch target url')
}

type PlacedSchema = { readonly schema: JsonSchema; readonly path: string }

function allSchemas(sent: Pick<TypeRegistration, 'creation_schema' | 'inbox_schemas' | 'state_schemas'>): PlacedSchema[] {
  const creation = sent.creation_schema === undefined ? [] : [{ schema: sent.creation_schema, path: '/creation_schema' }]
  const named = (family: 'inbox_schemas' | 'state_schemas') =>
    Object.entries(sent[family] ?? {}).map(([name, schema]) => ({
      schema,
      path: `/${family}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    }))
  return [...creation, ...named('inbox_schemas'), ...named('state_schemas')]
}

function checkKeywords(schemas: readonly PlacedSchema[]): void {
  const violations: Violation[] = schemas.flatMap(({ schema, path }) => disallowedKeywords(schema, path))
  if (violations.length > 0) throw errors.INVALID_REQUEST('Schema uses disallowed keywords').withDetails(violations.slice(0, 100))
}

/** spec/02 §3.2: what cannot compile, or is too large, is refused now instead of failing at use. */
function checkUsable(schemas: readonly PlacedSchema[], limits: Limits): void {
  checkExtent(schemas, limits)
  for (const { schema, path } of schemas) {
    const problem = schemaProblem(schema)
    if (problem !== null) throw errors.INVALID_REQUEST(`Schema is not valid: ${problem}`).withDetails([{ path, message: problem }])
  }
}

function checkExtent(schemas: readonly PlacedSchema[], { maxSchemaBytes, maxTypeBytes, maxSubschemas, maxTypeSubschemas }: Limits): void {
  let typeBytes = 0
  let typeSchemas = 0
  for (const { schema, path } of schemas) {
    const schemaBytes = Buffer.byteLength(JSON.stringify(schema))
    typeBytes += schemaBytes
    if (schemaBytes > maxSchemaBytes) throw errors.INVALID_REQUEST(`Schema exceeds ${maxSchemaBytes} bytes: ${path}`)
    if (typeBytes > maxTypeBytes) throw errors.INVALID_REQUEST(`Schemas of the type exceed ${maxTypeBytes} bytes`)
    const within = countSchemas(schema)
    typeSchemas += within
    if (within > maxSubschemas) throw errors.INVALID_REQUEST(`Schema has more than ${maxSubschemas} schemas within it: ${path}`)
    if (typeSchemas > maxTypeSubschemas) throw errors.INVALID_REQUEST(`The type has more than ${maxTypeSubschemas} schemas in all`)
  }
}

export interface TypeAmendment {
  readonly inbox_schemas?: SchemaMap
  readonly state_schemas?: SchemaMap
}

/** spec/02 §5.1 steps 1 and 2: what can be said without looking at the type. */
export function checkAmendment(name: string, amendment: TypeAmendment, limits: Limits): void {
  if (name === 'principal') throw errors.TYPE_BUILT_IN('amended')
  const schemas = allSchemas(amendment)
  checkKeywords(schemas)
  checkUsable(schemas, limits)
}

/** spec/02 §5.1 step 3: the type with these schemas added; nothing that exists is changed. */
export function amended(type: EntityType, amendment: TypeAmendment, limits: Limits): Pick<EntityType, 'inbox_schemas' | 'state_schemas'> {
  const schemas = {
    inbox_schemas: added('inbox', type.inbox_schemas, amendment.inbox_schemas),
    state_schemas: added('state', type.state_schemas, amendment.state_schemas),
  }
  checkSize({ ...type, ...schemas }, limits)
  return schemas
}

function added(family: string, existing: SchemaMap | null, more: SchemaMap | undefined): SchemaMap | null {
  if (more === undefined) return existing
  for (const key of Object.keys(more)) if (existing !== null && Object.hasOwn(existing, key)) throw errors.SCHEMA_KEY_EXISTS(family, key)
  return { ...existing, ...more }
}

export interface EffectiveSchemas {
  readonly inbox: SchemaMap | null
  readonly state: SchemaMap | null
}

type Schemas = Pick<Entity, 'inbox_schemas' | 'state_schemas'>

/** The copy taken at spawn, overlaid key by key with the type's current map (spec/01 §5.3). */
export function effectiveSchemas(entity: Schemas, type: Schemas | null): EffectiveSchemas {
  return {
    inbox: overlaid(entity.inbox_schemas, type?.inbox_schemas ?? null),
    state: overlaid(entity.state_schemas, type?.state_schemas ?? null),
  }
}

const overlaid = (copy: SchemaMap | null, current: SchemaMap | null): SchemaMap | null =>
  copy === null || current === null ? (current ?? copy) : { ...copy, ...current }
