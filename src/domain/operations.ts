/**
 * Operations: what is asked of a workflow, and what it answers.
 *
 * These are the documented input and result types of `spawnEntities`, `forkSubtree`, `closeEntities` and `signalEntities`: plain JSON, one object per workflow.
 * A batch answers one verdict per item, in order; a refusal is a value, so that one bad entity never retries 63 good ones.
 */
import type { DispatchPolicy, EntityStatus, Json, JsonObject, Tags } from './entity.js'
import type { Refusal } from './errors.js'
import type { ForkAnchor, ForkPointer } from './fork/cut.js'
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

/** spec/04 §2. */
export interface ForkItem {
  /** What is forked. */
  readonly source: EntityUrl
  /** Where the copy of the root will be, if the name is free; see `instanceId`. By it the operation is found. */
  readonly url: EntityUrl
  /** Names this fork for ever; default: after its batch. */
  readonly operationId?: OperationId
  /** The caller's key. */
  readonly principal: string
  /** The caller's permissions were judged by the embedding program (spec/12 §5), whose word stands: they are not looked at again. */
  readonly authorized?: true
  /** W3C trace context of the request that asks, so that whoever carries it out continues the trace. */
  readonly trace?: Readonly<Record<string, string>>
  /** Exact id of the copy of the root; absent: made of the source's. */
  readonly instanceId?: string
  /** How long to wait for what is at work; absent: the limit's default, 0: not at all. */
  readonly waitTimeoutMs?: number
  readonly pointer?: ForkPointer
  readonly anchor?: ForkAnchor
  readonly parent?: EntityUrl
  readonly wake?: JsonObject
  readonly tags?: Tags
  readonly initialMessage?: { readonly payload: Json }
  /** `tags` and `initialMessage` wait in the row of this id, because they are too large to travel. */
  readonly payloadId?: string
  /** Do it at once or answer `busy`: nobody waits. Of several forks in one batch none waits. */
  readonly hasty?: true
}

export interface ForkBatch {
  readonly operationId: OperationId
  readonly items: readonly ForkItem[]
}

export type ForkVerdict =
  | {
      readonly outcome: 'forked'
      /** Of the copy of the root. */
      readonly url: EntityUrl
      readonly entities: number
      /** All copies, root first; absent where they are too many to travel. */
      readonly urls?: readonly EntityUrl[]
      readonly txid: number
    }
  /** Somebody in the subtree is at work, and nobody was to wait; nothing was done. */
  | { readonly outcome: 'busy'; readonly url: EntityUrl }
  | { readonly outcome: 'refused'; readonly url: EntityUrl; readonly refusal: Refusal }

/** A fork that waits, as its workflow is told. */
export interface ForkWaits {
  readonly state: 'waits'
  /** Some of those who are at work. */
  readonly active: readonly EntityUrl[]
  readonly count: number
  /** How long to wait in all. */
  readonly waitMs: number
}

export type Verdict = SpawnVerdict | SignalVerdict | ForkVerdict

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
