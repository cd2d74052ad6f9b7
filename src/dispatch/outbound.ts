/**
 * Every call that the server makes to a URL which a client gave it (spec/02 §4).
 *
 * O1  The address is judged when the connection is opened, on what the name resolved to at that moment, for each redirect again.
 * O2  A call has one deadline for all of it; its answer is at most `maxBytes` long; it follows at most `maxRedirects` redirects.
 * O3  Calls in flight are bounded; beyond that they are refused (`OVERLOADED`).
 * O4  Nothing is sent but what the caller names: no cookies, no credentials, and no headers to another origin than the first.
 *
 * A crash loses the call; whoever must know that it happened writes that down before.
 */
import { type LookupAddress, lookup as resolve } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { types } from 'node:util'
import { Agent, buildConnector, type Dispatcher, request } from 'undici'
import { carriedTrace } from '../activities/tracing.js'
import { errors } from '../domain/errors.js'
import type { OutboundPolicy } from './outbound-policy.js'

export interface OutboundCall {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer | string
  readonly limitMs: number
  readonly maxBytes: number
  readonly maxRedirects: number
}

export interface OutboundAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly body: Buffer
}

/** Why there is no answer, in words that may be shown to the client. */
export class OutboundFailure extends Error {
  /** Its time ran out: nobody has refused it, and it may have arrived. */
  readonly isLate: boolean

  constructor(reason: string, { isLate = false, ...options }: ErrorOptions & { readonly isLate?: boolean } = {}) {
    super(reason, options)
    this.name = 'OutboundFailure'
    this.isLate = isLate
  }
}

export interface OutboundOptions {
  readonly policy: OutboundPolicy
  readonly maxCalls: number
}

/** What `lookup` resolves a name with; tests give their own. */
export type Resolve = (host: string, answer: (failure: Error | null, addresses: readonly LookupAddress[]) => void) => void

const byDns: Resolve = (host, answer) => resolve(host, { all: true }, (failure, addresses) => answer(failure, addresses ?? []))
const refusedAddress = 'the address is not allowed'
const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

export class Outbound {
  readonly #agent: Agent
  readonly #maxCalls: number
  readonly #calls = new Set<Promise<OutboundAnswer>>()

  constructor({ policy, maxCalls }: OutboundOptions, resolveName: Resolve = byDns) {
    this.#maxCalls = maxCalls
    this.#agent = new Agent({ connect: guarded(policy, resolveName), pipelining: 1, keepAliveTimeout: 1_000, maxHeaderSize: 16_384 })
  }

  /** The final answer, whatever its status. Throws `OutboundFailure` where there is none. */
  async call(call: OutboundCall): Promise<OutboundAnswer> {
    if (this.#calls.size >= this.#maxCalls) throw errors.OVERLOADED('outgoing calls').retryAfter(1) // O3
    const deadline = AbortSignal.timeout(call.limitMs)
    const answer = this.#follow(call, deadline).finally(() => {
      this.#calls.delete(answer) // not before: what is still resolving or connecting is in flight, whoever waits for it (O3)
    })
    this.#calls.add(answer)
    try {
      return await Promise.race([answer, expiryOf(deadline)]) // O2: undici ends a request that has no connection yet only when connecting ends
    } catch (failure) {
      if (failure instanceof OutboundFailure) throw failure
      const isLate = deadline.aborted || causesOf(failure).some(({ code = '' }) => lateCodes.has(code))
      throw new OutboundFailure(deadline.aborted ? `no answer within ${call.limitMs / 1000} s` : reasonOf(failure), {
        cause: failure,
        isLate,
      })
    }
  }

  /** The calls of this moment are over. */
  async drained(): Promise<void> {
    await Promise.allSettled(this.#calls)
  }

  /** Cuts the calls in flight: they fail. */
  async close(): Promise<void> {
    await this.#agent.destroy()
  }

  async #follow(call: OutboundCall, deadline: AbortSignal): Promise<OutboundAnswer> {
    let step = { url: httpUrlOf(call.url), method: call.method, body: call.body, headers: call.headers }
    for (let redirects = 0; ; redirects += 1) {
      const response = await this.#send(step, call, deadline)
      const location = redirectStatuses.has(response.statusCode) ? one(response.headers.location) : undefined
      if (location === undefined) return await answerOf(response, call.maxBytes)
      response.body.on('error', () => undefined).destroy()
      if (redirects === call.maxRedirects) throw new OutboundFailure(`more than ${call.maxRedirects} redirects`)
      step = redirected(step, response.statusCode, location)
    }
  }

  async #send({ url, method, headers, body }: Step, { limitMs }: OutboundCall, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    return await request(url.href, {
      dispatcher: this.#agent,
      method,
      signal,
      headersTimeout: limitMs,
      bodyTimeout: limitMs,
      headers: { ...headers, ...carriedTrace().trace },
      ...(body === undefined ? {} : { body }),
    })
  }
}

