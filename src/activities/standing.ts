/**
 * Whether an operation that makes streams on a foreign server still holds what it reserved. A process that stood still (SIGSTOP, a paused machine) while
 * its operation was undone goes on where it was, and would make streams that nobody owns.
 *
 * G1  Nothing is begun on the strength of a look older than `freshMs`. That is less than the heartbeat timeout of such steps: nobody undoes one earlier
 *     that has not heard of it.
 *
 * What is left: requests that were under way when the process stopped (`inParallel` bounds them) arrive when it thaws, and stream servers know no fence
 * that would refuse them. Such streams stay, in nobody's way but that of the next entity of their name, whose operation is refused (STREAM_NOT_FREE).
 * Removing them afterwards would need their names reserved again: without that the next holder of a name would lose a stream that it has taken for
 * its own.
 */
import { ApplicationFailure } from '@temporalio/activity'
import type { OperationId } from '../domain/ids.js'
import type { Queryable } from '../registry/database.js'
import { findOutcome } from '../registry/operations.js'
import { reservedByAny } from '../registry/spawning.js'

const freshMs = 1_000

export class Standing {
  readonly #database: Queryable
  readonly #id: OperationId
  #seenAtMs = Number.NEGATIVE_INFINITY
  #looking: Promise<void> | null = null

  constructor(database: Queryable, id: OperationId) {
    this.#database = database
    this.#id = id
  }

  /** Throws where the operation holds nothing any more: it was undone, or another attempt has finished it. */
  async check(): Promise<void> {
    while (!this.#isFresh()) {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = null
      })
      await this.#looking
    }
  }

  #isFresh(): boolean {
    const ageMs = Date.now() - this.#seenAtMs
    return ageMs >= 0 && ageMs < freshMs
  }

  async #look(): Promise<void> {
    const atMs = Date.now()
    if (!(await reservedByAny(this.#database, [this.#id])))
      throw ApplicationFailure.nonRetryable(`the reservations of operation ${this.#id} are gone`)
    this.#seenAtMs = atMs
  }
}

/** What `make` makes; `otherwise` where the operation has its outcome already, from another attempt or workflow: nothing is left to be made. */
export async function unlessFinished<Made>(
  database: Queryable,
  id: OperationId,
  otherwise: Made,
  make: () => Promise<Made>,
): Promise<Made> {
  try {
    return await make()
  } catch (failure) {
    if ((await findOutcome(database, id)) === null) throw failure
    return otherwise
  }
}
