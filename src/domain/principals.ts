/** Principals: who calls (spec/12 §1). */
import { entityUrl, type PrincipalUrl } from './ids.js'

export const principalKinds = ['user', 'agent', 'service', 'system'] as const
export type PrincipalKind = (typeof principalKinds)[number]

export interface Principal {
  readonly kind: PrincipalKind
  readonly id: string
  /** `<kind>:<id>`. */
  readonly key: string
  readonly url: PrincipalUrl
}

export type PrincipalParse = { readonly principal: Principal } | { readonly refused: string }

/** Parses `<kind>:<id>`; the reason of a refusal is one of the three texts of spec/12 §1.1. */
function parseKey(key: string): PrincipalParse {
  const colon = key.indexOf(':')
  if (colon <= 0) return { refused: 'Invalid principal identifier' }
  const kind = principalKinds.find((known) => known === key.slice(0, colon))
  return kind === undefined ? { refused: 'Invalid principal kind' } : principalOf(kind, key.slice(colon + 1))
}

/**
 * What an embedding program says, whatever its types say: its kind and id, and what follows from them. Nobody else can say that he is an agent by its
 * path (`agent:<type>/<id>`, spec/01 §3).
 */
export function checkPrincipal(said: unknown): PrincipalParse {
  const { kind: name, id, key }: { readonly [Name in keyof Principal]?: unknown } = Object(said)
  const kind = principalKinds.find((known) => known === name)
  if (kind === undefined) return { refused: 'Invalid principal kind' }
  if (typeof id !== 'string' || (key !== undefined && key !== `${kind}:${id}`)) return { refused: 'Invalid principal id' }
  return principalOf(kind, id)
}

function principalOf(kind: PrincipalKind, id: string): PrincipalParse {
  const key = `${kind}:${id}`
  if (id === '' || !id.isWellFormed() || id.includes('\0') || (id.includes('/') && kind !== 'agent'))
    return { refused: 'Invalid principal id' }
  const url = entityUrl('principal', encodeURIComponent(key)) // a principal's entity stands there: no pattern, at most 1,000 bytes
  if (url === null) return { refused: 'Invalid principal id' }
  return { principal: { kind, id, key, url: url as string as PrincipalUrl } }
}

/** Who a caller says that he is: a key, a principal URL, or the un-encoded legacy URL `/principal/user:sam`. */
export const parsePrincipal = (text: string): PrincipalParse => withoutPath(knownPrincipal(text))

/** The same of whoever has been admitted before, as rows, workflows and URLs of entities name him: also an agent by its path. */
export function knownPrincipal(text: string): PrincipalParse {
  if (!text.startsWith('/principal/')) return parseKey(text)
  const segment = text.slice('/principal/'.length)
  if (segment.includes('/')) return { refused: 'Invalid principal identifier' }
  try {
    return parseKey(decodeURIComponent(segment))
  } catch {
    return { refused: 'Invalid principal identifier' }
  }
}

const withoutPath = (parse: PrincipalParse): PrincipalParse =>
  'principal' in parse && parse.principal.id.includes('/') ? { refused: 'Invalid principal id' } : parse

const bypassKeys: ReadonlySet<string> = new Set(['system:framework', 'system:auth-sync', 'system:dev-local'])

/** The built-in system principals pass every permission check (spec/12 §1.5). */
export const isBypass = (principal: Principal): boolean => bypassKeys.has(principal.key)

/** Whose rows a listing shows: everybody's, or those of one owner. */
export type Visibility = { readonly sees: 'all' } | { readonly sees: 'own'; readonly owner: PrincipalUrl }

export const visibilityTo = (principal: Principal): Visibility =>
  isBypass(principal) ? { sees: 'all' } : { sees: 'own', owner: principal.url }
