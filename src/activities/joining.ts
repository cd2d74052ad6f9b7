/**
 * One effect, several askers: the request's process may begin an idempotent activity as soon as its workflow's start is acknowledged,
 * and the workflow's own attempt in this process joins it (temporal-notes §5.4).
 *
 * J1  Begun only after the acknowledgement: the intent is durable before the first effect.
 * J2  A failure is never remembered: the workflow's next attempt starts afresh.
 * J3  The memo is a cache: another process repeats the activity and meets its recorded outcome.
 */
import type { OperationId } from '../domain/ids.js'

const rememberMs = 10_000

export class Joinable<Batch extends { readonly operationId: OperationId }, Result> {
  readonly #effects = new Map<OperationId, Promise<Result>>()
  readonly #effect: (batch: Batch) => Promise<Result>

  constructor(effect: (batch: Batch) => Promise<Result>) {
    this.#effect = effect
  }

  run(batch: Batch): Promise<Result> {
    const known = this.#effects.get(batch.operationId)
    if (known !== undefined) return known
    const effect = this.#effect(batch)
    this.#effects.set(batch.operationId, effect)
    const forget = () => this.#effects.delete(batch.operationId)
    effect.then(() => setTimeout(forget, rememberMs).unref(), forget) // J2
    return effect
  }
}
