/**
 * Tells workflows that wait for entities that something has come to rest: the way out of the outbox (registry/waiters.ts W3).
 *
 * R1  An owed signal is removed only after Temporal has taken it. Who dies in between leaves it to another process, or to `sweep`.
 * R2  Signals to one workflow that are owed together are told once.
 * R3  A workflow that is over has no use for signals: what it waited for is forgotten.
 * R4  A workflow that cannot be told is told later; it holds up none of the others.
 */
import { WorkflowNotFoundError } from '@temporalio/client'
import type { Database } from '../registry/database.js'
import type { Listening } from '../registry/listening.js'
import { deleteSignals, forgetWaiter, takeSignals, waitersChannel } from '../registry/waiters.js'

const perRound = 200
const retryMs = 1_000

export interface WaiterRelayOptions {
  readonly database: Database
  /** Signals a workflow; bounded in time. */
  readonly signal: (workflowId: string) => Promise<void>
  readonly onFailure: (failure: unknown) => void
}

export class WaiterRelay {
  readonly #options: WaiterRelayOptions
  readonly #listening: Listening
  /** Notices that came since the last round began. */
  #isAsked = false
  #rounds: Promise<void> | null = null
  #retry: NodeJS.Timeout | null = null
  #isClosed = false

  constructor(options: WaiterRelayOptions) {
    this.#options = options
    const { database } = options
    this.#listening = database.listen({
      channel: waitersChannel,
      onNotice: (tenant) => {
        if (tenant === database.tenant) this.#relaySoon()
      },
      onConnect: () => this.#relaySoon(),
    })
  }

  #relaySoon(): void {
    this.#isAsked = true
    if (this.#isClosed) return
    this.#rounds ??= this.#relay()
      .catch((failure: unknown) => {
        this.#options.onFailure(failure)
        this.#retryLater()
      })
      .finally(() => {
        this.#rounds = null
      })
  }

  #retryLater(): void {
    if (this.#isClosed || this.#retry !== null) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      this.#relaySoon()
    }, retryMs)
    this.#retry.unref()
  }

  async #relay(): Promise<void> {
    while (this.#isAsked && !this.#isClosed) {
      this.#isAsked = false
      while (await this.#round()) {}
    }
  }

  /** R1. Whether there may be more. Throws why somebody could not be told, when what the others were told is committed (R4). */
  async #round(): Promise<boolean> {
    const { untold, isFull } = await this.#options.database.transaction(async (tx) => {
      const owed = await takeSignals(tx, perRound)
      const outcomes = await Promise.allSettled(owed.map(async ({ workflowId }) => await this.#tell(workflowId))) // R2
      const settled: number[] = []
      for (const [index, { workflowId, ids }] of owed.entries()) {
        const outcome = outcomes[index]
        if (outcome?.status !== 'fulfilled') continue // R4
        settled.push(...ids)
        if (!outcome.value) await forgetWaiter(tx, workflowId) // R3
      }
      if (settled.length > 0) await deleteSignals(tx, settled)
      return { untold: outcomes.find(({ status }) => status === 'rejected'), isFull: owed.flatMap(({ ids }) => ids).length === perRound }
    })
    if (untold?.status === 'rejected') throw untold.reason
    return isFull
  }

  /** False when the workflow is over. */
  async #tell(workflowId: string): Promise<boolean> {
    try {
      await this.#options.signal(workflowId)
      return true
    } catch (failure) {
      if (failure instanceof WorkflowNotFoundError) return false
      throw failure
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#retry !== null) clearTimeout(this.#retry)
    await this.#listening.close()
    await this.#rounds
  }
}
