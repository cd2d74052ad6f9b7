/** Who calls: resolved once per request, before routing (spec/12 §1.3). */
import type { FastifyRequest } from 'fastify'
import { errors } from '../domain/errors.js'
import { checkPrincipal, type Principal, parsePrincipal } from '../domain/principals.js'
import type { AuthorizationHook, RequestFacts } from '../entities/authorization-hook.js'
import type { JudgedPrincipal } from '../entities/authorize.js'

declare module 'fastify' {
  interface FastifyRequest {
    principal: JudgedPrincipal
  }
}

/** The embedding program's own authentication; it gets the request without its body. */
export type AuthenticateRequest = (request: Request) => Promise<Principal | null | undefined> | Principal | null | undefined

export interface Authentication {
  /** The embedding program's last word on permissions; absent: the built-in rules alone. */
  readonly hook?: AuthorizationHook
  readonly authenticateRequest?: AuthenticateRequest
  /** Requests without a principal act as `system:dev-local`. */
  readonly allowDevFallback: boolean
  /** Refuses `system:*` in the header: any caller could otherwise claim a bypass principal. */
  readonly refuseSystemHeader: boolean
}

/** Whether the development fallback is on (spec/12 §1.3): an explicit option wins, then `ELECTRIC_INSECURE`, then `NODE_ENV`. */
export function devFallbackAllowed(environment: NodeJS.ProcessEnv, option?: boolean): boolean {
  if (option !== undefined) return option
  return environment.ELECTRIC_INSECURE?.trim() === 'true' || environment.NODE_ENV?.trim() !== 'production'
}

function parsed(text: string): Principal {
  const result = parsePrincipal(text)
  if ('refused' in result) throw errors.INVALID_PRINCIPAL(result.refused)
  return result.principal
}

export const devPrincipal: Principal = parsed('system:dev-local')

export async function resolvePrincipal(request: FastifyRequest, authentication: Authentication): Promise<JudgedPrincipal> {
  const principal = await identified(request, authentication)
  const { hook } = authentication
  return hook === undefined ? principal : { ...principal, judge: hook.judge(factsOf(request)) }
}

/** Header values as they came, several of one name joined. */
function factsOf({ method, headers, originalUrl }: FastifyRequest): RequestFacts {
  const texts = Object.entries(headers).flatMap(([name, value]) => (value === undefined ? [] : [[name, [value].flat().join(', ')]]))
  const base = `http://${headers.host ?? 'localhost'}`
  const url = URL.canParse(originalUrl, base) ? new URL(originalUrl, base).href : originalUrl
  return { method, url, headers: Object.fromEntries(texts) }
}

async function identified(request: FastifyRequest, authentication: Authentication): Promise<Principal> {
  if (authentication.authenticateRequest !== undefined) return await fromCallback(request, authentication.authenticateRequest)
  const header = request.headers['electric-principal']
  if (header !== undefined) return fromHeader(String(header), authentication)
  if (authentication.allowDevFallback) return devPrincipal
  throw errors.MISSING_PRINCIPAL()
}

function fromHeader(header: string, { refuseSystemHeader }: Authentication): Principal {
  const principal = parsed(header.trim()) // a malformed header is refused, it never falls back (spec/12 §1.3 b)
  if (refuseSystemHeader && principal.kind === 'system') throw errors.MISSING_PRINCIPAL()
  return principal
}

/** A callback that names nobody means nobody: the header is not trusted then (spec/12 §1.3 a). */
async function fromCallback(request: FastifyRequest, authenticate: AuthenticateRequest): Promise<Principal> {
  const principal = await answerOf(request, authenticate)
  if (principal === null || principal === undefined) throw errors.MISSING_PRINCIPAL()
  const checked = checkPrincipal(principal)
  if ('refused' in checked) throw errors.INVALID_PRINCIPAL(checked.refused)
  return checked.principal
}

async function answerOf(request: FastifyRequest, authenticate: AuthenticateRequest) {
  try {
    return await authenticate(webRequest(request))
  } catch (failure) {
    throw errors.INVALID_PRINCIPAL(failure instanceof Error && failure.message !== '' ? failure.message : 'Invalid principal')
  }
}

function webRequest(request: FastifyRequest): Request {
  const headers = new Headers()
  for (let index = 0; index < request.raw.rawHeaders.length; index += 2) {
    headers.append(request.raw.rawHeaders[index] ?? '', request.raw.rawHeaders[index + 1] ?? '')
  }
  return new Request(new URL(request.originalUrl, `http://${request.headers.host ?? 'localhost'}`), { method: request.method, headers })
}
