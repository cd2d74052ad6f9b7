/** What a runtime does with each signal that it finds in the stream of the entity it runs: spec/05 §5, as data. */
import { type Signal, signals } from '../../src/domain/signals.js'
import type { Row } from './freshness.js'
import type { WrittenEvent } from './wake.js'

export interface Reaction {
  /** The handler that runs is aborted. */
  readonly aborts: boolean
  /** The wake ends: at once where nothing runs, else after the handler that runs. */
  readonly ends: boolean
  /** The next waiting message gets its turn. */
  readonly promotes: boolean
  /** The handler's listener is called. */
  readonly isTold: boolean
  readonly acknowledgement: { readonly outcome: string; readonly newState?: string } | undefined
}

const none = { aborts: false, ends: false, promotes: false, isTold: false }

export const reactions: Readonly<Record<Signal, Reaction>> = {
  SIGINT: { ...none, aborts: true, ends: true, acknowledgement: { outcome: 'aborted' } },
  SIGKILL: { ...none, aborts: true, ends: true, acknowledgement: undefined }, // the stream is closed
  SIGTERM: { ...none, ends: true, isTold: true, acknowledgement: { outcome: 'shutdown_requested', newState: 'stopped' } },
  SIGHUP: { ...none, ends: true, isTold: true, acknowledgement: { outcome: 'shutdown_requested' } },
  SIGSTOP: { ...none, ends: true, acknowledgement: { outcome: 'transitioned', newState: 'paused' } },
  SIGCONT: { ...none, promotes: true, acknowledgement: { outcome: 'transitioned', newState: 'idle' } },
  SIGUSR: { ...none, isTold: true, acknowledgement: { outcome: 'delivered' } },
}

/** An interrupt that finds nothing to interrupt. */
export const idleInterrupt: Reaction = { ...none, acknowledgement: { outcome: 'ignored' } }

export function signalOf(row: Row): Signal | undefined {
  return signals.find((signal) => signal === row.value.signal)
}

/** The same key with the full merged value (spec/05 §5). */
export function acknowledged(
  row: Row,
  by: string,
  previousState: string,
  { outcome, newState }: { readonly outcome: string; readonly newState?: string },
): WrittenEvent {
  return {
    type: 'signal',
    key: row.key,
    value: {
      ...row.value,
      status: 'handled',
      handled_at: new Date().toISOString(),
      handled_by: by,
      outcome,
      previous_state: previousState,
      ...(newState === undefined ? {} : { new_state: newState }),
    },
    headers: { operation: 'update' },
  }
}
