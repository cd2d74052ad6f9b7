/** How a workflow answers: a batch with a verdict per entity, a workflow of one with its refusal as a failure (design §3). */
import { ApplicationFailure } from '@temporalio/workflow'
import type { Verdict } from '../domain/operations.js'

export function conclude<Answer extends Verdict>(verdicts: readonly Answer[]): readonly Answer[] {
  const [only] = verdicts
  if (verdicts.length === 1 && only?.outcome === 'refused') {
    const { refusal } = only
    throw ApplicationFailure.create({
      message: refusal.message,
      type: refusal.code,
      nonRetryable: true,
      details: [refusal],
      category: 'BENIGN',
    })
  }
  return verdicts
}
