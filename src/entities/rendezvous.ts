/**
 * Where an activity meets the request that waits for it in the same process.
 *
 * A cache of promises, bounded by the requests in flight: whoever misses the rendezvous reads the workflow's result.
 */
import type { OperationId } from '../domain/ids.js'
import type { Verdict } from '../domain/operations.js'

export class Rendezvous {
  readonly #waiting = new Map<OperationId, (verdicts: readonly Verdict[]) => void>()

  /** Settles when this process carries out the operation; never rejects. Call `forget` when done. */
  expect(id: OperationId): Promise<readonly Verdict[]> {
    return new Promise((resolve) => this.#waiting.set(id, resolve))
  }

  deliver(id: OperationId, verdicts: readonly Verdict[]): void {
    this.#waiting.get(id)?.(verdicts)
  }

  forget(id: OperationId): void {
    this.#waiting.delete(id)
  }
}
