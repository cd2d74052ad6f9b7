/**
 * What callbacks do to a wake: the checks and effects of spec/06 §3.2 "callback", decided in memory on rows that the caller has locked. Pure.
 *
 * Several callbacks of one wake in a batch take effect one after the other, each upon what the ones before it left.
 *
 * A done that leaves what the wake was about where it was is a loss, as of a lease: a runtime that cannot even set its handler up acknowledges exactly
 * what it was sent (spec/06 §6.2). Its work comes again, later and later, and at the bound the wake goes the way of a lease that has ended (expiry.ts X3).
 */
import { type AgentsError, errors } from '../domain/errors.js'
import { parseOffset, type StreamPath, zeroOffset } from '../domain/ids.js'
import { nothingAcked } from '../domain/subscriptions.js'
import { hasPending, type LinkState, mayWake } from '../registry/subscriptions.js'
import type { Ack, LockedWake } from '../registry/wakes.js'
import { ackedOffset } from './wake-body.js'

export interface Callback {
  /** What its token says. */
  readonly wakeId: string
  readonly generation: number
  /** Of the delivery that the token came with; absent: whoever calls has no token. */
  readonly attempt?: number
  /** What its body says beside. */
  readonly said?: { readonly wakeId?: string; readonly generation?: number }
  readonly acks: readonly { readonly path: StreamPath; readonly offset: string }[]
  /**
   * They are of what a delivery showed (spec/06 §4): one that does not fit any more is passed over, and refuses nothing. So is one of what is held back by
   * the status of another entity than the wake's (spec/07 §3.7): no handler could have worked on that.
   */
  readonly acksShown?: boolean
  /** `done`: the wake is over; `release`: it is given back. */
  readonly ends?: 'done' | 'release'
}

export interface CallbackEffect {
  readonly wake: LockedWake
  readonly acks: readonly Ack[]
  /** `lease`: it is over, and whoever settles leases that have ended gives up what it was about. */
  readonly ends: 'wake' | 'lease' | null
  /** The first stream with pending work behind an ended wake. */
  readonly next: StreamPath | null
  /** Wakes in a row, up to this one, that ended and acknowledged nothing. */
  readonly losses: number
}

/** Whether it is about streams; a sign of life alone is not, however many its wake is about. */
export const isAboutLinks = ({ acks, ends }: Callback): boolean => acks.length > 0 || ends !== undefined

export class WakeProgress {
  readonly #wakes: ReadonlyMap<string, LockedWake>
  /** Of each subscription, by path, in the order of their paths. */
  readonly #links = new Map<string, Map<string, LinkState>>()
  readonly #maxLosses: number
  /** Wakes that have acknowledged something in these callbacks. */
  readonly #gotOn = new Set<string>()
  readonly #ended = new Set<string>()

  /** `links` of the wakes whose callbacks are about them. */
  constructor(wakes: ReadonlyMap<string, LockedWake>, links: readonly LinkState[], maxLosses: number) {
    this.#wakes = wakes
    this.#maxLosses = maxLosses
    for (const link of links) this.#linksOf(link.subscription_id).set(link.path, link)
  }

  /** Applies one callback, or says why not; then nothing of it was applied. */
  apply(callback: Callback): CallbackEffect | AgentsError {
    const wake = this.#wakes.get(callback.wakeId)
    if (wake === undefined || this.#ended.has(callback.wakeId) || isStale(wake, callback)) return errors.FENCED()
    const links = this.#linksOf(wake.id)
    const acks: Ack[] = []
    for (const { path, offset: text } of callback.acks) {
      const link = links.get(path)
      if (link === undefined && path === wake.wake_path) continue // unlinked meanwhile, as by a kill: nothing is left to acknowledge
      if (callback.acksShown && link !== undefined && path !== wake.wake_path && !mayWake(link.entity_status)) continue
      const offset = ackedOffset(text)
      const refusal = refuseAck(link, offset)
      if (refusal === null) acks.push({ subscriptionId: wake.id, path, offset })
      else if (!callback.acksShown) return errors.INVALID_OFFSET(refusal)
    }
    if (moveCursors(links, acks)) this.#gotOn.add(callback.wakeId)
    if (callback.ends === undefined) return { wake, acks, ends: null, next: null, losses: 0 }
    this.#ended.add(callback.wakeId)
    const isLoss = callback.ends === 'done' && !this.#gotOn.has(callback.wakeId)
    const own = links.get(wake.wake_path)
    const again = isLoss && own !== undefined ? firstPending([own]) : undefined
    const losses = again === undefined ? 0 : wake.lost_leases + 1
    if (losses >= this.#maxLosses) return { wake, acks, ends: 'lease', next: null, losses }
    return { wake, acks, ends: 'wake', next: (again ?? firstPending(links.values()))?.path ?? null, losses }
  }

  #linksOf(id: string): Map<string, LinkState> {
    const known = this.#links.get(id)
    if (known !== undefined) return known
    const none = new Map<string, LinkState>()
    this.#links.set(id, none)
    return none
  }
}

const isStale = (wake: LockedWake, { generation, attempt, said = {} }: Callback): boolean =>
  generation !== wake.generation ||
  (attempt !== undefined && wake.claimed_attempt !== null && attempt !== wake.claimed_attempt) ||
  (said.generation !== undefined && said.generation !== wake.generation) ||
  (said.wakeId !== undefined && said.wakeId !== wake.wake_id)

/** Moves the cursors of these links; of several acks of one stream the furthest counts. Whether any has moved. */
function moveCursors(links: Map<string, LinkState>, acks: readonly Ack[]): boolean {
  let hasMoved = false
  for (const { path, offset } of acks) {
    const link = links.get(path)
    if (link === undefined || (link.acked !== nothingAcked && offset <= link.acked)) continue
    links.set(path, { ...link, acked: offset })
    hasMoved = true
  }
  return hasMoved
}

function refuseAck(link: LinkState | undefined, offset: string): string | null {
  if (link === undefined) return 'Ack references an unknown subscription stream'
  if (offset === nothingAcked) return 'Ack offset must not be -1'
  if (parseOffset(offset) === null) return 'Ack offset is malformed'
  if (link.acked !== nothingAcked && offset < link.acked) return 'Ack offset regresses the committed cursor'
  return offset > (link.tail ?? zeroOffset) ? 'Ack offset is beyond stream tail' : null
}

/** The first stream with work that may be worked on now. */
export function firstPending(links: Iterable<LinkState>): LinkState | undefined {
  for (const link of links) if (hasPending(link) && mayWake(link.entity_status)) return link
  return undefined
}
