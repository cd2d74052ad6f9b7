/** How a workflow answers: a batch with a verdict per entity, a workflow of one with its refusal as a failure (design §3). */
import { ApplicationFailure } from '@temporalio/workflow'
import { batchRefusal } from '../domain/batch-form.js'
import type { Refusal } from '../domain/errors.js'
import type { Verdict } from '../domain/operations.js'

export function conclude<Answer extends Verdict>(verdicts: readonly Answer[]): readonly Answer[] {
  const [only] = verdicts
  if (verdicts.length === 1 && only?.outcome === 'refused') throw failureOf(only.refusal)
  return verdicts
}

/** Before the first step: what is no batch fails its workflow at once, with nothing begun that would have to be undone. */
export function refuseMalformed(batch: unknown): void {
  const refusal = batchRefusal(batch)
  if (refusal !== null) throw failureOf(refusal.refusal)
}

const failureOf = (refusal: Refusal): ApplicationFailure =>
  ApplicationFailure.create({
    message: refusal.message,
    type: refusal.code,
    nonRetryable: true,
    details: [refusal],
    category: 'BENIGN',
  })
