/** Subscriptions: which streams a pattern names, and the server's own subscription of an entity (spec/06 §3.1, §9). Pure. */
import { createHash } from 'node:crypto'
import { isClaimable } from './dispatch-policy.js'
import type { DispatchPolicy, DispatchTarget } from './entity.js'
import { type EntityUrl, entityOfMainStream, mainStream, type Offset, type StreamPath } from './ids.js'
import { defaultWakeStream } from './runners.js'

export const subscriptionTypes = ['webhook', 'pull-wake'] as const
export type SubscriptionType = (typeof subscriptionTypes)[number]

/** Nothing of a stream has been acked; before every offset as a string too. */
export const nothingAcked = '-1'

/** ms (spec/06 §3.1). */
export const defaultLeaseTtlMs = 30_000
export const leaseTtlRangeMs = { least: 1_000, most: 600_000 } as const

/** Bytes of UTF-8: with the longest stream path beside it an id still fits into an index. */
export const maxSubscriptionIdBytes = 500

/** Of what a dispatch policy calls its subscriptions. */
export const maxSubscriptionScopeCharacters = 400

/** A view of the API: stream names on it are relative to its prefix. */
export const mounts = ['', '/v1/stream'] as const
export type Mount = (typeof mounts)[number]

/** Leading and trailing slashes do not count. */
export const trimmedName = (text: string): string => text.replace(/^\/+|\/+$/g, '')

export const pathOfName = (mount: Mount, name: string): StreamPath => `${mount}/${trimmedName(name)}` as StreamPath
export const nameOfPath = (mount: Mount, path: string): string => path.slice(mount.length + 1)

const isWildcard = (segment: string): boolean => segment === '*' || segment === '**'

/** Segments before the first wildcard, as the path of a stream or its ancestor; `''` where there is none. */
export function patternPrefix(mount: Mount, pattern: string): string {
  const segments = trimmedName(pattern).split('/')
  const wildcardAt = segments.findIndex(isWildcard)
  const literal = (wildcardAt < 0 ? segments : segments.slice(0, wildcardAt)).map(literalOf)
  return literal.length === 0 ? mount : `${mount}/${literal.join('/')}`
}

/** `%2A` stands for a star that is no wildcard. */
const literalOf = (segment: string): string => segment.replace(/%2a/gi, '*')

/** The path itself and all of its ancestors: the prefixes of every pattern that can match it. */
export function prefixesOf(path: string): string[] {
  const segments = path.split('/')
  return segments.map((_, index) => segments.slice(0, index + 1).join('/'))
}

/** Whether `pattern` names the stream at `path`: `*` is one segment, `**` any number, everything else is itself (spec/06 §3.1). */
export function matches(mount: Mount, pattern: string, path: string): boolean {
  if (mount !== '' && !path.startsWith(`${mount}/`)) return false
  const name = nameOfPath(mount, path)
  if (name === '' || name === '__ds' || name.startsWith('__ds/')) return false
  return segmentsMatch(trimmedName(pattern).split('/'), name.split('/').map(literalOf))
}

/** One row of the usual table at a time: `open[j]` says whether the pattern so far matches the first `j` segments. */
function segmentsMatch(pattern: readonly string[], segments: readonly string[]): boolean {
  let open = [true, ...segments.map(() => false)]
  for (const wanted of pattern) {
    const next = open.map(() => false)
    if (wanted === '**') {
      let reachable = false
      open.forEach((isOpen, index) => {
        reachable ||= isOpen
        next[index] = reachable
      })
    } else {
      segments.forEach((segment, index) => {
        if (open[index] && (wanted === '*' || literalOf(wanted) === segment)) next[index + 1] = true
      })
    }
    open = next
  }
  return open.at(-1) === true
}

/** Streams that only their manifest rows show, or that the server alone writes: no pattern links them (docs/decisions/0013-links-and-tails.md). */
const unlinkable = /^\/(_cron|_entities|_webhooks|__ds|v1\/stream\/__ds)(\/|$)|^\/runners\/[^/]+\/wake$|^\/[^/]+\/[^/]+\/attachments\/./

export const isLinkable = (path: string): boolean => !unlinkable.test(path)

const shortHash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** The server's own subscription of an entity. */
export interface EntitySubscription {
  readonly id: string
  readonly type: SubscriptionType
  readonly entityUrl: EntityUrl
  readonly stream: StreamPath
  readonly webhookUrl: string | null
  readonly runnerId: string | null
  /** Unless the runner registered another (spec/07 §1.1). */
  readonly wakeStream: StreamPath | null
  readonly description: string
}

/** spec/06 §9, "Subscription ids": one for each entity, also behind a common webhook. */
export function subscriptionOf(entityUrl: EntityUrl, { targets: [target] }: DispatchPolicy): EntitySubscription {
  const id = subscriptionIdOf(entityUrl, target)
  const shared = { id, entityUrl, stream: mainStream(entityUrl) }
  return target.type === 'runner'
    ? {
        ...shared,
        type: 'pull-wake',
        webhookUrl: null,
        runnerId: target.runnerId,
        wakeStream: defaultWakeStream(target.runnerId),
        description: `Electric Agents runner ${target.runnerId}`,
      }
    : {
        ...shared,
        type: 'webhook',
        webhookUrl: target.url,
        runnerId: null,
        wakeStream: null,
        description: `Electric Agents webhook ${id}`,
      }
}

function subscriptionIdOf(entityUrl: EntityUrl, target: DispatchTarget): string {
  const { subscription_id: scope = scopeOf(target) } = target
  // A default that a send fills in was never checked: the runner could not claim what its scope names.
  if (target.type === 'runner' && !isClaimable(target)) return `${scopeOf(target)}:${shortHash(entityUrl)}`
  return `${scope}:${shortHash(entityUrl)}`
}

const scopeOf = (target: DispatchTarget): string =>
  target.type === 'runner' ? `runner:${target.runnerId}` : `webhook:${shortHash(target.url)}`

/** The entity that a wake caused by `path` is about. */
export const entityOfWake = (path: string): EntityUrl | null => entityOfMainStream(path)

/** A stream that is new to dispatch. */
export interface MadeStream {
  readonly path: StreamPath
  readonly tail: Offset
  /** Of a fork: up to here it is a copied past, which wakes nobody (spec/04 §18). */
  readonly copied?: Offset
  /** No stream stands there yet, or a former one has ended: what was acked of that means nothing here. */
  readonly begins?: true
  /** The new entity's own subscription: its policy, and what of the stream wakes nobody. */
  readonly dispatch?: { readonly policy: DispatchPolicy; readonly acked: Offset }
}
