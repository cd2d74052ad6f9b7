/** What activities work with: handed to them by the process that runs them (`worker.ts`, `server.ts`), each part as small as they need it. */
import type { DispatchPolicy } from '../domain/entity.js'
import type { AgentsError } from '../domain/errors.js'
import type { EntityUrl, OperationId, StreamPath } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import type { ForkItem, SignalItem, SpawnItem, Verdict } from '../domain/operations.js'
import type { Principal } from '../domain/principals.js'
import type { SpawnPlan } from '../domain/spawn-plan.js'
import type { MadeStream } from '../domain/subscriptions.js'
import type { Database, Transaction } from '../registry/database.js'
import type { CreateVerdict, NewStream, StreamAppend, StreamStore, TransactionalStreams } from '../streams/store.js'

/** A stream to be made; with `dispatch` it is the main stream of an entity with that policy. */
export type DispatchedStream = NewStream & { readonly dispatch?: DispatchPolicy | null; readonly waking?: number }

/** How appends and rows become one. */
export type Appends =
  | {
      readonly kind: 'transaction'
      /**
       * Makes streams, linked to dispatch; `wake` asks, in one turn of the event loop (database.ts D9), for whom the last `waking` entries of each wake
       * (default: all behind the first).
       */
      createIn(
        tx: Transaction,
        streams: readonly DispatchedStream[],
      ): Promise<{ readonly verdicts: readonly CreateVerdict[]; wake(): Promise<unknown> }>
      readonly streams: Pick<TransactionalStreams, 'share' | 'history'>
      /** Locks for these appends; `write` asks for them and their consequences in one turn of the event loop (database.ts D9). */
      decideIn(tx: Transaction, appends: readonly StreamAppend[]): Promise<{ write(): Promise<unknown> }>
      announce(paths: readonly StreamPath[]): void
    }
  | {
      readonly kind: 'intents'
      readonly streams: StreamStore
      intendIn(tx: Transaction, id: OperationId, appends: readonly StreamAppend[]): Promise<void>
      landOperation(id: OperationId): Promise<void>
      /** Draws the consequences of all that stands on these streams. */
      catchUp(paths: readonly StreamPath[]): Promise<void>
      /** New streams of entities that become visible in `tx`: what was made before of them wakes whom it should. */
      linkIn(tx: Transaction, made: readonly MadeStream[]): Promise<void>
      sweep(): Promise<number>
    }

/** A fork that the rules have nothing against, as far as they can tell before it is looked at under locks. */
export interface CheckedFork {
  readonly id: OperationId
  readonly item: ForkItem
  readonly principal: Principal
  readonly source: EntityUrl
  /** As asked for; null: made. */
  readonly rootUrl: EntityUrl | null
  readonly parent: EntityUrl | null
}

/** The rules of a spawn and of a signal: the same for callers over HTTP and for those who start workflows. */
export interface Rules {
  /** All checks but whether the URL is free, which the INSERT decides (spec/02 §6.2). */
  planSpawn(item: SpawnItem, seed: string): Promise<SpawnPlan | AgentsError>
  /** The plans of those among these principals whose entity does not exist yet; each may have lost a race when it is carried out. */
  planPrincipals(principals: readonly string[]): Promise<readonly SpawnPlan[]>
  /** spec/05 §1.2, rows 1–6. Null: nothing stands against it so far. */
  refuseSignal(item: SignalItem): Promise<AgentsError | null>
}

export interface ForkRules {
  /** spec/04 §3, all rows but those that need the subtree to stand still. */
  checkFork(item: ForkItem, id: OperationId): Promise<CheckedFork | AgentsError>
}

/** What became of the keys that sign webhooks. */
export interface SigningReport {
  readonly rotated: boolean
  readonly forgottenKeys: number
}

/** `over`: nothing is left to deliver. */
export type RedeliveryVerdict = { readonly state: 'over' } | { readonly state: 'failed'; readonly retryInMs: number }

export interface Parts {
  readonly database: Database
  readonly appends: Appends
  readonly streams: Pick<StreamStore, 'delete'>
  readonly rules: Rules
  readonly forkRules: ForkRules
  readonly limits: Limits
  readonly wakes: {
    /** The next attempt of a wake whose delivery has failed. */
    redeliver(wakeId: string): Promise<RedeliveryVerdict>
    /** Told of entities that wait for their handlers to stop. */
    stopping(urls: readonly EntityUrl[]): void
    /** Stops an entity that is `stopping`; whether it has stopped now. */
    finishStop(url: EntityUrl, options?: { readonly despiteClaim?: boolean }): Promise<boolean>
  }
  readonly signing: { maintain(): Promise<SigningReport> }
  /** Hands an operation's verdicts to the request that waits for them in this process, if one does. */
  deliver(id: OperationId, verdicts: readonly Verdict[]): void
}
