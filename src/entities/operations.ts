/**
 * Operations of one kind (spawn, close, or fork) through group commit: one workflow per batch, one verdict per request (design §3).
 *
 * O1  A request is answered only with a verdict that is durable, or with an error that says the outcome is unknown.
 * O2  The intent is durable first: no effect begins before the workflow's start is acknowledged.
 * O3  Where the workflow runs does not matter: in this process its activity meets the request (rendezvous), elsewhere the workflow's result does.
 * O4  What travels through Temporal is bounded: large arguments wait in a row and only their id travels.
 *
 * A crash of this process loses the answers; the workflow carries the operation to its end.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { WorkflowExecutionAlreadyStartedError, type WorkflowHandle } from '@temporalio/client'
import { secondWorkflowId, sourcesOf, startOptions, workflowIdOf } from '../client/starts.js'
import { errors } from '../domain/errors.js'
import { type BatchObserver, GroupCommit } from '../domain/group-commit.js'
import { type EntityUrl, type OperationId, operationId } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import type { Begun, Verdict } from '../domain/operations.js'
import type { Database } from '../registry/database.js'
import { findOutcome, insertPayloads } from '../registry/operations.js'
import type { Rendezvous } from './rendezvous.js'
import { workflowResult } from './workflow-result.js'
import type { WorkflowService } from './workflow-service.js'

export interface OperationItem {
  readonly url: EntityUrl
  /** What is forked. */
  readonly source?: EntityUrl
  readonly payloadId?: string
}

export interface OperationBatch<Item> {
  readonly operationId: OperationId
  readonly items: readonly Item[]
}

export interface OperationsObserver {
  readonly batch: BatchObserver
  started(eagerly: boolean): void
  answered(by: 'here' | 'result'): void
}

export interface OperationsOptions<Item extends OperationItem, Answer extends Verdict> {
  readonly kind: 'spawn' | 'close' | 'fork'
  readonly workflowType: string
  readonly taskQueue: string
  /** Null where the namespace has no search attributes of ours. */
  readonly attributeBytes: number | null
  readonly service: WorkflowService
  readonly rendezvous: Rendezvous
  readonly database: Database
  readonly limits: Limits
  /** The activity that the workflow begins with, where this process may begin it itself after the acknowledgement (O2). */
  readonly effect?: (batch: OperationBatch<Item>) => Promise<Begun<Answer>>
  readonly observer?: OperationsObserver
  /** What may be large in an item, as JSON text (undefined: nothing), and the item without it. */
  readonly large: (item: Item) => { readonly text: string; readonly rest: Item } | undefined
}

/** How long the rendezvous may be late before the workflow's result is asked for. */
const patienceMs = { eager: 1_500, elsewhere: 50 }

/** An item as it travels, and what waits for it in a row because it must not (O4). */
interface Packed<Item> {
  readonly item: Item
  readonly bytes: number
  readonly parked?: string
}

/** Of an item but its large part: caller, flags, punctuation. */
const fixedItemBytes = 256
/** A parked byte burdens Postgres and this process, not Temporal: so many of them weigh as much as one that travels. */
const parkedPerTravelling = 64

export class Operations<Item extends OperationItem, Answer extends Verdict> {
  readonly #options: OperationsOptions<Item, Answer>
  readonly #commits: GroupCommit<Packed<Item>, Answer>

