/**
 * Forking (spec/04).
 *
 * F1  What can be done at once goes through group commit, like spawns. What must wait is a workflow of its own, whose answer the request awaits.
 * F2  A fork is named before anything begins: by its `Idempotency-Key`, or freshly. A repetition under the same name meets the outcome of the first.
 * F3  Nothing waits in memory for a subtree to become idle: a crash loses the answer, and the workflow goes on.
 */
import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { WorkflowExecutionAlreadyStartedError, type WorkflowHandle } from '@temporalio/client'
import { secondWorkflowId, startOptions, workflowIdOf } from '../client/starts.js'
import { AgentsError, errors } from '../domain/errors.js'
import { forkAddress } from '../domain/fork/names.js'
import { type OperationId, operationId } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import type { ForkBatch, ForkItem, ForkVerdict } from '../domain/operations.js'
import type { Database } from '../registry/database.js'
import type { EntityHead } from '../registry/entities.js'
import type { SubtreeGlance } from '../registry/forking.js'
import { findOutcome, findPayloads, insertPayloads } from '../registry/operations.js'
import type { JudgedPrincipal } from './authorize.js'
import type { Directory } from './directory.js'
import { checkFork } from './fork-rules.js'
import type { Operations } from './operations.js'
import { carriedBy, type EntityRules } from './rules.js'
import { workflowResult } from './workflow-result.js'
import type { WorkflowService } from './workflow-service.js'

export type ForkAsked = Omit<ForkItem, 'url' | 'operationId' | 'hasty' | 'payloadId'>

export interface Forked {
  readonly root: EntityHead
  /** Root first, then breadth-first. */
  readonly entities: readonly EntityHead[]
}

export interface ForkingParts {
  readonly rules: EntityRules
  readonly directory: Directory
  readonly database: Database
  readonly operations: Operations<ForkItem, ForkVerdict>
  readonly service: WorkflowService
  readonly taskQueue: string
  /** Null where the namespace has no search attributes of ours. */
  readonly attributeBytes: number | null
  readonly limits: Limits
}

/** About what a subtree costs, measured in bytes of a batch: a batch holds `maxForkEntities` and `maxForkRows`. */
const bytesOf = ({ entities, rows }: SubtreeGlance, { maxOperationBatchBytes, maxForkEntities, maxForkRows }: Limits): number =>
  maxOperationBatchBytes * Math.max(entities / maxForkEntities, rows / maxForkRows)

const nothing: SubtreeGlance = { entities: 0, active: 0, rows: 0 }

export class Forking {
  readonly #parts: ForkingParts

  constructor(parts: ForkingParts) {
    this.#parts = parts
  }

  /** Forks; throws the refusal. All copies are complete and readable by every replica when this returns. */
  async fork(asked: ForkAsked, caller: JudgedPrincipal, idempotencyKey?: string): Promise<Forked> {
    if (idempotencyKey === undefined) return await this.#forked(itemOf(asked, operationId(`fork-${randomUUID()}`)), caller)
    const item = itemOf(asked, keyedId(this.#parts.database.tenant, asked, caller, idempotencyKey))
    return (await this.#before(item, asked)) ?? (await this.#keyed(item, caller))
  }

  /** F2. What the key was used for before: its outcome, or null. */
  async #before({ operationId: id = operationId('') }: ForkItem, asked: ForkAsked): Promise<Forked | null> {
    const { database } = this.#parts
    const row = { id: `${id}/request`, payload: digest(JSON.stringify(asked)) }
    await insertPayloads(database, [row])
    if ((await findPayloads(database, [row.id])).get(row.id) !== row.payload) throw errors.IDEMPOTENCY_KEY_REUSED()
    const outcome = await findOutcome<ForkVerdict>(database, id)
    return outcome === null ? null : await this.#answer(id, outcome[0])
  }

  /** A refusal may be due to the very fork that the key names, which was carried out meanwhile. */
  async #keyed(item: ForkItem, caller: JudgedPrincipal): Promise<Forked> {
    try {
      return await this.#forked(item, caller)
    } catch (failure) {
      if (!(failure instanceof AgentsError)) throw failure
      const id = item.operationId ?? operationId('')
      const outcome = await findOutcome<ForkVerdict>(this.#parts.database, id)
      if (outcome === null) throw failure
      return await this.#answer(id, outcome[0])
    }
  }

  async #forked(asked: ForkItem, caller: JudgedPrincipal): Promise<Forked> {
    const { rules, limits, directory, operations } = this.#parts
    const id = asked.operationId ?? operationId('')
    await checkFork(rules, limits, asked, id, caller)
    const glance = (await directory.subtree(asked.source)) ?? nothing
    if (glance.entities > limits.maxForkEntities) throw errors.FORK_TOO_LARGE(limits.maxForkEntities)
    if (glance.rows > limits.maxForkRows) throw errors.FORK_TOO_MANY_ROWS(limits.maxForkRows)
    const item = carriedBy(caller, asked)
    const mayWait = item.waitTimeoutMs !== 0
    if (glance.active > 0 && mayWait) return await this.#answer(id, await this.#patiently(item)) // F1
    const verdict = await operations.run({ ...item, hasty: true }, bytesOf(glance, limits))
    return await this.#answer(id, verdict.outcome === 'busy' ? await this.#patiently(item) : verdict)
  }

  /** F3. */
  async #patiently(item: ForkItem): Promise<ForkVerdict | undefined> {
    const { limits, database } = this.#parts
    const id = item.operationId ?? operationId('')
    const handle = await this.#started({ operationId: id, items: [await this.#parked(item)] }, item)
    const waitMs = Math.min(item.waitTimeoutMs ?? limits.forkWaitMs, limits.maxForkWaitMs)
    const abandon = new AbortController()
    const { signal } = abandon
    const tooLate = delay(waitMs + limits.operationDeadlineMs, undefined, { signal }).then(() => {
      throw errors.OPERATION_UNFINISHED().retryAfter(2)
    })
    const answered = workflowResult<ForkVerdict>({
      handle,
      refused: (refusal) => [{ outcome: 'refused', url: item.url, refusal }],
      outcome: () => findOutcome<ForkVerdict>(database, id),
      signal,
    })
    for (const waiting of [tooLate, answered]) waiting.catch(() => undefined) // the race reports; what comes after it is of no interest
    try {
      return (await Promise.race([answered, tooLate]))[0]
    } finally {
      abandon.abort()
    }
  }

