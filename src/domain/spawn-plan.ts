/** What a spawn writes: the row, the first entry of the stream, the first message. Pure; the same operation plans the same bytes. */
import { chooseDispatchPolicy } from './dispatch-policy.js'
import type { Entity, EntityType, Json, SandboxSelection } from './entity.js'
import { entityCreated, entryOf, identity, inbox, type StateEvent, slashCommand } from './events.js'
import { type EntityUrl, typeOf } from './ids.js'
import type { SpawnItem } from './operations.js'
import { principalArgs, principalTags } from './principal-entity.js'
import type { Principal } from './principals.js'
import { sortedTags } from './tags.js'

export interface SpawnPlan {
  readonly entity: Entity
  /** Body of the stream's first entry. */
  readonly firstEntry: Buffer
  /** Further entries, each an append of its own (spec/02 §6.3). */
  readonly messages: readonly StateEvent[]
}

export function planSpawn(spawn: {
  readonly item: SpawnItem
  readonly principal: Principal
  readonly type: EntityType
  readonly parent: Pick<Entity, 'url' | 'dispatch_policy'> | null
  /** Resolved (spec/02 §8). */
  readonly sandbox: SandboxSelection | null
  readonly atMs: number
  /** Names this spawn within its operation. */
  readonly seed: string
}): SpawnPlan {
  const { item, type, parent, atMs, principal } = spawn
  const args = item.args ?? {}
  const entity: Entity = {
    url: item.url,
    type: typeOf(item.url),
    status: 'idle',
    dispatch_policy: chooseDispatchPolicy({
      ...(item.dispatchPolicy === undefined ? {} : { requested: item.dispatchPolicy }),
      parent: parent?.dispatch_policy ?? null,
      typeDefault: type.default_dispatch_policy,
    }),
    tags: sortedTags(item.tags ?? {}),
    spawn_args: args,
    sandbox: spawn.sandbox,
    parent: parent?.url ?? null,
    created_by: principal.url,
    type_revision: type.revision,
    inbox_schemas: type.inbox_schemas,
    state_schemas: type.state_schemas,
    created_at: atMs,
    updated_at: atMs,
  }
  const created = entityCreated({ type: entity.type, args, parent: entity.parent, atMs })
  const commands = (type.slash_commands ?? []).map((command) => slashCommand(command, atMs))
  return {
    entity,
    firstEntry: entryOf([created, ...commands]),
    messages: item.initialMessage === undefined ? [] : [firstMessage(item.initialMessage, principal, atMs, spawn.seed)],
  }
}

/** Like a send by the caller, but without `from_principal` (spec/02 §6.3). */
function firstMessage(
  message: { readonly payload: Json; readonly type?: string },
  principal: Principal,
  atMs: number,
  seed: string,
): StateEvent {
  return inbox({
    from: principal.url,
    payload: message.payload,
    ...(message.type ? { messageType: message.type } : {}),
    mode: 'immediate',
    atMs,
    seed,
  }).event
}

/** The entity of a principal, at its own URL and owned by itself (spec/01 §3). */
export function planPrincipal(principal: Principal, type: EntityType, atMs: number): SpawnPlan {
  const args = principalArgs(principal)
  const entity: Entity = {
    url: principal.url as string as EntityUrl, // a principal's URL is an entity URL by construction
    type: 'principal',
    status: 'idle',
    dispatch_policy: null,
    tags: principalTags(principal),
    spawn_args: args,
    sandbox: null,
    parent: null,
    created_by: principal.url,
    type_revision: type.revision,
    inbox_schemas: type.inbox_schemas,
    state_schemas: type.state_schemas,
    created_at: atMs,
    updated_at: atMs,
  }
  return {
    entity,
    firstEntry: principalEntry(principal, atMs),
    messages: [],
  }
}

/** The stream of a principal entity that was created at `atMs`. */
export const principalEntry = (principal: Principal, atMs: number): Buffer =>
  entryOf([entityCreated({ type: 'principal', args: principalArgs(principal), parent: null, atMs }), identity(principal, atMs)])
