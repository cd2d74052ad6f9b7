/**
 * Dead letters: wakes whose deliveries were given up (`deliveries.ts`), or whose handlers died too often (`expiry.ts` X3).
 *
 * Y1  A dead letter that is delivered again starts a wake for what was pending when it was given up, also where that was acknowledged for its sake.
 * Y2  It is delivered again once: whoever asks a second time is told that there is none.
 */
import { errors } from '../domain/errors.js'
import type { Database } from '../registry/database.js'
import { type DeadLetter, findDeadLetter, type LetterPage, listDeadLetters, resolveDeadLetter, setBack } from '../registry/dead-letters.js'
import type { Portion } from '../registry/portions.js'
import { linksOf } from '../registry/subscriptions.js'
import { lockSubscription } from '../registry/wakes.js'
import { firstPending } from './wake-progress.js'
import type { Waking } from './waking.js'

export class DeadLetters {
  readonly #database: Database
  readonly #waking: Waking

  constructor(database: Database, waking: Waking) {
    this.#database = database
    this.#waking = waking
  }

  async list(page: LetterPage): Promise<Portion<DeadLetter>> {
    return await listDeadLetters(this.#database, page)
  }

  /** What the wake was about. */
  async find(wakeId: string): Promise<Pick<DeadLetter, 'subscription_id' | 'entity_url'>> {
    const found = await findDeadLetter(this.#database, wakeId)
    if (found === null) throw errors.WAKE_NOT_DEAD()
    return found
  }

  /** Y1, Y2. The new wake's id; null: one is under way to the handler already, or the entity takes no work now, and the work stays pending. */
  async redeliver(wakeId: string, subscriptionId: string): Promise<string | null> {
    return await this.#database.transaction(async (tx) => {
      const locked = await lockSubscription(tx, subscriptionId)
      if (locked === null) throw errors.SUBSCRIPTION_NOT_FOUND()
      if (locked.has_lease || locked.is_called) throw errors.WAKE_UNDER_WAY() // what its handler acknowledges would hide what is set back
      const ackedBefore = await resolveDeadLetter(tx, wakeId)
      if (ackedBefore === null) throw errors.WAKE_NOT_DEAD()
      await setBack(tx, subscriptionId, ackedBefore)
      const next = firstPending(await linksOf(tx, [subscriptionId]))
      if (locked.wake_id !== null || next === undefined) return null
      const [started] = await this.#waking.start(tx, [{ id: subscriptionId, path: next.path }])
      return started?.wakeId ?? null
    })
  }

  async forget(wakeId: string): Promise<void> {
    if ((await resolveDeadLetter(this.#database, wakeId)) === null) throw errors.WAKE_NOT_DEAD()
  }
}
