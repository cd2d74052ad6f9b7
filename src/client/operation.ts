/**
 * One operation on one entity, started and awaited through a Temporal client of any kind.
 *
 * Started lazily: eager starts need a worker on the same connection, which a service does not have.
 */
import type { Client, WorkflowHandle } from '@temporalio/client'
import { isGrpcServiceError, ServiceError, WorkflowExecutionAlreadyStartedError, WorkflowFailedError } from '@temporalio/client'
import { operationIdProblem } from '../domain/batch-form.js'
import { AgentsError, errors } from '../domain/errors.js'
import type { EntityUrl, OperationId } from '../domain/ids.js'
import { limitDefinitions } from '../domain/limits.js'
import type { Verdict } from '../domain/operations.js'
import { refusalOf } from './refusals.js'
import {
  defaultTaskQueue,
  type OperationKind,
  portableAttributeBytes,
  secondWorkflowId,
  sourcesOf,
  startOptions,
  workflowIdOf,
} from './starts.js'

export interface OperationOptions {
  /** Where the workers of the tenant listen; default `agents`, for other tenants than the default one `agents:<tenant>`. */
  readonly taskQueue?: string
  /**
   * Names the operation, at most 900 bytes: asked for again under the same name, it answers what it answered the first time; what was used to grant
   * something else is `IDEMPOTENCY_KEY_REUSED`. Default: a new name.
   */
  readonly operationId?: string
  /** False where the namespace lacks `EntityUrls`, `EntityType` and `OperationId`. */
  readonly searchAttributes?: boolean
}

export interface OperationStart<Batch, Answer, Granted extends Answer> {
  readonly kind: OperationKind
  readonly workflowType: string
  readonly batch: Batch
  /** Whether a verdict that grants something grants what is asked for: an operation id may have been used before, for something else. */
  readonly grants: (verdict: Answer) => verdict is Granted
}

interface BatchOfOne {
  readonly operationId: OperationId
  readonly items: readonly { readonly url: EntityUrl; readonly source?: EntityUrl }[]
}

/** Everything that travels through Temporal is bounded; HTTP takes more, because the server parks it in a row. */
const maxRequestBytes = limitDefinitions.maxOperationBatchBytes.default

/** gRPC status codes of a service that is away or busy. */
const unavailable: ReadonlySet<number> = new Set([4, 8, 14])

/** The SDK wraps what gRPC says. */
function isAway(failure: unknown): boolean {
  const said = failure instanceof ServiceError ? failure.cause : failure
  return isGrpcServiceError(said) && unavailable.has(said.code)
}

/** Starts the workflow and waits for its one verdict; throws a refusal as `AgentsError`. */
export async function onlyVerdict<Batch extends BatchOfOne, Answer extends Verdict, Granted extends Answer>(
  client: Client,
  start: OperationStart<Batch, Answer, Granted>,
  options: OperationOptions,
): Promise<Granted> {
  const problem = operationIdProblem(start.batch.operationId)
  if (problem !== null) throw errors.INVALID_REQUEST(`operationId ${problem}`)
  if (Buffer.byteLength(JSON.stringify(start.batch)) > maxRequestBytes) throw errors.BODY_TOO_LARGE(maxRequestBytes)
  const handle = await started(client, start, options)
  const [verdict] = await verdictsOf<Answer>(handle)
  if (verdict === undefined) throw errors.OPERATION_FAILED()
  if (verdict.outcome === 'refused') throw new AgentsError(verdict.refusal)
  if (start.grants(verdict)) return verdict
  throw verdict.outcome === 'busy' ? errors.OPERATION_FAILED() : errors.IDEMPOTENCY_KEY_REUSED()
}

async function started<Batch extends BatchOfOne>(
  client: Client,
  start: Pick<OperationStart<Batch, never, never>, 'kind' | 'workflowType' | 'batch'>,
  options: OperationOptions,
) {
  const { kind, batch } = start
  const urls = batch.items.map((item) => item.url)
  const second = secondWorkflowId(kind, batch.operationId)
  try {
    return (await startedAs(workflowIdOf(kind, urls, batch.operationId))) ?? (await startedAs(second)) ?? client.workflow.getHandle(second)
  } catch (failure) {
    if (isAway(failure)) throw errors.WORKFLOW_SERVICE_UNAVAILABLE()
    throw failure
  }

  /** Null where a workflow of this id runs: somebody works on this entity, or this very operation was begun before. */
  async function startedAs(workflowId: string): Promise<WorkflowHandle | null> {
    const attributeBytes = options.searchAttributes === false ? null : portableAttributeBytes
    try {
      return await client.workflow.start(start.workflowType, {
        workflowId,
        taskQueue: options.taskQueue ?? defaultTaskQueue,
        args: [batch],
        ...startOptions({ kind, urls, sources: sourcesOf(batch.items), operationId: batch.operationId, attributeBytes }),
      })
    } catch (failure) {
      if (failure instanceof WorkflowExecutionAlreadyStartedError) return null
      throw failure
    }
  }
}

async function verdictsOf<Answer>(handle: WorkflowHandle): Promise<readonly Answer[]> {
  try {
    return (await handle.result()) as readonly Answer[]
  } catch (failure) {
    const refusal = refusalOf(failure)
    if (refusal !== null) throw new AgentsError(refusal)
    if (failure instanceof WorkflowFailedError) throw errors.OPERATION_FAILED()
    if (isAway(failure)) throw errors.OPERATION_UNFINISHED()
    throw failure
  }
}
