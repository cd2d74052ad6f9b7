/**
 * The workflow service as requests see it: starts in bounded time, or the answer 503.
 *
 * W1  A start waits for `startLimitMs` beyond the last sign of life of the service: the SDK alone takes 6–10 s to notice a dead server
 *     (temporal-notes §4.3). One that answers probes is busy and not down: it is waited for until `busyLimitMs`.
 * W2  After one failure every start is refused at once, until a probe beside the requests has succeeded (a breaker).
 * W3  Nothing queues in memory while the service is away.
 *
 * A start that ran out of time may still have happened; its operation then runs as if acknowledged, and a repeated request meets its outcome.
 */
import type { Client, WorkflowHandleWithStartDetails, WorkflowStartOptions } from '@temporalio/client'
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client'
import type { Workflow } from '@temporalio/common'
import type { NativeConnection } from '@temporalio/worker'
import { errors } from '../domain/errors.js'
import { within } from '../domain/within.js'

const probeEveryMs = 250
const probeLimitMs = 2_000
/** How much of its limit a start is waited for before the service is asked for a sign of life, which has the rest. */
const quietShare = 0.4
const retryAfterS = 2

export interface WorkflowServiceOptions {
  readonly connection: NativeConnection
  readonly client: Client
  readonly startLimitMs: number
  readonly busyLimitMs: number
  readonly onChange?: (state: 'up' | 'down', reason: string) => void
}

export class WorkflowService {
  readonly client: Client
  readonly #options: WorkflowServiceOptions
  #down = false
  #probe: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: WorkflowServiceOptions) {
    this.client = options.client
    this.#options = options
  }

  get isDown(): boolean {
    return this.#down
  }

  /** Starts a workflow, acknowledged durably. Throws WORKFLOW_SERVICE_UNAVAILABLE, or `WorkflowExecutionAlreadyStartedError`. */
  async start<Type extends Workflow>(type: string, options: WorkflowStartOptions<Type>): Promise<WorkflowHandleWithStartDetails<Type>> {
    if (this.#down) throw errors.WORKFLOW_SERVICE_UNAVAILABLE().retryAfter(retryAfterS) // W2
    try {
      return await this.#whileAlive(() => this.client.workflow.start<Type>(type, options))
    } catch (failure) {
      if (failure instanceof WorkflowExecutionAlreadyStartedError || isRequestsFault(failure)) throw failure
      if (codeOf(failure) !== resourceExhausted) this.#trip(failure) // busy is not down
      throw errors.WORKFLOW_SERVICE_UNAVAILABLE().retryAfter(retryAfterS)
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#probe)
  }

  /** W1. Between a quiet time and the end of a probe a stall of this process counts once at most: the second begins after the first. */
  async #whileAlive<Result extends object>(call: () => Promise<Result>): Promise<Result> {
    const { connection, startLimitMs, busyLimitMs } = this.#options
    const quietMs = startLimitMs * quietShare
    const since = performance.now()
    const answer = connection.withDeadline(Date.now() + busyLimitMs, call)
    for (;;) {
      const come = (await within(quietMs, answer)) ?? (await Promise.race([answer, this.#probed(startLimitMs - quietMs)]))
      if (come !== undefined) return come
      if (performance.now() - since > busyLimitMs) throw new Error(`no start within ${busyLimitMs} ms, though probes are answered`)
    }
  }

  /** A deadline of the SDK limits one attempt only, so our own timer stands around it. */
  async #probed(limitMs: number): Promise<undefined> {
    const { connection } = this.#options
    const answer = connection.withDeadline(Date.now() + limitMs, () => connection.workflowService.getSystemInfo({}))
    if ((await within(limitMs, answer)) === undefined) throw new Error(`no answer within ${Math.round(limitMs)} ms`)
  }

  #trip(failure: unknown): void {
    if (this.#down || this.#closed) return
    this.#down = true
    this.#options.onChange?.('down', failure instanceof Error ? failure.message : String(failure))
    this.#scheduleProbe()
  }

  #scheduleProbe(): void {
    if (this.#closed) return
    this.#probe = setTimeout(() => {
      this.#probed(probeLimitMs).then(
        () => this.#recover(),
        () => this.#scheduleProbe(),
      )
    }, probeEveryMs)
    this.#probe.unref()
  }

  #recover(): void {
    this.#down = false
    this.#options.onChange?.('up', 'a probe was answered')
  }
}

/** gRPC status codes. */
const invalidArgument = 3
const resourceExhausted = 8

/** The service works and refuses this request: our bounds failed, which no retry mends. */
const isRequestsFault = (failure: unknown): boolean => codeOf(failure) === invalidArgument

function codeOf(failure: unknown): unknown {
  const cause: unknown = failure instanceof Error ? (failure.cause ?? failure) : failure
  return typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined
}
