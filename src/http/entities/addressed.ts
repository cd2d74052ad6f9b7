/** The entity that a route's path names: spec/03 §1.3, the same for every `/_electric/entities/:type/:instanceId/…` route. */
import { errors } from '../../domain/errors.js'
import { type EntityUrl, entityUrl } from '../../domain/ids.js'
import { isBypass, knownPrincipal, type Principal } from '../../domain/principals.js'
import type { FoundEntity } from '../../registry/entities.js'
import type { Parts } from '../parts.js'

export interface EntityAddress {
  readonly type: string
  readonly instanceId: string
}

/** For Fastify's route generics. */
export interface AtEntity {
  readonly Params: EntityAddress
}

type LookUpParts = Pick<Parts, 'directory' | 'principalEntities'>

/** The addressed entity, or 404 (`NOT_FOUND` where the type is registered, `UNKNOWN_ENTITY_TYPE` where not). Asked before body and permission. */
export async function addressedEntity(parts: LookUpParts, principal: Principal, address: EntityAddress): Promise<FoundEntity> {
  if (address.type === 'principal') return await principalEntity(parts, principal, address.instanceId)
  const path = `/${address.type}/${address.instanceId}`
  const url = entityUrl(address.type, address.instanceId)
  const found = url === null ? null : await parts.directory.entity(url)
  if (found !== null) return found
  if (url === null || (await parts.directory.type(address.type)) !== null) throw errors.ENTITY_NOT_FOUND(path)
  throw errors.UNKNOWN_ENTITY_TYPE(address.type)
}

/** Principals may be spelled `user:sam` or `user%3Asam`; both name `/principal/user%3Asam`. */
async function principalEntity(parts: LookUpParts, caller: Principal, instanceId: string): Promise<FoundEntity> {
  const parsed = knownPrincipal(`/principal/${instanceId}`)
  if ('refused' in parsed) throw errors.INVALID_PRINCIPAL(parsed.refused)
  const { principal } = parsed
  const url = canonicalUrl(principal)
  const found = await parts.directory.entity(url)
  if (found !== null) return found
  // Ours: one does not create others by asking for them. Bypass principals may: identity systems address users before these come (spec/12 §1.4).
  if (principal.url !== caller.url && !isBypass(caller)) throw errors.ENTITY_NOT_FOUND(url)
  await parts.principalEntities.ensure(principal)
  const created = await parts.directory.entity(url)
  if (created === null) throw errors.ENTITY_NOT_FOUND(url)
  return created
}

function canonicalUrl(principal: Principal): EntityUrl {
  const url = entityUrl('principal', encodeURIComponent(principal.key))
  if (url === null) throw errors.INVALID_PRINCIPAL('Invalid principal id')
  return url
}
