/**
 * What a signal does to an entity: spec/05-signals-close.md §2, cell by cell, as data.
 *
 * `others` stands for the signals that a row does not name. Total: every pair of status and signal has an answer; terminal statuses refuse.
 */
import { type EntityStatus, isTerminal } from './entity.js'

export const signals = ['SIGINT', 'SIGHUP', 'SIGTERM', 'SIGKILL', 'SIGSTOP', 'SIGCONT', 'SIGUSR'] as const
export type Signal = (typeof signals)[number]

export type TerminalStatus = 'stopped' | 'killed'
export type LiveStatus = Exclude<EntityStatus, TerminalStatus>

/** What happens: the row's status afterwards, and how the event is written. */
export interface SignalEffect {
  readonly newStatus: EntityStatus
  /** `unhandled`: left to the runtime. */
  readonly event: 'unhandled' | { readonly outcome: 'transitioned' | 'ignored' }
  /** Whether the stream is closed with the event. */
  readonly ends: boolean
}

type Cell = (status: LiveStatus) => SignalEffect
type Transitions = { readonly [signal in Signal]?: Cell } & { readonly others: Cell }

const leavesToRuntime: Cell = (status) => ({ newStatus: status, event: 'unhandled', ends: false })
const ignored: Cell = (status) => ({ newStatus: status, event: { outcome: 'ignored' }, ends: false })
/** The row changes at once, the runtime acknowledges. */
const asks =
  (newStatus: LiveStatus): Cell =>
  () => ({ newStatus, event: 'unhandled', ends: false })
const moves =
  (newStatus: LiveStatus): Cell =>
  () => ({ newStatus, event: { outcome: 'transitioned' }, ends: false })
const ends =
  (newStatus: TerminalStatus): Cell =>
  () => ({ newStatus, event: { outcome: 'transitioned' }, ends: true })

export const transitions: { readonly [status in LiveStatus]: Transitions } = {
  spawning: { SIGKILL: ends('killed'), others: leavesToRuntime },
  idle: { SIGTERM: ends('stopped'), SIGKILL: ends('killed'), SIGSTOP: moves('paused'), others: leavesToRuntime },
  running: { SIGTERM: asks('stopping'), SIGKILL: ends('killed'), SIGSTOP: asks('paused'), others: leavesToRuntime },
  paused: { SIGTERM: ends('stopped'), SIGKILL: ends('killed'), SIGCONT: asks('idle'), others: ignored },
  stopping: { SIGKILL: ends('killed'), others: leavesToRuntime },
}

/** What a paused run still hears of: the UI stops one at once by SIGSTOP and SIGINT (spec/05 §6.1). */
const heardWhilePaused: ReadonlySet<Signal> = new Set(['SIGINT', 'SIGHUP', 'SIGUSR'])

/** The answer to `signal` in `status`; null where the entity has ended (409). `isWorkedOn`: a handler has a wake of the entity. */
export function receive(status: EntityStatus, signal: Signal, isWorkedOn = false): SignalEffect | null {
  if (isTerminal(status)) return null
  const live = status as LiveStatus
  if (live === 'paused' && isWorkedOn && heardWhilePaused.has(signal)) return leavesToRuntime(live)
  return (transitions[live][signal] ?? transitions[live].others)(live)
}

/** Whether `signal` may end an entity, whatever its status: such signals travel as `closeEntities` workflows. */
export const mayEnd = (signal: Signal): boolean => signal === 'SIGKILL' || signal === 'SIGTERM'
