/**
 * Which URLs a subscription may name as its webhook (spec/06 §3.4), decided on what the URL itself says. What a name resolves to is judged when
 * it is called (`outbound.ts` O1).
 */
import { isIP } from 'node:net'
import { rewriteLoopback } from '../domain/loopback.js'
import { namedBy, type OutboundPolicyOptions, outboundPolicy } from './outbound-policy.js'

const publicOnly = outboundPolicy({ privateNetworks: 'refuse' })
const mostCharacters = 4_000
const isLoopback = (host: string): boolean =>
  host === 'localhost' || host.endsWith('.localhost') || host === '::1' || host.startsWith('127.')

export interface WebhookUrlOptions {
  readonly outbound: OutboundPolicyOptions
  /** Where loopback hosts really are (spec/13 §5.2). */
  readonly rewriteLoopbackTo?: string | undefined
}

/** The URL that is called, or why it is none. */
export function webhookUrl(
  sent: string,
  { outbound, rewriteLoopbackTo }: WebhookUrlOptions,
): { readonly url: string } | { readonly refused: string } {
  const parsed = URL.canParse(sent) ? new URL(sent) : null
  if (parsed === null || (parsed.protocol !== 'http:' && parsed.protocol !== 'https:'))
    return { refused: 'webhook.url must be an absolute http(s) URL' }
  if (sent.length > mostCharacters) return { refused: `webhook.url must have at most ${mostCharacters} characters` }
  const url = rewriteLoopback(sent, rewriteLoopbackTo, 'webhook.url')
  const refused = refusalOf(new URL(url), outbound)
  return refused === null ? { url } : { refused }
}

function refusalOf({ protocol, hostname }: URL, { privateNetworks, allowed = [] }: OutboundPolicyOptions): string | null {
  const host = hostname
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase()
  if (namedBy(allowed)(host, host)) return null
  if (protocol === 'http:') {
    const isPlace = isLoopback(host) || isIP(host) === 0
    return isPlace && privateNetworks === 'allow' ? null : 'webhook.url must use https'
  }
  const isPublic = isIP(host) === 0 ? !isLoopback(host) : isIP(host) === 4 && publicOnly.allows(host, host)
  return isPublic ? null : 'webhook.url must not lead to a private address'
}
