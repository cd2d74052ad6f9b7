/** Entities and entity types as stored and as seen on the wire: one spelling for both (spec/01 §5, spec/13 §1). */
import type { EntityUrl, PrincipalUrl } from './ids.js'

export const entityStatuses = ['spawning', 'running', 'idle', 'paused', 'stopping', 'stopped', 'killed'] as const
export type EntityStatus = (typeof entityStatuses)[number]

export type Json = null | boolean | number | string | readonly Json[] | { readonly [member: string]: Json }
export type JsonObject = { readonly [member: string]: Json }
export type JsonSchema = JsonObject
/** Message type, or event type → schema. */
export type SchemaMap = { readonly [name: string]: JsonSchema }

export type DispatchTarget =
  | { readonly type: 'webhook'; readonly url: string; readonly subscription_id?: string }
  | { readonly type: 'runner'; readonly runnerId: string; readonly subscription_id?: string }

/** Exactly one target (spec/01 §5.2). */
export interface DispatchPolicy {
  readonly targets: readonly [DispatchTarget]
}

/** Which execution environment the runtime provides (spec/01 §5.5): `key` and `scope` never occur together, `owner` only when false. */
export type SandboxSelection = {
  readonly profile: string
  readonly key?: string
  readonly scope?: 'entity' | 'wake'
  readonly persistent?: boolean
  readonly owner?: false
}

export type Tags = { readonly [key: string]: string }

export interface SlashCommand {
  readonly name: string
  readonly description?: string
  readonly arguments?: readonly {
    readonly name: string
    readonly type: 'string' | 'number' | 'boolean'
    readonly required?: boolean
    readonly description?: string
  }[]
}

export type WritableCollections = {
  readonly [name: string]: {
    readonly type: string
    readonly contract?: string
    readonly operations?: readonly ('insert' | 'update' | 'delete')[]
  }
}

export interface EntityType {
  readonly name: string
  readonly description: string
  readonly creation_schema: JsonSchema | null
  readonly inbox_schemas: SchemaMap | null
  readonly state_schemas: SchemaMap | null
  readonly slash_commands: readonly SlashCommand[] | null
  readonly externally_writable_collections: WritableCollections | null
  readonly serve_endpoint: string | null
  readonly default_dispatch_policy: DispatchPolicy | null
  readonly revision: number
  /** ISO-8601. */
  readonly created_at: string
  readonly updated_at: string
}

export interface Entity {
  readonly url: EntityUrl
  readonly type: string
  readonly status: EntityStatus
  readonly dispatch_policy: DispatchPolicy | null
  readonly tags: Tags
  readonly spawn_args: JsonObject
  readonly sandbox: SandboxSelection | null
  readonly parent: EntityUrl | null
  readonly created_by: PrincipalUrl | null
  readonly type_revision: number | null
  readonly inbox_schemas: SchemaMap | null
  readonly state_schemas: SchemaMap | null
  /** Milliseconds since the epoch. */
  readonly created_at: number
  readonly updated_at: number
}

/** No transition leaves a terminal status (spec/01 §5.4). */
export const isTerminal = (status: EntityStatus): boolean => status === 'stopped' || status === 'killed'

/** Whether sends, inbox edits, tags, attachments and collection writes are taken (spec/01 §5.4). */
export const acceptsWrites = (status: EntityStatus): boolean => status !== 'stopping' && !isTerminal(status)
