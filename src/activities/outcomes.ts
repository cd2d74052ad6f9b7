import type { Verdict } from '../domain/operations.js'
import { findOutcome } from '../registry/operations.js'
import type { Operation } from './foreign-streams.js'
import type { Parts } from './parts.js'
import { travelling } from './travelling.js'

export interface OutcomeActivities {
  /** What the operation has answered, as it travels; null where it has not been carried out. */
  findVerdicts(operation: Operation): Promise<readonly Verdict[] | null>
}

export const outcomeActivities = ({ database }: Pick<Parts, 'database'>): OutcomeActivities => ({
  async findVerdicts({ operationId }) {
    const verdicts = await findOutcome<Verdict>(database, operationId)
    return verdicts === null ? null : travelling(verdicts)
  },
})
