/** What a handler, or a runner, is told of a wake: spec/06 §4 (plain receivers) and §6.1 (entities). Pure. */
import type { Entity, EntityStatus } from '../domain/entity.js'
import { type EntityUrl, mainStream, type Offset, zeroOffset } from '../domain/ids.js'
import { knownPrincipal } from '../domain/principals.js'
import { type Mount, nameOfPath, nothingAcked } from '../domain/subscriptions.js'
import type { EntityHead } from '../registry/entities.js'
import { hasPending, type LinkState } from '../registry/subscriptions.js'
import { publicUrl } from './public-url.js'

export interface WakeFacts {
  readonly subscriptionId: string
  readonly mount: Mount
  readonly wakeId: string
  readonly generation: number
  readonly claimToken: string
  readonly baseUrl: string
  readonly links: readonly LinkState[]
}

/** One stream of a wake, as the subscription API shows it. */
export const streamOfWake = (mount: Mount, link: LinkState) => ({
  path: nameOfPath(mount, link.path),
  link_type: link.is_explicit ? 'explicit' : 'glob',
  acked_offset: link.acked,
  tail_offset: link.tail ?? zeroOffset,
  has_pending: hasPending(link),
})

export const callbackPath = (mount: Mount, id: string): string => `${mount}/__ds/subscriptions/${encodeURIComponent(id)}/callback`

/** To a receiver that is no agents runtime. */
export function plainWake({ subscriptionId, mount, wakeId, generation, claimToken, baseUrl, links }: WakeFacts): object {
  return {
    subscription_id: subscriptionId,
    wake_id: wakeId,
    generation,
    streams: links.map((link) => streamOfWake(mount, link)),
    callback_url: publicUrl(baseUrl, callbackPath(mount, subscriptionId)),
    callback_token: claimToken,
  }
}

type WokenEntity = Pick<EntityHead, 'url' | 'type' | 'tags' | 'spawn_args' | 'sandbox' | 'created_by'> & { readonly status: EntityStatus }

/** To a runtime, by webhook (`inbox`) or as the answer to a runner's claim (`message_received`). */
export function enrichedWake(facts: WakeFacts, entity: WokenEntity, triggerEvent: 'inbox' | 'message_received'): object {
  const { wakeId, generation, claimToken, baseUrl, subscriptionId } = facts
  return {
    consumerId: wakeId,
    wakeId,
    epoch: generation,
    streamPath: mainStream(entity.url),
    streams: facts.links.map((link) => ({ path: link.path, offset: freshFrom(link) })),
    callback: publicUrl(baseUrl, `/_electric/wake-callbacks/${wakeId}`),
    claimToken,
    triggerEvent,
    entity: {
      type: entity.type,
      status: entity.status,
      url: entity.url,
      streams: { main: mainStream(entity.url) },
      tags: entity.tags,
      spawnArgs: entity.spawn_args,
      ...(entity.sandbox === null ? {} : { sandbox: entity.sandbox }),
      ...(entity.created_by === null ? {} : { createdBy: entity.created_by }),
    },
    ...(entity.created_by === null ? {} : { principal: principalOf(entity.created_by) }),
    subscription_id: subscriptionId,
    wake_id: wakeId,
    generation,
  }
}

/**
 * spec/06 §6.2: sorts behind what was acked and before the first entry that was not, so a handler that compares finds all of them fresh; one that
 * fails before it has read anything acknowledges this very text, and with it nothing.
 */
export const freshFrom = ({ acked }: Pick<LinkState, 'acked'>): string => (acked === nothingAcked ? zeroOffset : `${acked}~`)

/** An offset as a handler acknowledges it. */
export const ackedOffset = (text: string): Offset | string => (text.endsWith('~') ? text.slice(0, -1) : text)

function principalOf(createdBy: NonNullable<Entity['created_by']>): object {
  const parsed = knownPrincipal(createdBy)
  if ('refused' in parsed) return { url: createdBy, key: null }
  const { url, key, kind, id } = parsed.principal
  return { url, key, kind, id }
}

/** The streams of a wake in their order, the one that the wake is about first (spec/07 §3.7 step 5). */
export function primaryFirst(links: readonly LinkState[], url: EntityUrl | null): readonly LinkState[] {
  const main = url === null ? null : mainStream(url)
  return [...links.filter(({ path }) => path === main), ...links.filter(({ path }) => path !== main)]
}
