/** Use cases of entity types: register, amend, delete, list (spec/02 §2–5). */
import type { EntityType } from '../domain/entity.js'
import {
  amended,
  asksForDiscovery,
  checkAmendment,
  checkCollections,
  type TypeAmendment,
  type TypeRegistration,
  typeDefinition,
} from '../domain/entity-types.js'
import { errors } from '../domain/errors.js'
import type { Limits } from '../domain/limits.js'
import { rewriteLoopback } from '../domain/loopback.js'
import { principalType } from '../domain/principal-entity.js'
import { isBypass, type Principal } from '../domain/principals.js'
import type { Database, Queryable, Transaction } from '../registry/database.js'
import {
  addManager,
  deleteEntityType,
  findEntityTypes,
  insertEntityType,
  listEntityTypes,
  lockTypeName,
  type RegisteredType,
  updateTypeSchemas,
  upsertEntityType,
} from '../registry/entity-types.js'
import { authorize, isAllowed } from './authorize.js'
import type { Discovery } from './discovery.js'

export interface EntityTypesOptions {
  readonly limits: Limits
  readonly discovery: Discovery
  /** Where loopback URLs of serve endpoints really are (spec/13 §5.2). */
  readonly rewriteLoopbackTo?: string
}

export class EntityTypes {
  readonly #database: Database
  readonly #options: EntityTypesOptions

  constructor(database: Database, options: EntityTypesOptions) {
    this.#database = database
    this.#options = options
  }

  /** Registers or fully replaces a type; the checks of spec/02 §2.2 in their order, everything before anything is written. */
  async register(principal: Principal, sent: TypeRegistration): Promise<EntityType> {
    checkCollections(sent.externally_writable_collections)
    const registration = this.#reachable(sent)
    await this.#authorizeRegistration(this.#database, principal, registration.name)
    if ((registration.permission_grants ?? []).length > 0) throw errors.NOT_IMPLEMENTED('permission grants')
    const type = typeDefinition(await this.#discovered(registration), this.#options.limits)
    return await this.#database.transaction(async (tx) => {
      await lockTypeName(tx, type.name)
      const existed = await this.#authorizeRegistration(tx, principal, type.name) // again: a race for a free name has one winner
      const registered = await upsertEntityType(tx, type, new Date())
      if (!existed && !isBypass(principal)) await addManager(tx, type.name, principal.url)
      return registered
    })
  }

  /** Anybody may register a free name; an existing type is its managers'. Whether it exists. */
  async #authorizeRegistration(queryable: Queryable, principal: Principal, name: string | undefined): Promise<boolean> {
    if (!name || name.includes('\0')) return false // reported as a bad name in its turn
    const existing = await find(queryable, name)
    await authorize(principal, 'manage', existing ?? { freeName: name })
    return existing !== null
  }

  /** What the serve endpoint says, where the caller leaves the description to it (spec/02 §4); a missing name is refused without asking. */
  async #discovered(sent: TypeRegistration): Promise<TypeRegistration> {
    const { name, serve_endpoint } = sent
    return name && serve_endpoint && asksForDiscovery(sent) ? await this.#options.discovery.discover({ name, serve_endpoint }) : sent
  }

  #reachable(sent: TypeRegistration): TypeRegistration {
    if (!sent.serve_endpoint) return sent
    return { ...sent, serve_endpoint: rewriteLoopback(sent.serve_endpoint, this.#options.rewriteLoopbackTo, 'serve_endpoint') }
  }

  /** Adds schemas; nothing that exists changes, concurrent amendments keep each other's keys (spec/02 §5.1). */
  async amend(principal: Principal, name: string, amendment: TypeAmendment): Promise<EntityType> {
    checkAmendment(name, amendment, this.#options.limits)
    return await this.#database.transaction(async (tx) => {
      const existing = await this.#managed(tx, principal, name)
      return await updateTypeSchemas(tx, name, amended(existing.type, amendment, this.#options.limits), new Date())
    })
  }

  /** Entities of the type stay (spec/02 §5.2). */
  async delete(principal: Principal, name: string): Promise<void> {
    await this.#database.transaction(async (tx) => {
      await this.#managed(tx, principal, name)
      if (name === principalType.name) throw errors.TYPE_BUILT_IN('deleted')
      await deleteEntityType(tx, name)
    })
  }

  async #managed(tx: Transaction, principal: Principal, name: string): Promise<RegisteredType> {
    await lockTypeName(tx, name)
    const existing = await find(tx, name)
    if (existing === null) throw errors.TYPE_NOT_FOUND()
    await authorize(principal, 'manage', existing)
    return existing
  }

  /** The types that `principal` may spawn or manage, by name. */
  async *visibleTo(principal: Principal): AsyncGenerator<readonly EntityType[]> {
    for await (const some of listEntityTypes(this.#database, this.#options.limits.maxListPortionBytes)) {
      const allowed = await Promise.all(some.map((registered) => isAllowed(principal, 'spawn', registered, { inListing: true })))
      yield some.filter((_, index) => allowed[index]).map(({ type }) => type)
    }
  }

  /** The built-in type exists from the start of the server (spec/01 §3). */
  async ensurePrincipalType(): Promise<void> {
    await insertEntityType(this.#database, principalType, new Date())
  }
}

const find = async (queryable: Queryable, name: string): Promise<RegisteredType | null> =>
  (await findEntityTypes(queryable, [name])).get(name) ?? null
