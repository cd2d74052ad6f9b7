import {
  ActivityCancellationType,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  defineSignal,
  proxyActivities,
  proxyLocalActivities,
  setCurrentDetails,
  setHandler,
  sleep,
  workflowInfo,
} from '@temporalio/workflow'
import type { ForeignForkActivities } from '../activities/foreign-forks.js'
import type { ForkActivities, ForkBegun } from '../activities/forks.js'
import type { Begun, ForkBatch, ForkVerdict, ForkWaits } from '../domain/operations.js'
import { conclude, refuseMalformed } from './answers.js'
import { Compensations } from './compensations.js'
import { doneAnyway, endingBeforeUndone, untilDone } from './steps.js'

/** Something that this workflow waits for has come to rest. Says nothing more: the workflow looks again (registry/waiters.ts W3). */
export const statusChanged = defineSignal('statusChanged')

// The step that every fork takes is local: it costs no hop, and there is nothing to see in it. It is repeated in another process when this one dies.
const local = proxyLocalActivities<ForkActivities>({
  startToCloseTimeout: '20s',
  scheduleToCloseTimeout: '60s',
  retry: { initialInterval: '50ms', backoffCoefficient: 2, maximumInterval: '2s', maximumAttempts: 12 },
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
})

const steps = endingBeforeUndone<ForeignForkActivities>({
  startToCloseTimeout: '60s',
  scheduleToCloseTimeout: '100s', // less than `forkLockMs`
  heartbeatTimeout: '5s', // a dead process's step goes to another one
  retry: { initialInterval: '100ms', backoffCoefficient: 2, maximumInterval: '5s', maximumAttempts: 20 },
})
const always = proxyActivities<ForkActivities & ForeignForkActivities>(untilDone)

/**
 * Forks a batch of subtrees; a verdict per fork, in order (spec/04). A batch of one waits until what it copies is at rest, and fails with its
 * refusal; of several forks, and of one in haste, who would have to wait is told `busy`.
 */
export async function forkSubtree(batch: ForkBatch): Promise<readonly ForkVerdict[]> {
  refuseMalformed(batch)
  const undo = new Compensations()
  const verdicts = await carriedOut(batch, undo).catch(async (failure: unknown) => {
    await undo.run()
    return await doneAnyway<ForkVerdict>(batch.operationId, failure)
  })
  return conclude(verdicts)
}

async function carriedOut(batch: ForkBatch, undo: Compensations): Promise<readonly ForkVerdict[]> {
  const { runId: run } = workflowInfo()
  undo.add(() => always.dropForks({ operationId: batch.operationId, run }))
  const begun = await begunBy(batch, undo)
  if (begun.state === 'done') return begun.verdicts
  const { copyStreams } = steps()
  const copied = await copyStreams({ operationId: batch.operationId })
  if (CancellationScope.current().consideredCancelled) throw new CancelledFailure('cancelled while its streams were made') // it ended before it heard
  return await CancellationScope.nonCancellable(() => always.activateForks(copied))
}

/** Up to the look that nobody has to wait after. */
async function begunBy(batch: ForkBatch, undo: Compensations): Promise<Begun<ForkVerdict>> {
  const { workflowId, runId: run } = workflowInfo()
  const [only] = batch.items
  if (batch.items.length !== 1 || only?.hasty === true) return begunAtOnce(await local.forkEntities({ ...batch, run }))
  const changes = new Changes()
  const look = (isLast: boolean) => local.forkEntities({ ...batch, run, waiter: { workflowId, isLast } })
  undo.add(() => always.forgetWaiter({ workflowId }))
  const first = await look(false)
  if (first.state !== 'waits') return first
  const deadline = new Deadline(first, only?.source ?? '')
  for (let waits: ForkWaits = first; ; ) {
    setCurrentDetails(deadline.details(waits))
    await changes.next(deadline)
    const begun = await look(deadline.isOver)
    if (begun.state !== 'waits') return begun
    waits = begun
  }
}

function begunAtOnce(begun: ForkBegun): Begun<ForkVerdict> {
  if (begun.state === 'waits') throw ApplicationFailure.nonRetryable('a fork in haste waits')
  return begun
}

/** Signals since the last look. */
class Changes {
  #heard = 0
  #seen = 0

  constructor() {
    setHandler(statusChanged, () => {
      this.#heard += 1
    })
  }

  /** Returns when something has changed since this was asked before, or the time is up. */
  async next(deadline: Deadline): Promise<void> {
    await condition(() => this.#heard > this.#seen || deadline.isOver)
    this.#seen = this.#heard
  }
}

/** The one durable timer of a wait. */
class Deadline {
  readonly #at: Date
  isOver = false

  constructor({ waitMs }: ForkWaits, source: string) {
    this.#at = new Date(Date.now() + waitMs)
    sleep(waitMs, { summary: `until ${source} is idle` }).then(
      () => {
        this.isOver = true
      },
      () => undefined, // cancelled with its workflow
    )
  }

  /** For the UI: who is waited for, and until when. */
  details({ active, count }: ForkWaits): string {
    const more = count > active.length ? `\n- and ${count - active.length} more` : ''
    return `Waits until ${this.#at.toISOString()} for:\n${active.map((url) => `- ${url}`).join('\n')}${more}`
  }
}
