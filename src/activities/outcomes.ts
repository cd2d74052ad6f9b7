import { ApplicationFailure } from '@temporalio/activity'
import type { OperationId } from '../domain/ids.js'
import type { Verdict } from '../domain/operations.js'
import { findOutcome } from '../registry/operations.js'
import type { Operation } from './foreign-streams.js'
import type { Parts } from './parts.js'
import { travelling } from './travelling.js'

export interface OutcomeActivities {
  /** What the operation has answered, as it travels; null where it has not been carried out. */
  findVerdicts(operation: Operation): Promise<readonly Verdict[] | null>
}

/** What an attempt at an operation fails with that comes too late (`registry/given-up.ts`). */
export const givenUp = (id: OperationId): ApplicationFailure => ApplicationFailure.nonRetryable(`operation ${id} was given up`)

export const outcomeActivities = ({ database }: Pick<Parts, 'database'>): OutcomeActivities => ({
  async findVerdicts({ operationId }) {
    const verdicts = await findOutcome<Verdict>(database, operationId)
    return verdicts === null ? null : travelling(verdicts)
  },
})
