/**
 * Announcements of pull-wakes on their wake streams (spec/06 §4, spec/07 §4, §6.3).
 *
 * N1  An announcement is a hint: it may be repeated or come late, and the claim decides.
 * N2  A wake is announced once whoever is there; again, less and less often, while its runner is online. For a runner that is away it waits:
 *     whoever registers, enables or revives the runner makes it due (`announceAgain`), and an announcement that was under way does not undo that.
 * N3  Nothing is written for a runner that nobody has registered: its wakes are pending and say why. So where another's runner has come to read on the
 *     stream that a subscription had chosen before: that runner could not claim them.
 *
 * A crash in between leaves the wake with its deadline.
 */
import { errors } from '../domain/errors.js'
import type { StreamPath } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import { announceAgainMs } from '../domain/redelivery.js'
import { nameOfPath } from '../domain/subscriptions.js'
import type { Database } from '../registry/database.js'
import { setAnnounced, setWaiting } from '../registry/deliveries.js'
import { isReadByOthers, presenceOf, type RunnerPresence } from '../registry/runners.js'
import type { LockedWake } from '../registry/wakes.js'
import type { Pipeline } from './pipeline.js'

export interface AnnouncementsParts {
  readonly database: Database
  readonly pipeline: Pick<Pipeline, 'append' | 'create'>
  readonly limits: Pick<Limits, 'announceAgainMs'>
}

const json = 'application/json'
/** The longest pause between announcements: whoever comes back says so. */
const afterMany = Number.MAX_SAFE_INTEGER

export class Announcements {
  readonly #parts: AnnouncementsParts

  constructor(parts: AnnouncementsParts) {
    this.#parts = parts
  }

  /** One attempt, which the caller has begun. */
  async announce(wake: LockedWake): Promise<'announced' | 'superseded'> {
    const { pipeline, database, limits } = this.#parts
    const path = wake.wake_stream
    if (path === null) return 'superseded'
    if (await this.#isOfOthers(wake, path)) return await this.#wait(wake, errors.NOT_ALLOWED('have wakes announced on', path).message)
    const isAgain = wake.attempts > 1
    const presence = isAgain ? await this.#presenceFor(wake) : 'online'
    if (presence !== 'online') return await this.#awaitRunner(wake, presence)
    const append = { path, contentType: json, body: Buffer.from(JSON.stringify(eventOf(wake))) }
    let verdict = await pipeline.append(append)
    if (verdict.outcome === 'refused' && verdict.because === 'missing') {
      if ((await this.#presenceFor(wake)) === 'missing') return await this.#awaitRunner(wake, 'missing')
      await pipeline.create(path, { contentType: json }) // spec/06 §4
      verdict = await pipeline.append(append)
    }
    const offset = verdict.outcome === 'appended' ? verdict.tail : null
    await setAnnounced(database, wake.wake_id, offset, announceAgainMs(wake.attempts, limits.announceAgainMs))
    return 'announced'
  }

  /** Whoever claims a subscription without a runner says nothing of itself. */
  async #presenceFor({ runner_id }: LockedWake): Promise<RunnerPresence> {
    return runner_id === null ? 'online' : await presenceOf(this.#parts.database, runner_id)
  }

  /** N3. */
  async #isOfOthers({ id, runner_id }: LockedWake, path: StreamPath): Promise<boolean> {
    return runner_id === null && (await isReadByOthers(this.#parts.database, id, path))
  }

  /** N2, N3. */
  async #awaitRunner(wake: LockedWake, presence: Exclude<RunnerPresence, 'online'>): Promise<'superseded'> {
    return await this.#wait(wake, presence === 'missing' ? errors.RUNNER_NOT_FOUND(wake.runner_id ?? '').message : null)
  }

  async #wait({ wake_id }: LockedWake, reason: string | null): Promise<'superseded'> {
    const { database, limits } = this.#parts
    await setWaiting(database, wake_id, announceAgainMs(afterMany, limits.announceAgainMs), reason)
    return 'superseded'
  }
}

/** spec/06 §4, exactly. */
const eventOf = (wake: LockedWake) => ({
  type: 'wake',
  subscription_id: wake.id,
  stream: nameOfPath(wake.mount, wake.wake_path),
  generation: wake.generation,
  ts: Date.now(),
})
