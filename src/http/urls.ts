/**
 * Request URLs as the router sees them. Type names, instance ids and stream paths are compared as sent (spec/02 §1.1), but Fastify's router
 * decodes parameters and refuses malformed escapes. So it routes on a URL whose `%` is escaped once more: a parameter then arrives as it was sent.
 * `decodedParam` decodes those that the spec wants decoded.
 */
import { errors } from '../domain/errors.js'

const origin = /^https?:\/\/[^/?#]*/i

/** The URL to route on: percent signs doubled, a trailing slash under `/_electric/` dropped, absolute form reduced to its path. */
export function routedUrl(sent: string): string {
  const url = sent.startsWith('/') ? sent : rooted(sent.replace(origin, ''))
  const queryAt = url.indexOf('?')
  const path = queryAt < 0 ? url : url.slice(0, queryAt)
  const query = queryAt < 0 ? '' : url.slice(queryAt)
  return escaped(withoutTrailingSlash(path)) + query
}

const rooted = (path: string): string => (path.startsWith('/') ? path : `/${path}`)

const withoutTrailingSlash = (path: string): string => (path.endsWith('/') && path.startsWith('/_electric/') ? path.slice(0, -1) : path)

const escaped = (path: string): string => (/[%#]/.test(path) ? path.replaceAll('%', '%25').replaceAll('#', '%23') : path)

/** A path parameter that the spec wants percent-decoded: `tagKey`, `scheduleId`, `subscriptionId`, `attachmentId`, `messageKey`, `sourceRef`. */
export function decodedParam(raw: string): string {
  try {
    return decodeURIComponent(raw)
  } catch {
    throw errors.INVALID_REQUEST('Malformed percent-encoding in the path')
  }
}

/** First value of a query parameter; an empty one counts as absent (spec/02 §1.1). */
export function queryValue(query: unknown, name: string): string | undefined {
  const value: unknown = typeof query === 'object' && query !== null ? (query as Record<string, unknown>)[name] : undefined
  const first: unknown = Array.isArray(value) ? value[0] : value
  return typeof first === 'string' && first !== '' ? first : undefined
}
