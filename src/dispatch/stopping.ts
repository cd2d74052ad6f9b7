/**
 * The end of a stop: an entity that is `stopping` and that nobody works on any more becomes `stopped`, with its stream closed and its dispatch gone
 * (spec/05 §6). Whoever comes last does it: the handler's done, the end of its lease, a failed delivery, the grace period, `sweep`.
 */
import type { EntityStatus } from '../domain/entity.js'
import { type EntityUrl, mainStream } from '../domain/ids.js'
import { isWorkedOn } from '../registry/entity-work.js'
import { lockEntities, setStatuses } from '../registry/statuses.js'
import { unlinkEntities } from '../registry/subscriptions.js'
import type { LockedWake } from '../registry/wakes.js'
import type { Pipeline } from './pipeline.js'

const closing = { contentType: 'application/json', body: Buffer.alloc(0), close: true } as const

/** The entity of a wake, where it is to stop. */
export const stoppingOf = (
  { wake_entity_url: url }: Pick<LockedWake, 'wake_entity_url'>,
  statuses: ReadonlyMap<string, EntityStatus>,
): EntityUrl | null => (url !== null && statuses.get(url) === 'stopping' ? url : null)

export class Stopping {
  readonly #pipeline: Pick<Pipeline, 'together'>
  readonly #onStopped: (url: EntityUrl) => void
  readonly #warn: (failure: unknown, text: string) => void

  /** `onStopped` is told after the commit, and may be missed by a crash. */
  constructor(pipeline: Pick<Pipeline, 'together'>, onStopped: (url: EntityUrl) => void, warn: (failure: unknown, text: string) => void) {
    this.#pipeline = pipeline
    this.#onStopped = onStopped
    this.#warn = warn
  }

  /**
   * Behind the commit by which nobody works on the entity any more; null: nothing is to be stopped. It may ask a foreign stream server, so no batch waits
   * for it, and its failure takes nothing back: `sweep` repeats it.
   */
  async finishBehind(url: EntityUrl | null): Promise<void> {
    if (url === null) return
    try {
      await this.finish(url)
    } catch (failure) {
      this.#warn(failure, `${url} could not be stopped; sweep does it`)
    }
  }

  /** Whether the entity has stopped now. `despiteClaim`: also while somebody works on it; that claim is fenced. */
  async finish(url: EntityUrl, options: { readonly despiteClaim?: boolean } = {}): Promise<boolean> {
    const main = mainStream(url)
    return await this.#pipeline.together(async (tx) => {
      const status = (await lockEntities(tx, [url])).get(url)?.status
      if (status !== 'stopping' || (options.despiteClaim !== true && (await isWorkedOn(tx, url)))) return { result: false, appends: [] }
      await setStatuses(tx, [{ url, status: 'stopped', atMs: Date.now() }])
      tx.afterCommit(() => this.#onStopped(url))
      return { result: true, appends: [{ path: main, ...closing }], after: async () => await unlinkEntities(tx, [url], [main]) }
    })
  }
}
