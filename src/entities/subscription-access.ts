/**
 * Who may subscribe to what, and who may manage a subscription (spec/06 §3, spec/12 §6.1).
 *
 * U1  Bypass principals may everything; all others name streams that they may read, and manage what they created.
 * U2  A pattern names streams that nobody has read yet: it is for bypass principals.
 * U3  Announcements are written by the server: never to a stream that has rules of its own about who writes.
 */
import { errors } from '../domain/errors.js'
import type { StreamPath } from '../domain/ids.js'
import { isBypass, type Principal } from '../domain/principals.js'
import type { SubscriptionRequest } from '../domain/subscription-request.js'
import type { JudgedPrincipal } from './authorize.js'
import type { Directory } from './directory.js'
import type { StreamAccess } from './stream-access.js'
import { categoryOf } from './stream-paths.js'

/** Streams that are asked about at once. */
const parallelChecks = 32

export class SubscriptionAccess {
  readonly #streams: Pick<StreamAccess, 'check'>
  readonly #directory: Pick<Directory, 'entity' | 'runner'>

  constructor(streams: Pick<StreamAccess, 'check'>, directory: Pick<Directory, 'entity' | 'runner'>) {
    this.#streams = streams
    this.#directory = directory
  }

  /** Passes, or throws the refusal. */
  async checkRequest(principal: JudgedPrincipal, { id, pattern, streams, wakeStream }: SubscriptionRequest): Promise<void> {
    if (wakeStream !== null) await this.#checkAnnouncing(principal, wakeStream)
    if (isBypass(principal)) return
    if (pattern !== null) throw errors.NOT_ALLOWED('use patterns in', named(id))
    await this.checkStreams(principal, streams)
  }

  /** U1. */
  async checkStreams(principal: JudgedPrincipal, streams: readonly StreamPath[]): Promise<void> {
    if (isBypass(principal)) return
    const left = [...streams]
    const lane = async () => {
      for (let path = left.pop(); path !== undefined; path = left.pop()) await this.#checkStream(principal, path)
    }
    await Promise.all(Array.from({ length: parallelChecks }, lane))
  }

  /** U3. */
  async #checkAnnouncing(principal: JudgedPrincipal, path: StreamPath): Promise<void> {
    const { is } = categoryOf(path)
    if (is === 'wakes' && isBypass(principal)) return
    if (is !== 'plain') throw errors.NOT_ALLOWED('have wakes announced on', path)
    await this.#streams.check({ principal, method: 'POST', path })
  }

  async #checkStream(principal: JudgedPrincipal, path: StreamPath): Promise<void> {
    const category = categoryOf(path)
    if (category.is === 'main' && (await this.#directory.entity(category.url)) === null) throw errors.ENTITY_NOT_FOUND(category.url) // whose will it be?
    if (category.is === 'wakes' && (await this.#directory.runner(category.runnerId)) === null) throw errors.RUNNER_UNKNOWN() // the same
    await this.#streams.check({ principal, method: 'GET', path })
  }
}

/** The creator of a bypass principal's subscription is not kept: it is theirs together. */
export const creatorOf = (principal: Principal): string | null => (isBypass(principal) ? null : principal.url)

/** U1: throws unless `principal` may manage the subscription. */
export function refuseUnlessManager(
  principal: Principal,
  { id, created_by }: { readonly id: string; readonly created_by: string | null },
): void {
  if (!isBypass(principal) && created_by !== principal.url) throw errors.NOT_ALLOWED('manage', named(id))
}

const named = (id: string): string => `subscription "${id}"`
