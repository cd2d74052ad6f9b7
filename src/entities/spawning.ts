/** Spawning an entity, and making sure that a principal has its own (spec/02 §6, spec/01 §3). */
import { LRUCache } from 'lru-cache'
import { AgentsError, errors } from '../domain/errors.js'
import type { EntityUrl } from '../domain/ids.js'
import type { SpawnItem, SpawnVerdict } from '../domain/operations.js'
import type { Principal } from '../domain/principals.js'
import type { FoundEntity } from '../registry/entities.js'
import type { RegisteredType } from '../registry/entity-types.js'
import { isAllowed, type JudgedPrincipal } from './authorize.js'
import type { Directory } from './directory.js'
import type { Operations } from './operations.js'
import { publicEntity } from './public.js'
import { carriedBy, type EntityRules, entityUrlOf } from './rules.js'

export interface Spawned {
  readonly entity: FoundEntity
  readonly txid: number
}

/** What stands where an entity is to be. */
export interface SpawnAddress {
  readonly registered: RegisteredType
  /** Null: the URL is free. */
  readonly standing: Promise<FoundEntity | null>
}

export interface SpawningParts {
  readonly rules: EntityRules
  readonly directory: Directory
  readonly operations: Operations<SpawnItem, SpawnVerdict>
  /** Makes the entities of those principals that have none. */
  readonly ensurePrincipals: (keys: readonly string[]) => Promise<void>
  readonly ensureUser: (id: string) => Promise<void>
}

const maxRememberedUsers = 10_000

export class Spawning {
  readonly #parts: SpawningParts
  readonly #ensuredUsers = new LRUCache<string, true>({ max: maxRememberedUsers })

  constructor(parts: SpawningParts) {
    this.#parts = parts
  }

  /** spec/02 §6.2, rows 1–3; what `spawn` needs to know of the address is asked for with them. */
  async addressed(url: EntityUrl): Promise<SpawnAddress> {
    const { rules, directory } = this.#parts
    rules.checkAddress(url)
    const standing = directory.entity(url)
    standing.catch(() => undefined) // heard of by `spawn`, unless something else is refused before
    return { registered: await rules.checkSpawnAddress(url), standing }
  }

  /** Spawns `item` at its address for `caller`; throws the refusal. The entity is complete and readable by every replica when this returns. */
  async spawn(item: SpawnItem, address: SpawnAddress, caller: JudgedPrincipal): Promise<Spawned> {
    try {
      return await this.#spawn(item, address, caller)
    } catch (failure) {
      const isDuplicate = failure instanceof AgentsError && failure.refusal.code === 'DUPLICATE_URL'
      throw isDuplicate ? await this.#withExisting(failure, item, caller) : failure
    }
  }

  /** The runtime takes the entity from a duplicate's details and spares itself a request (spec/02 §6.5): where the caller may read it. */
  async #withExisting(duplicate: AgentsError, { url }: SpawnItem, caller: JudgedPrincipal): Promise<AgentsError> {
    const existing = await this.#parts.directory.entity(url)
    if (existing === null || !(await isAllowed(caller, 'read', existing))) return duplicate
    return duplicate.withDetails({ entity: publicEntity(existing) })
  }

  async #spawn(item: SpawnItem, { registered, standing }: SpawnAddress, caller: JudgedPrincipal): Promise<Spawned> {
    const { rules, operations } = this.#parts
    await rules.checkSpawn(item, caller, registered)
    // A URL that is taken is refused without a workflow; the race for a free one is decided by the INSERT.
    if ((await standing) !== null) throw errors.DUPLICATE_URL(item.url)
    const verdict = await operations.run(carriedBy(caller, item))
    if (verdict.outcome === 'refused') throw new AgentsError(verdict.refusal)
    return { entity: await rules.lookUp(item.url), txid: verdict.txid }
  }

  /** The entity of `principal`, made when missing; safe against races. `standing`: the look-up of it, where the caller has begun one. */
  async ensurePrincipal(principal: Principal, standing?: Promise<FoundEntity | null>): Promise<FoundEntity> {
    const { directory, ensurePrincipals, rules } = this.#parts
    const known = await (standing ?? directory.entity(entityUrlOf(principal)))
    if (known !== null) {
      await this.#ensureUser(principal)
      return known
    }
    await ensurePrincipals([principal.key])
    return await rules.lookUp(principal.url)
  }

  /** The row of a user is there whenever its principal writes, also when somebody has removed it (spec/03 §7); asked once per process and user. */
  async #ensureUser({ kind, id }: Principal): Promise<void> {
    if (kind !== 'user' || this.#ensuredUsers.has(id)) return
    await this.#parts.ensureUser(id)
    this.#ensuredUsers.set(id, true)
  }
}
