/**
 * The one place that says who may do what (spec/12 §2–6). Every route and every stream access asks here; no route decides by itself.
 *
 * Now: bypass principals, owners of entities, managers of types. Grants (spec/12 §7) join in `isAllowedByRules`, and change nothing for the callers.
 * An embedding program may have the last word: its judge travels with the principal of the request (`JudgedPrincipal`).
 */

import { type AgentsError, errors } from '../domain/errors.js'
import type { PrincipalUrl } from '../domain/ids.js'
import { isBypass, type Principal } from '../domain/principals.js'

export type EntityPermission = 'read' | 'write' | 'delete' | 'signal' | 'fork' | 'schedule' | 'spawn' | 'manage'
export type TypePermission = 'spawn' | 'manage'

/** An entity: its owner decides. */
export interface OwnedEntity {
  readonly url: string
  readonly created_by: PrincipalUrl | null
}

/** An entity type: its managers decide. */
export interface ManagedType {
  readonly type: { readonly name: string }
  readonly managers: readonly PrincipalUrl[]
}

/** A name that no type has: anybody may register it (spec/12 §4). */
export interface FreeTypeName {
  readonly freeName: string
}

/** A shared state: whoever may do the same with one of the entities that it is linked to (spec/12 §9). */
export interface SharedState {
  readonly sharedStateId: string
  readonly linked: readonly OwnedEntity[]
}

export type Resource = OwnedEntity | ManagedType | FreeTypeName | SharedState
export type PermissionOn<Asked extends Resource> = Asked extends OwnedEntity
  ? EntityPermission
  : Asked extends ManagedType
    ? TypePermission
    : Asked extends FreeTypeName
      ? 'manage'
      : 'read' | 'write'

/** One check, as the embedding program is asked about it. */
export interface Check {
  readonly principal: Principal
  readonly permission: EntityPermission
  readonly resource: Resource
  readonly allowedByRules: boolean
  /** One of many checks of a listing, which are about no request in particular (spec/12 §5). */
  readonly inListing: boolean
}

export type Judge = (check: Check) => Promise<boolean>

/** A principal that came with a request to a program with a hook of its own. */
export interface JudgedPrincipal extends Principal {
  readonly judge?: Judge
}

/** Passes, or refuses with 401 and the text that spec/12 §6 gives to the permission. */
export async function authorize<Asked extends Resource>(
  principal: JudgedPrincipal,
  permission: PermissionOn<Asked>,
  resource: Asked,
): Promise<void> {
  if (!(await isAllowed(principal, permission, resource))) throw refusalOf(permission, resource)
}

export async function isAllowed<Asked extends Resource>(
  principal: JudgedPrincipal,
  permission: PermissionOn<Asked>,
  resource: Asked,
  { inListing = false } = {},
): Promise<boolean> {
  if (isBypass(principal)) return true // spec/12 §1.5: without calling the hook
  const allowedByRules = isAllowedByRules(principal, resource)
  return principal.judge === undefined
    ? allowedByRules
    : await principal.judge({ principal, permission, resource, allowedByRules, inListing })
}

/**
 * Passes, or refuses with 403. A runner is its owner's alone: no bypass helps (spec/07 §2, spec/12 §1.5), and no embedding program is asked, whose
 * verbs have no word for it.
 */
export function authorizeRunner(
  principal: Pick<Principal, 'url'>,
  runner: { readonly owner_principal: PrincipalUrl },
  refusal: () => AgentsError = errors.RUNNER_ACCESS_REFUSED,
): void {
  if (runner.owner_principal !== principal.url) throw refusal()
}

/** Ownership of an entity, and management of a type, imply every permission on it. */
function isAllowedByRules(principal: Principal, resource: Resource): boolean {
  if ('url' in resource) return resource.created_by === principal.url
  if ('managers' in resource) return resource.managers.includes(principal.url)
  if ('freeName' in resource) return true
  return resource.linked.some((entity) => isAllowedByRules(principal, entity))
}

function refusalOf(permission: string, resource: Resource) {
  if ('url' in resource) return errors.NOT_ALLOWED(permission === 'spawn' ? 'spawn children from' : permission, resource.url)
  if ('managers' in resource) return errors.NOT_ALLOWED(permission, resource.type.name)
  if ('freeName' in resource) return errors.NOT_ALLOWED('register', 'entity types')
  return errors.NOT_ALLOWED(permission, 'shared state')
}