async function expiryOf(deadline: AbortSignal): Promise<never> {
  return await new Promise((_, reject) => {
    deadline.addEventListener('abort', () => reject(deadline.reason), { once: true })
  })
}

interface Step {
  readonly url: URL
  readonly method: OutboundCall['method']
  readonly headers: OutboundCall['headers']
  readonly body: OutboundCall['body']
}

/** As browsers do: 303 becomes a GET, and so does a POST that is moved; all others keep their method and body. */
function redirected({ url, method, headers, body }: Step, status: number, location: string): Step {
  if (!URL.canParse(location, url.href)) throw new OutboundFailure('the redirect has no valid target')
  const target = httpUrlOf(new URL(location, url).href)
  const kept = target.origin === url.origin ? headers : undefined // O4
  if (status === 303 || (method === 'POST' && (status === 301 || status === 302)))
    return { url: target, method: 'GET', headers: kept, body: undefined }
  return { url: target, method, headers: kept, body }
}

function httpUrlOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) throw new OutboundFailure('only http(s) URLs are called')
  url.username = '' // O4
  url.password = ''
  return url
}

async function answerOf(response: Dispatcher.ResponseData, maxBytes: number): Promise<OutboundAnswer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response.body as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new OutboundFailure(`the answer exceeds ${maxBytes} bytes`) // leaving the loop destroys the body
    chunks.push(chunk)
  }
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }
}

const one = (header: string | readonly string[] | undefined): string | undefined => (typeof header === 'object' ? header[0] : header)

/** O1. Names are resolved here, and only allowed addresses are handed on; a literal address is never resolved, so it is judged before. */
function guarded(policy: OutboundPolicy, resolveName: Resolve): buildConnector.connector {
  const lookup: LookupFunction = (host, options, answer) =>
    resolveName(host, (failure, addresses) => {
      if (failure !== null) return answer(failure, [])
      const allowed = addresses.filter(({ address }) => policy.allows(address, host))
      const [first] = allowed
      if (first === undefined) return answer(new OutboundFailure(refusedAddress), [])
      return options.all ? answer(null, allowed) : answer(null, first.address, first.family)
    })
  const connect = buildConnector({ lookup, autoSelectFamily: true, timeout: 10_000 })
  return (options, answer) => {
    const literal = options.hostname.replace(/^\[|\]$/g, '')
    if (isIP(literal) !== 0 && !policy.allows(literal, literal)) return answer(new OutboundFailure(refusedAddress), null)
    return connect(options, answer)
  }
}

/** What went wrong, without what only the inside should know (addresses that a name resolved to, stack traces). */
function reasonOf(failure: unknown): string {
  const chain = causesOf(failure)
  const ours = chain.find((cause) => cause instanceof OutboundFailure)
  if (ours !== undefined) return ours.message
  const code = chain.map((cause) => cause.code).find((known) => known !== undefined && knownReasons[known] !== undefined)
  return code === undefined ? 'the connection failed' : (knownReasons[code] ?? code)
}

const knownReasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  UND_ERR_SOCKET: 'connection reset',
  ENOTFOUND: 'unknown host',
  EAI_AGAIN: 'unknown host',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'host unreachable',
  ETIMEDOUT: 'connection timed out',
  UND_ERR_CONNECT_TIMEOUT: 'connection timed out',
  CERT_HAS_EXPIRED: 'certificate has expired',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'certificate is self-signed',
  ERR_TLS_CERT_ALTNAME_INVALID: 'certificate is for another host',
}

const lateCodes: ReadonlySet<string> = new Set(['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'])

type Cause = Error & { readonly code?: string; readonly errors?: readonly unknown[] }

function causesOf(failure: unknown): Cause[] {
  if (!types.isNativeError(failure)) return []
  const cause: Cause = failure
  return [cause, ...(cause.errors ?? []).flatMap(causesOf), ...causesOf(cause.cause)]
}