  /** What is too large to travel through Temporal waits in a row (operations.ts O4). */
  async #parked(item: ForkItem): Promise<ForkItem> {
    const { limits, database } = this.#parts
    const large = largeOfFork(item)
    if (large === undefined || large.text.length <= limits.maxInlinePayloadBytes) return item
    const payloadId = `${item.operationId}/0`
    await insertPayloads(database, [{ id: payloadId, payload: large.text }])
    return { ...large.rest, payloadId }
  }

  async #started(batch: ForkBatch, item: ForkItem): Promise<WorkflowHandle> {
    const { service, taskQueue, attributeBytes } = this.#parts
    const urls = [item.url]
    const options = {
      taskQueue,
      args: [batch],
      requestEagerStart: true,
      ...startOptions({ kind: 'fork', urls, sources: [item.source], operationId: batch.operationId, attributeBytes }),
    }
    try {
      return await service.start('forkSubtree', { ...options, workflowId: workflowIdOf('fork', urls, batch.operationId) })
    } catch (failure) {
      // Another fork to this URL waits under its own id; or this one, begun before. The registry decides between them.
      if (!(failure instanceof WorkflowExecutionAlreadyStartedError)) throw failure
      const workflowId = secondWorkflowId('fork', batch.operationId)
      return await service.start('forkSubtree', { ...options, workflowId, workflowIdConflictPolicy: 'USE_EXISTING' })
    }
  }

  async #answer(id: OperationId, verdict: ForkVerdict | undefined): Promise<Forked> {
    if (verdict === undefined || verdict.outcome === 'busy') throw errors.OPERATION_FAILED().retryAfter(1)
    if (verdict.outcome === 'refused') throw new AgentsError(verdict.refusal)
    const urls = verdict.urls ?? (await this.#urlsOf(id))
    const found = await Promise.all(urls.map(async (url) => await this.#parts.rules.lookUp(url)))
    const [root] = found
    if (root === undefined) throw errors.OPERATION_FAILED().retryAfter(1)
    return { root, entities: found }
  }

  async #urlsOf(id: OperationId) {
    const [verdict] = (await findOutcome<ForkVerdict>(this.#parts.database, id)) ?? []
    return verdict?.outcome === 'forked' ? (verdict.urls ?? []) : []
  }
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

const keyedId = (tenant: string, { source }: ForkAsked, caller: JudgedPrincipal, key: string): OperationId =>
  operationId(`fork-${digest(JSON.stringify([tenant, caller.url, source, key]))}`)

const itemOf = (asked: ForkAsked, id: OperationId): ForkItem => ({
  ...asked,
  operationId: id,
  url: forkAddress(asked.source, asked.instanceId, id),
})

/** What may be large in a fork, and the fork without it. */
export function largeOfFork({ tags, initialMessage, wake, ...rest }: ForkItem) {
  return tags === undefined && initialMessage === undefined ? undefined : { text: JSON.stringify({ tags, initialMessage, wake }), rest }
}
