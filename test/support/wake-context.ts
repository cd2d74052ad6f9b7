/** What a test gives to the reference runtime, and what its handlers are given. */
import type { Signal } from '../../src/domain/signals.js'
import type { RunLog } from './run-log.js'
import type { StreamEvent, TokenHeader, Wake, WrittenEvent } from './wake.js'

export type SignalListener = (signal: Signal) => void | Promise<void>

export interface CallAnswer {
  readonly status: number
  readonly text: string
}

/** One pass of the handler: what is new, and what may be done about it. */
export interface WakeContext {
  readonly wake: Wake
  /** `inbox`, `wake`, or the wake's trigger when the stream held nothing fresh. */
  readonly wakeType: string
  /** The fresh inbox events of this pass, one per message. */
  readonly events: readonly StreamEvent[]
  /** The fresh wake events. */
  readonly wakes: readonly StreamEvent[]
  /** Everything fresh, whatever its type. */
  readonly fresh: readonly StreamEvent[]
  /** The whole stream as it is known now. */
  readonly history: readonly StreamEvent[]
  /** 1 for the first pass of the wake. */
  readonly pass: number
  /** Aborted by SIGINT, SIGKILL, a lost claim, a refused append. */
  readonly signal: AbortSignal
  /** Queued and sent in batches; what is written in one go travels together. */
  write(...events: readonly WrittenEvent[]): void
  /** Waits until everything written was answered. */
  flush(): Promise<void>
  /** A call to the server on behalf of the entity's creator. */
  call(method: string, path: string, body?: unknown): Promise<CallAnswer>
  /** Is told SIGTERM, SIGHUP and SIGUSR. */
  onSignal(listener: SignalListener): void
}

export type WakeHandler = (context: WakeContext) => Promise<void>

/** Where a run can be made to die, in its order; `handling`: as its handler begins. */
export const runPoints = ['delivered', 'claimed', 'loaded', 'handling', 'handled', 'flushed'] as const
export type RunPoint = (typeof runPoints)[number]

/** What every wake of a handler or runner has in common. */
export interface RuntimeOptions {
  /** Of the server, without a slash at its end; a function may take turns among replicas. */
  readonly baseUrl: string | (() => string)
  readonly handler: WakeHandler
  /** Whose ledger the runs are written into; default: one of its own. */
  readonly log?: RunLog
  /** Its name in the ledger. */
  readonly name?: string
  /** Default `authorization`. */
  readonly tokenHeader?: TokenHeader
  /** How long a wake waits for more work before it is done. */
  readonly idleMs?: number
  readonly heartbeatMs?: number
  /** Types that are served; default: all. */
  readonly types?: readonly string[]
  /** Sandbox profiles that exist; default: all. */
  readonly sandboxProfiles?: readonly string[]
}

export const defaultIdleMs = 100
export const defaultHeartbeatMs = 500

export const baseUrlOf = ({ baseUrl }: Pick<RuntimeOptions, 'baseUrl'>): string => (typeof baseUrl === 'string' ? baseUrl : baseUrl())
