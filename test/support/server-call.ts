/** Calls of a handler to the server on behalf of the entity's creator (spec/06 §12 step 7). */
import { type TokenHeader, tokenHeaders, type Wake } from './wake.js'
import type { CallAnswer } from './wake-context.js'

export interface ServerCaller {
  readonly baseUrl: string
  readonly headers: Readonly<Record<string, string>>
  readonly writeToken: string
  readonly tokenHeader: TokenHeader
  readonly signal: AbortSignal
}

/** Sends and tags carry the write token as well. */
const takesToken = (path: string): boolean => /\/(send|tags\/[^/]+)$/.test(path)

export async function callServer(caller: ServerCaller, wake: Wake, method: string, path: string, body?: unknown): Promise<CallAnswer> {
  const principal = wake.principal?.key ?? undefined
  const response = await fetch(caller.baseUrl + path, {
    method,
    headers: {
      ...caller.headers,
      ...(principal === undefined ? {} : { 'electric-principal': principal }),
      ...(takesToken(path) ? tokenHeaders(caller.writeToken, caller.tokenHeader) : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: body === undefined ? null : JSON.stringify(body),
    signal: caller.signal,
  })
  return { status: response.status, text: await response.text() }
}
