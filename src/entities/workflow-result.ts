/** A workflow's own answer, asked for again while the workflow service is away. */
import { setTimeout as delay } from 'node:timers/promises'
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client'
import { refusalOf } from '../client/refusals.js'
import { errors, type Refusal } from '../domain/errors.js'

export interface ResultOptions<Answer> {
  readonly handle: WorkflowHandle
  /** What a workflow answers that fails with a refusal. */
  readonly refused: (refusal: Refusal) => readonly Answer[]
  /** The outcome as the registry knows it, or null. */
  readonly outcome: () => Promise<readonly Answer[] | null>
  /** Ends the asking. */
  readonly signal: AbortSignal
}

/** The SDK cannot be told to stop asking: it asks for as long, then the signal is looked at. */
const askedForMs = 60_000

export async function workflowResult<Answer>({ handle, refused, outcome, signal }: ResultOptions<Answer>): Promise<readonly Answer[]> {
  for (;;) {
    try {
      const answer = await handle.client.connection.withDeadline(Date.now() + askedForMs, async () => await handle.result())
      return answer as readonly Answer[]
    } catch (failure) {
      const refusal = refusalOf(failure)
      if (refusal !== null) return refused(refusal)
      if (failure instanceof WorkflowFailedError) throw errors.OPERATION_FAILED().retryAfter(1)
      const known = await outcome().catch(() => null)
      if (known !== null) return known
      await delay(250, undefined, { signal })
    }
  }
}