  constructor(options: OperationsOptions<Item, Answer>) {
    const { limits } = options
    this.#options = options
    this.#commits = new GroupCommit((items) => this.#commit(items), {
      maxBatch: limits.maxOperationBatch,
      maxWeight: limits.maxOperationBatchBytes,
      weigh: ({ bytes }) => bytes,
      maxWaiting: limits.maxWaitingOperations,
      overloaded: () => errors.OVERLOADED(`${options.kind} operations`).retryAfter(1),
      ...(options.observer === undefined ? {} : { observe: options.observer.batch }),
    })
  }

  /** `moreBytes`: what the item weighs in a batch besides itself. */
  run(item: Item, moreBytes = 0): Promise<Answer> {
    if (this.#options.service.isDown) return Promise.reject(errors.WORKFLOW_SERVICE_UNAVAILABLE().retryAfter(2))
    const packed = this.#packed(item)
    return this.#commits.add({ ...packed, bytes: packed.bytes + moreBytes })
  }

  drained(): Promise<void> {
    return this.#commits.drained()
  }

  async #commit(items: readonly Packed<Item>[]): Promise<readonly Answer[]> {
    const { kind, rendezvous } = this.#options
    const id = operationId(`${kind}-${randomUUID()}`)
    const batch = { operationId: id, items: await this.#parked(id, items) }
    const here = rendezvous.expect(id) as Promise<readonly Answer[]> // an operation of this kind delivers this kind's verdicts
    try {
      const handle = await this.#start(batch)
      this.#options.observer?.started(handle.eagerlyStarted)
      return await this.#answers(batch, handle, here)
    } finally {
      rendezvous.forget(id)
    }
  }

  /** O4. */
  #packed(item: Item): Packed<Item> {
    const large = this.#options.large(item)
    const bytes = fixedItemBytes + item.url.length
    if (large === undefined) return { item, bytes }
    if (large.text.length <= this.#options.limits.maxInlinePayloadBytes) return { item, bytes: bytes + large.text.length }
    return { item: large.rest, bytes: bytes + Math.ceil(large.text.length / parkedPerTravelling), parked: large.text }
  }

  async #parked(id: OperationId, packed: readonly Packed<Item>[]): Promise<readonly Item[]> {
    const payloadId = (index: number) => `${id}/${index}`
    const payloads = packed.flatMap(({ parked }, index) => (parked === undefined ? [] : [{ id: payloadId(index), payload: parked }]))
    if (payloads.length > 0) await insertPayloads(this.#options.database, payloads)
    return packed.map(({ item, parked }, index) => (parked === undefined ? item : { ...item, payloadId: payloadId(index) }))
  }

  async #start(batch: OperationBatch<Item>) {
    const { kind, service, workflowType, taskQueue, attributeBytes } = this.#options
    const urls = batch.items.map((item) => item.url)
    const options = {
      taskQueue,
      args: [batch],
      requestEagerStart: true,
      ...startOptions({ kind, urls, sources: sourcesOf(batch.items), operationId: batch.operationId, attributeBytes }),
    }
    try {
      return await service.start(workflowType, { ...options, workflowId: workflowIdOf(kind, urls, batch.operationId) })
    } catch (failure) {
      // Somebody works on this entity under its own id: no verdict yet (temporal-notes §4.3). The registry decides between the two.
      if (!(failure instanceof WorkflowExecutionAlreadyStartedError)) throw failure
      return await service.start(workflowType, { ...options, workflowId: secondWorkflowId(kind, batch.operationId) })
    }
  }

  /** O1, O3. */
  async #answers(
    batch: OperationBatch<Item>,
    handle: WorkflowHandle & { eagerlyStarted: boolean },
    here: Promise<readonly Answer[]>,
  ): Promise<readonly Answer[]> {
    const abandon = new AbortController()
    const { signal } = abandon
    const { limits, effect } = this.#options
    const begun = effect === undefined ? never() : effect(batch).then((step) => (step.state === 'done' ? step.verdicts : never()), never)
    const patience = handle.eagerlyStarted || effect !== undefined ? patienceMs.eager : patienceMs.elsewhere
    const elsewhere = delay(patience, undefined, { signal }).then(() =>
      workflowResult<Answer>({
        handle,
        refused: (refusal) => batch.items.map((item) => ({ outcome: 'refused', url: item.url, refusal }) as Answer),
        outcome: () => findOutcome<Answer>(this.#options.database, batch.operationId),
        signal,
      }),
    )
    const tooLate = delay(limits.operationDeadlineMs, undefined, { signal }).then(() => {
      throw errors.OPERATION_UNFINISHED().retryAfter(2)
    })
    for (const waiting of [elsewhere, tooLate]) waiting.catch(() => undefined) // the race reports; what comes after it is of no interest
    try {
      const answeredHere = Promise.race([begun, here]).then((verdicts) => ({ by: 'here', verdicts }) as const)
      const answeredElsewhere = elsewhere.then((verdicts) => ({ by: 'result', verdicts }) as const)
      answeredElsewhere.catch(() => undefined) // like `elsewhere`
      const { by, verdicts } = await Promise.race([answeredHere, answeredElsewhere, tooLate])
      this.#options.observer?.answered(by)
      return verdicts
    } finally {
      abandon.abort()
    }
  }
}

/** A promise of its own each time: one that lives for ever would collect reactions for ever. */
const never = () => new Promise<never>(() => undefined)
