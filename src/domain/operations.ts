/**
 * Operations: what is asked of a workflow, and what it answers.
 *
 * These are the documented input and result types of `spawnEntities`, `closeEntities` and `signalEntities`: plain JSON, one object per workflow.
 * A batch answers one verdict per item, in order; a refusal is a value, so that one bad entity never retries 63 good ones.
 */
import type { DispatchPolicy, EntityStatus, Json, JsonObject, Tags } from './entity.js'
import type { Refusal } from './errors.js'
import type { EntityUrl, OperationId } from './ids.js'
import type { SandboxRequest } from './sandbox.js'
import type { Signal } from './signals.js'

/** spec/02 §6.1, as far as it is implemented. */
export interface SpawnItem {
  readonly url: EntityUrl
  /** The caller's key, `<kind>:<id>`. Whoever may start workflows is trusted to name it. */
  readonly principal: string
  /** The caller's permissions were judged by the embedding program (spec/12 §5), whose word stands: they are not looked at again. */
  readonly authorized?: true
  /** W3C trace context of the request that asks, so that whoever carries it out continues the trace. */
  readonly trace?: Readonly<Record<string, string>>
  readonly args?: JsonObject
  readonly tags?: Tags
  readonly parent?: EntityUrl
  readonly dispatchPolicy?: DispatchPolicy
  /** spec/02 §8. */
  readonly sandbox?: SandboxRequest
  readonly initialMessage?: { readonly payload: Json; readonly type?: string }
  /** `args` and `initialMessage` wait in the row of this id, because they are too large to travel. */
  readonly payloadId?: string
}

export interface SpawnBatch {
  readonly operationId: OperationId
  readonly items: readonly SpawnItem[]
}

export type SpawnVerdict =
  | { readonly outcome: 'spawned'; readonly url: EntityUrl; readonly txid: number; readonly createdAt: number }
  | { readonly outcome: 'refused'; readonly url: EntityUrl; readonly refusal: Refusal }

/** spec/05 §1.1. */
export interface SignalItem {
  readonly url: EntityUrl
  /** The caller's key. */
  readonly principal: string
  /** The caller's permissions were judged by the embedding program (spec/12 §5), whose word stands: they are not looked at again. */
  readonly authorized?: true
  /** W3C trace context of the request that asks, so that whoever carries it out continues the trace. */
  readonly trace?: Readonly<Record<string, string>>
  readonly signal: Signal
  readonly reason?: string
  readonly payload?: Json
  readonly payloadId?: string
  /** The permission that the caller needs: `DELETE` asks for another than the signal route. */
  readonly permission: 'signal' | 'delete'
}

export interface SignalBatch {
  readonly operationId: OperationId
  readonly items: readonly SignalItem[]
}

export type SignalVerdict =
  | {
      readonly outcome: 'signalled'
      readonly url: EntityUrl
      readonly signal: Signal
      readonly previousStatus: EntityStatus
      readonly newStatus: EntityStatus
      /** Milliseconds since the epoch. */
      readonly at: number
      readonly txid: number
    }
  | { readonly outcome: 'refused'; readonly url: EntityUrl; readonly refusal: Refusal }

export type Verdict = SpawnVerdict | SignalVerdict

/** What the first step of a workflow reports: finished, or with work left to do on a foreign stream server. */
export type Begun<Answer> = { readonly state: 'done'; readonly verdicts: readonly Answer[] } | { readonly state: 'elsewhere' }

/** Input of `deliverWake`. */
export interface DeliverWake {
  readonly wakeId: string
  readonly retryInMs: number
}

/** Input of `stopEntity`. */
export interface StopEntity {
  readonly url: EntityUrl
  readonly graceMs: number
}
