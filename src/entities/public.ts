/** Entities and types as the wire shows them: which members are null and which are left out (spec/01 §5). */
import type { EntityType } from '../domain/entity.js'
import { mainStream } from '../domain/ids.js'
import type { EntityHead, FoundEntity } from '../registry/entities.js'

export type PublicEntity = Omit<EntityHead, 'type_revision' | 'dispatch_policy' | 'sandbox' | 'parent' | 'created_by'> & {
  readonly streams: { readonly main: string }
} & Partial<Pick<EntityHead, 'dispatch_policy' | 'sandbox' | 'parent' | 'created_by'>>

/** Members are written out, in the order of the spec's example: what is not named here can never leak. */
export function publicEntity(entity: EntityHead): PublicEntity {
  return {
    url: entity.url,
    type: entity.type,
    status: entity.status,
    streams: { main: mainStream(entity.url) },
    ...(entity.dispatch_policy === null ? {} : { dispatch_policy: entity.dispatch_policy }),
    tags: entity.tags,
    spawn_args: entity.spawn_args,
    ...(entity.sandbox === null ? {} : { sandbox: entity.sandbox }),
    ...(entity.parent === null ? {} : { parent: entity.parent }),
    ...(entity.created_by === null ? {} : { created_by: entity.created_by }),
    created_at: entity.created_at,
    updated_at: entity.updated_at,
  }
}

/** `GET` of one entity also shows which collections its type opens to external writers. */
export function publicFoundEntity(entity: FoundEntity): PublicEntity & Partial<Pick<EntityType, 'externally_writable_collections'>> {
  const shown = publicEntity(entity)
  return entity.writable_collections === null ? shown : { ...shown, externally_writable_collections: entity.writable_collections }
}

/** Unset schemas are `null`, other unset members are left out (spec/01 §5.1). Written out, as above. */
export function publicType(type: EntityType): object {
  return {
    name: type.name,
    description: type.description,
    creation_schema: type.creation_schema,
    inbox_schemas: type.inbox_schemas,
    state_schemas: type.state_schemas,
    slash_commands: type.slash_commands ?? undefined, // JSON.stringify leaves undefined members out
    externally_writable_collections: type.externally_writable_collections ?? undefined,
    serve_endpoint: type.serve_endpoint ?? undefined,
    default_dispatch_policy: type.default_dispatch_policy ?? undefined,
    revision: type.revision,
    created_at: type.created_at,
    updated_at: type.updated_at,
  }
}
