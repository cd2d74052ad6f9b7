/**
 * Workflows that follow from what was done already: `deliverWake`, `stopEntity` (design §3). Nothing depends on their start: the rows that they are
 * about have deadlines of their own, and `sweep` finds them.
 */
import { type Client, WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError, type WorkflowStartOptions } from '@temporalio/client'
import type { Workflow } from '@temporalio/common'
import type { EntityUrl } from '../domain/ids.js'
import type { DeliverWake, StopEntity } from '../domain/operations.js'
import { entityAttributes, idOfQueue } from './starts.js'

export interface FollowUpsOptions {
  readonly client: Client
  /** Starts a workflow in bounded time; default: the client, as it is. */
  readonly start?: (type: string, options: WorkflowStartOptions<Workflow>) => Promise<unknown>
  readonly taskQueue: string
  /** Null where the namespace has no search attributes of ours. */
  readonly attributeBytes: number | null
  readonly graceMs: number
}

const priorityOf = { deliverWake: 3, stopEntity: 1 } as const

export class FollowUps {
  readonly #options: FollowUpsOptions

  constructor(options: FollowUpsOptions) {
    this.#options = options
  }

  /** A wake whose delivery has failed is Temporal's from now on. Throws where it could not be told. */
  async deliver(
    wake: { readonly subscriptionId: string; readonly generation: number; readonly wakeId: string; readonly entityUrl: EntityUrl | null },
    retryInMs: number,
  ): Promise<void> {
    const input: DeliverWake = { wakeId: wake.wakeId, retryInMs }
    const id = this.#idOf(`wake:${wake.subscriptionId}:${wake.generation}`)
    await this.#start('deliverWake', id, input, `deliver a wake of ${wake.entityUrl ?? wake.subscriptionId}`, wake.entityUrl)
  }

  /** An entity is stopping while its handler works. Throws where Temporal could not be told. */
  async stop(url: EntityUrl): Promise<void> {
    const input: StopEntity = { url, graceMs: this.#options.graceMs }
    await this.#start('stopEntity', this.#idOf(`stop:${url}`), input, `stop ${url} when its handler is done`, url)
  }

  /** Its handler is done, and it has stopped. */
  async stopped(url: EntityUrl): Promise<void> {
    try {
      await this.#options.client.workflow.getHandle(this.#idOf(`stop:${url}`)).signal('stopped')
    } catch (failure) {
      if (!(failure instanceof WorkflowNotFoundError)) throw failure
    }
  }

  #idOf(id: string): string {
    return idOfQueue(this.#options.taskQueue, id)
  }

  async #start(
    type: keyof typeof priorityOf,
    workflowId: string,
    input: DeliverWake | StopEntity,
    summary: string,
    url: EntityUrl | null,
  ): Promise<void> {
    const { client, taskQueue, attributeBytes } = this.#options
    const start = this.#options.start ?? ((name, options) => client.workflow.start(name, options))
    try {
      await start(type, {
        workflowId,
        taskQueue,
        args: [input],
        staticSummary: summary.slice(0, 200),
        priority: { priorityKey: priorityOf[type] },
        ...(attributeBytes === null || url === null ? {} : { typedSearchAttributes: entityAttributes(url) }),
      })
    } catch (failure) {
      if (!(failure instanceof WorkflowExecutionAlreadyStartedError)) throw failure // it has been told already
    }
  }
}
