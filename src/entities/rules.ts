/**
 * The rules of spawning and signalling, the same for a request over HTTP (which is refused before a workflow is started) and for the
 * activity (which serves callers who start workflows themselves). Look-ups are batched by the directory.
 */

import type { Rules } from '../activities/parts.js'
import { carriedTrace } from '../activities/tracing.js'
import { chooseDispatchPolicy, isClaimable, isWebhookUrl } from '../domain/dispatch-policy.js'
import { type DispatchPolicy, type EntityType, isTerminal, type SandboxSelection } from '../domain/entity.js'
import { effectiveSchemas } from '../domain/entity-types.js'
import { AgentsError, errors } from '../domain/errors.js'
import { type EntityUrl, parseEntityUrl, typeOf } from '../domain/ids.js'
import { validate } from '../domain/json-schema.js'
import { refuseShape } from '../domain/json-shape.js'
import type { Limits } from '../domain/limits.js'
import { refuseMessage } from '../domain/messages.js'
import type { ForkItem, SignalItem, SpawnItem } from '../domain/operations.js'
import { knownPrincipal, type Principal } from '../domain/principals.js'
import { type AdvertisedProfiles, chosenSandbox, resolveSandbox } from '../domain/sandbox.js'
import { spawnAddressRefusal } from '../domain/spawn-address.js'
import { planPrincipal, planSpawn, type SpawnPlan } from '../domain/spawn-plan.js'
import { refuseTags } from '../domain/tags.js'
import type { EntityHead, FoundEntity } from '../registry/entities.js'
import type { RegisteredType } from '../registry/entity-types.js'
import { authorize, authorizeRunner, type JudgedPrincipal, type PermissionOn, type Resource } from './authorize.js'
import type { Directory } from './directory.js'
import { signalFormRefusal, spawnFormRefusal } from './item-forms.js'

export interface CheckedSpawn {
  readonly principal: Principal
  readonly type: EntityType
  readonly parent: EntityHead | null
  readonly sandbox: SandboxSelection | null
}

export class EntityRules implements Rules {
  readonly #directory: Directory
  readonly #limits: Limits
  readonly #advertised: AdvertisedProfiles

  constructor(directory: Directory, limits: Limits, advertised: AdvertisedProfiles) {
    this.#directory = directory
    this.#limits = limits
    this.#advertised = advertised
  }

