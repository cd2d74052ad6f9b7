/**
 * The embedding program's last word on every check (spec/12 §5).
 *
 * J1  Asked after the built-in rules, about everything but bypass principals; its answer stands in both directions.
 * J2  A hook that throws, hangs or answers nonsense denies; the reason is logged, never shown.
 * J3  An answer is remembered only while its own `expires_at` lies in the future, and for the same tenant, principal, verb and resource.
 *
 * What is remembered is lost with the process, and asked again.
 */
import { LRUCache } from 'lru-cache'
import type { Principal } from '../domain/principals.js'
import type { EntityHead } from '../registry/entities.js'
import type { RegisteredType } from '../registry/entity-types.js'
import type { Check, EntityPermission, Judge, Resource } from './authorize.js'
import { publicEntity, publicType } from './public.js'

export interface RequestFacts {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
}

export interface AuthorizationInput {
  readonly tenant: string
  readonly principal: Principal
  readonly verb: EntityPermission
  readonly resource: AuthorizedResource
  /** Absent in listings. */
  readonly request?: RequestFacts
  readonly builtInAllowed: boolean
}

export type AuthorizedResource =
  | { readonly kind: 'entity'; readonly entity: object }
  | { readonly kind: 'entity_type'; readonly entityType: object }
  | { readonly kind: 'entity_type_registration'; readonly entityTypeName: string }
  | { readonly kind: 'shared_state'; readonly sharedStateId: string; readonly linkedEntityUrls: readonly string[] }

export interface AuthorizationAnswer {
  readonly decision: 'allow' | 'deny'
  /** A time until which the answer may be remembered. */
  readonly expires_at?: string | number | Date
}

export type AuthorizeRequest = (input: AuthorizationInput) => Promise<AuthorizationAnswer> | AuthorizationAnswer

export interface AuthorizationHookOptions {
  readonly tenant: string
  readonly warn: (failure: unknown, text: string) => void
  /** How long the hook may take. */
  readonly limitMs?: number
}

const maxRemembered = 10_000
const defaultLimitMs = 10_000

export class AuthorizationHook {
  readonly #ask: AuthorizeRequest
  readonly #options: AuthorizationHookOptions
  readonly #remembered = new LRUCache<string, AuthorizationAnswer['decision']>({ max: maxRemembered })

  constructor(ask: AuthorizeRequest, options: AuthorizationHookOptions) {
    this.#ask = ask
    this.#options = options
  }

  /** The judge of one request. */
  judge(request: RequestFacts): Judge {
    return async (check) => (await this.#decisionOn(check, request)) === 'allow'
  }

  async #decisionOn(check: Check, request: RequestFacts): Promise<AuthorizationAnswer['decision']> {
    const key = JSON.stringify([this.#options.tenant, check.principal.url, check.permission, identityOf(check.resource)])
    const remembered = this.#remembered.get(key)
    if (remembered !== undefined) return remembered // J3
    const { kind, id, key: principalKey, url } = check.principal
    const answer = await this.#answerTo({
      tenant: this.#options.tenant,
      principal: { kind, id, key: principalKey, url },
      verb: check.permission,
      resource: shownTo(check.resource),
      ...(check.inListing ? {} : { request }),
      builtInAllowed: check.allowedByRules,
    })
    const ttl = answer.expires_at === undefined ? 0 : new Date(answer.expires_at).getTime() - Date.now()
    if (ttl >= 1) this.#remembered.set(key, answer.decision, { ttl: Math.floor(ttl) })
    return answer.decision
  }

  /** J2. */
  async #answerTo(input: AuthorizationInput): Promise<AuthorizationAnswer> {
    let timer: NodeJS.Timeout | undefined
    const { limitMs = defaultLimitMs } = this.#options
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${limitMs} ms`)), limitMs)
    })
    try {
      const answer: Partial<AuthorizationAnswer> | null | undefined = await Promise.race([this.#ask(input), late])
      if (answer?.decision === 'allow' || answer?.decision === 'deny') return answer as AuthorizationAnswer // just checked
      throw new Error('the answer has neither decision "allow" nor "deny"')
    } catch (failure) {
      this.#options.warn(failure, 'the authorization hook failed; the request is denied')
      return { decision: 'deny' }
    } finally {
      clearTimeout(timer)
    }
  }
}

function identityOf(resource: Resource): readonly string[] {
  if ('url' in resource) return ['entity', resource.url]
  if ('managers' in resource) return ['entity_type', resource.type.name]
  if ('freeName' in resource) return ['entity_type_registration', resource.freeName]
  return ['shared_state', resource.sharedStateId]
}

/** Resources as readers see them: nothing internal leaves through the hook. */
function shownTo(resource: Resource): AuthorizedResource {
  if ('url' in resource) return { kind: 'entity', entity: isHead(resource) ? publicEntity(resource) : { url: resource.url } }
  if ('managers' in resource) return { kind: 'entity_type', entityType: publicType((resource as RegisteredType).type) } // of the directory
  if ('freeName' in resource) return { kind: 'entity_type_registration', entityTypeName: resource.freeName }
  const linkedEntityUrls = [...new Set(resource.linked.map(({ url }) => url))]
  return { kind: 'shared_state', sharedStateId: resource.sharedStateId, linkedEntityUrls }
}

const isHead = (entity: object): entity is EntityHead => 'status' in entity
