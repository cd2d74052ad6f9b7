/** URLs that runtimes register: absolute http(s), and rewritten where the server cannot reach the caller's own loopback (spec/13 §5.2). */
import { errors } from './errors.js'

const loopbackHosts: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '[::1]'])

/** An absolute http(s) URL, or a refusal. */
export function httpUrl(text: string, what: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw errors.INVALID_REQUEST(`${what} must be an absolute http(s) URL`)
  return url
}

/** `text` with its loopback host replaced by `target`: a host, `host:port`, or an origin. Other URLs stay byte for byte. */
export function rewriteLoopback(text: string, target: string | undefined, what: string): string {
  const url = httpUrl(text, what)
  if (target === undefined || !loopbackHosts.has(url.hostname)) return text
  if (!target.includes('://')) {
    url.host = target
    return url.href
  }
  const origin = new URL(target)
  url.protocol = origin.protocol
  url.username = origin.username
  url.password = origin.password
  url.hostname = origin.hostname
  url.port = origin.port
  return url.href
}