  async planSpawn(item: SpawnItem, seed: string): Promise<SpawnPlan | AgentsError> {
    return await asValue(async () => {
      refuseWith(spawnFormRefusal(item, this.#limits.maxJsonDepth + 1)) // an item holds what a body holds one level deeper
      return planSpawn({ item, ...(await this.checkSpawn(item)), atMs: Date.now(), seed })
    })
  }

  /**
   * spec/02 §6.2, all rows but 4 (the body's form) and 13 (whether the URL is free). Throws the first refusal. `addressed`: the type, where rows 1-3 have
   * been asked.
   */
  async checkSpawn(item: SpawnItem, caller: JudgedPrincipal = callerOf(item), addressed?: RegisteredType): Promise<CheckedSpawn> {
    const registered = addressed ?? (await this.checkSpawnAddress(item.url))
    const authorized = authorizing(item, caller)
    await authorized('spawn', registered)
    const { type } = registered
    const parent = item.parent ? await this.#parent(item.parent, authorized) : null
    const policy = chooseDispatchPolicy({
      ...(item.dispatchPolicy === undefined ? {} : { requested: item.dispatchPolicy }),
      parent: parent?.dispatch_policy ?? null,
      typeDefault: type.default_dispatch_policy,
    })
    await this.checkDispatch(policy, caller)
    if (item.args !== undefined && type.creation_schema !== null) refuseViolations(validate(type.creation_schema, item.args))
    const sandbox = await this.#sandbox(item, parent, policy)
    const late = (sandbox instanceof AgentsError ? sandbox : null) ?? this.#formRefusal(item) ?? firstMessageRefusal(item, type)
    if (late !== null) throw (await this.isTaken(item.url)) ? errors.DUPLICATE_URL(item.url) : late // row 13 before rows 14 and 15
    return { principal: caller, type, parent, sandbox: sandbox as Exclude<typeof sandbox, AgentsError> } // refused above
  }

  /** Rows 9 and 10, of spawn and fork: spec/06 §9. Throws the first refusal of the policy that an entity is about to get. */
  async checkDispatch(policy: DispatchPolicy | null, caller: Principal): Promise<void> {
    const [target] = policy?.targets ?? []
    if (target?.type === 'webhook' && !isWebhookUrl(target.url))
      throw errors.INVALID_REQUEST('dispatch_policy target url must be an absolute http(s) URL')
    if (target?.type !== 'runner') return
    const runner = await this.#directory.runner(target.runnerId)
    if (runner === null) throw errors.RUNNER_NOT_FOUND(target.runnerId)
    authorizeRunner(caller, runner, errors.RUNNER_NOT_OWNED)
    if (!isClaimable(target)) throw errors.FOREIGN_RUNNER_SUBSCRIPTION(target.subscription_id ?? '', target.runnerId)
  }

  /** Row 14: spec/02 §8. */
  async #sandbox({ sandbox }: SpawnItem, parent: EntityHead | null, policy: DispatchPolicy | null) {
    const choice = chosenSandbox(sandbox, parent?.sandbox ?? null)
    return choice === null ? null : await resolveSandbox(choice, policy, this.#advertised)
  }

  /** Rows 1–3: what no body can mend. The entity's type. */
  async checkSpawnAddress(url: string): Promise<RegisteredType> {
    const name = this.checkAddress(url)
    const registered = await this.#directory.type(name)
    if (registered === null) throw errors.UNKNOWN_ENTITY_TYPE(name)
    return registered
  }

  /** Rows 1 and 2. The name of the entity's type. */
  checkAddress(url: string): string {
    refuseWith(spawnAddressRefusal(url))
    return typeOf(url as EntityUrl) // not refused: it parses
  }

  async planPrincipals(principals: readonly string[]): Promise<readonly SpawnPlan[]> {
    const plans = await Promise.all(principals.map((principal) => this.#planPrincipal(principal)))
    return plans.filter((plan) => plan !== null)
  }

  async #planPrincipal(text: unknown): Promise<SpawnPlan | null> {
    if (typeof text !== 'string') return null // a workflow's input may be anything; who is malformed is refused as such
    const parsed = knownPrincipal(text)
    if ('refused' in parsed || (await this.#directory.entity(entityUrlOf(parsed.principal))) !== null) return null
    const registered = await this.#directory.type('principal')
    return registered === null ? null : planPrincipal(parsed.principal, registered.type, Date.now())
  }

  async refuseSignal(item: SignalItem): Promise<AgentsError | null> {
    const refusal = await asValue(async () => {
      refuseWith(signalFormRefusal(item, this.#limits.maxJsonDepth + 1))
      await this.checkSignal(item, await this.lookUp(item.url))
    })
    return refusal instanceof AgentsError ? refusal : null
  }

  /** spec/05 §1.2, rows 3, 4 and 6, for the entity that was found in row 1. Throws the first refusal. */
  async checkSignal(item: SignalItem, entity: FoundEntity, caller: JudgedPrincipal = callerOf(item)): Promise<void> {
    await authorizing(item, caller)(item.permission, entity)
    if (entity.type === 'principal') throw errors.PRINCIPAL_REFUSES(item.permission === 'delete' ? 'killed' : 'signaled')
    if (isTerminal(entity.status)) throw errors.INVALID_SIGNAL(entity.status)
  }

  /** The entity at `url`, or 404 in the words of spec/03 §1.3. */
  async lookUp(url: string): Promise<FoundEntity> {
    const parsed = parseEntityUrl(url)
    if (parsed === null) throw errors.ENTITY_NOT_FOUND(url)
    const entity = await this.#directory.entity(parsed)
    if (entity !== null) return entity
    const type = await this.#directory.type(typeOf(parsed))
    throw type === null ? errors.UNKNOWN_ENTITY_TYPE(typeOf(parsed)) : errors.ENTITY_NOT_FOUND(url)
  }

  /** The parent that a spawn or fork names. */
  async checkParent(url: string, item: SpawnItem | ForkItem, caller: JudgedPrincipal): Promise<FoundEntity> {
    return await this.#parent(url, authorizing(item, caller))
  }

  async isTaken(url: EntityUrl): Promise<boolean> {
    return (await this.#directory.entity(url)) !== null
  }

  async #parent(url: string, authorized: Authorizing): Promise<FoundEntity> {
    const parsed = parseEntityUrl(url)
    const parent = parsed === null ? null : await this.#directory.entity(parsed)
    if (parent === null) throw errors.PARENT_NOT_FOUND()
    await authorized('spawn', parent)
    if (isTerminal(parent.status)) throw errors.NOT_RUNNING() // spec/02 §6.2, FREE: an orphan is refused, not made
    return parent
  }

  /** What a row cannot hold. */
  #formRefusal({ args, tags, dispatchPolicy, sandbox }: SpawnItem): AgentsError | null {
    const rows = [args ?? {}, tags ?? {}, dispatchPolicy ?? {}, sandbox ?? {}]
    return refuseShape(rows, { maxDepth: this.#limits.maxJsonDepth + 1, storable: true }) ?? refuseTags(tags ?? {}, this.#limits)
  }
}

/** spec/03 §2.3, with the schemas that the entity is about to get. */
function firstMessageRefusal({ initialMessage }: SpawnItem, type: EntityType): AgentsError | null {
  if (initialMessage === undefined) return null
  return refuseMessage(effectiveSchemas(type, type).inbox, initialMessage.type, initialMessage.payload)
}

/** A principal's URL is an entity URL by construction. */
export const entityUrlOf = (principal: Principal): EntityUrl => principal.url as string as EntityUrl

export type Authorizing = <Asked extends Resource>(permission: PermissionOn<Asked>, resource: Asked) => Promise<void>

/** Asks for the item's caller, unless the embedding program has spoken already. */
export const authorizing =
  ({ authorized }: { readonly authorized?: true }, caller: JudgedPrincipal): Authorizing =>
  async (permission, resource) => {
    if (authorized !== true) await authorize(caller, permission, resource)
  }

/**
 * The item as its operation carries it: with the trace of its request, and with what the embedding program has allowed, which is not asked
 * again where it cannot be asked.
 */
export const carriedBy = <Item extends SpawnItem | SignalItem | ForkItem>(caller: JudgedPrincipal, item: Item): Item => ({
  ...item,
  ...carriedTrace(),
  ...(caller.judge === undefined ? {} : { authorized: true }),
})

/** Whoever starts a workflow with a malformed caller is refused like a malformed header. */
export function callerOf(item: { readonly principal: string }): Principal {
  const parsed = knownPrincipal(item.principal)
  if ('refused' in parsed) throw errors.INVALID_PRINCIPAL(parsed.refused)
  return parsed.principal
}

function refuseWith(refusal: AgentsError | null): void {
  if (refusal !== null) throw refusal
}

function refuseViolations(violations: readonly unknown[]): void {
  if (violations.length > 0) throw errors.SCHEMA_VALIDATION_FAILED().withDetails(violations)
}

/** A refusal as a value; everything else is thrown. */
export async function asValue<Result>(work: () => Promise<Result>): Promise<Result | AgentsError> {
  try {
    return await work()
  } catch (failure) {
    if (failure instanceof AgentsError) return failure
    throw failure
  }
}
