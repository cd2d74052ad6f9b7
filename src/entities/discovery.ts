/** Asking a serve endpoint what its type is (spec/02 §4). What it answers is judged like a registration of the caller's own. */
import { type Outbound, type OutboundAnswer, OutboundFailure } from '../dispatch/outbound.js'
import { checkCollections, type TypeRegistration } from '../domain/entity-types.js'
import { errors } from '../domain/errors.js'
import type { Limits } from '../domain/limits.js'

const maxRedirects = 3

/** Reads a document as the body of a registration; throws the refusal of a direct body. Members that no registration has are left out. */
export type ParseRegistration = (document: object) => TypeRegistration

export interface DiscoveryParts {
  readonly outbound: Outbound
  readonly parse: ParseRegistration
  readonly limits: Pick<Limits, 'discoveryLimitMs' | 'maxDiscoveryBytes'>
}

export class Discovery {
  readonly #parts: DiscoveryParts

  constructor(parts: DiscoveryParts) {
    this.#parts = parts
  }

  /** The registration that the endpoint answers with; of what the caller sent only name and endpoint count (spec/02 §4, 5). */
  async discover({ name, serve_endpoint }: { readonly name: string; readonly serve_endpoint: string }): Promise<TypeRegistration> {
    const document = documentOf(await this.#ask(serve_endpoint))
    if (document.name !== name) throw errors.SERVE_ENDPOINT_NAME_MISMATCH(shown(document.name), name)
    const { permission_grants: _ignored, ...rest } = document
    const registration = this.#parts.parse(rest)
    checkCollections(registration.externally_writable_collections)
    return { ...registration, serve_endpoint }
  }

  async #ask(url: string): Promise<OutboundAnswer> {
    const { outbound, limits } = this.#parts
    const call = { method: 'PUT', url, limitMs: limits.discoveryLimitMs, maxBytes: limits.maxDiscoveryBytes, maxRedirects } as const
    try {
      return await outbound.call(call)
    } catch (failure) {
      if (failure instanceof OutboundFailure) throw unreachable(failure.message)
      throw failure
    }
  }
}

const unreachable = (reason: string) => errors.SERVE_ENDPOINT_UNREACHABLE(`Failed to reach serve endpoint: ${reason}`)

function documentOf({ status, body }: OutboundAnswer): Readonly<Record<string, unknown>> {
  if (status < 200 || status > 299) throw errors.SERVE_ENDPOINT_UNREACHABLE(`Serve endpoint returned status ${status}`)
  const document = parsed(body.toString('utf8'))
  if (typeof document !== 'object' || document === null || Array.isArray(document)) throw unreachable('the answer is not a JSON object')
  return document as Readonly<Record<string, unknown>> // just checked
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const maxShownName = 200

const shown = (name: unknown): string => (typeof name === 'string' ? name : (JSON.stringify(name) ?? 'undefined')).slice(0, maxShownName)
