/** What the echo agent does with signals that the server leaves to it (spec/05 §5), as data. Pure. */
import { iso } from '../../domain/events.js'
import { type Signal, signals } from '../../domain/signals.js'
import { type Row, rowsOf, type View } from './rows.js'
import type { WrittenEvent } from './wake.js'

export interface Reaction {
  /** The answer that is being given is cut off. */
  readonly aborts: boolean
  /** No further message is answered in this wake. */
  readonly ends: boolean
  readonly outcome: string
  readonly newState?: string
}

export const reactions: Readonly<Record<Signal, Reaction>> = {
  SIGINT: { aborts: true, ends: true, outcome: 'aborted' },
  SIGHUP: { aborts: false, ends: true, outcome: 'shutdown_requested' },
  SIGTERM: { aborts: false, ends: true, outcome: 'shutdown_requested', newState: 'stopped' },
  SIGKILL: { aborts: true, ends: true, outcome: 'transitioned', newState: 'killed' }, // the server handles it, and closes the stream
  SIGSTOP: { aborts: false, ends: true, outcome: 'transitioned', newState: 'paused' },
  SIGCONT: { aborts: false, ends: false, outcome: 'transitioned', newState: 'idle' },
  SIGUSR: { aborts: false, ends: false, outcome: 'delivered' },
}

/** An interrupt that finds nothing to interrupt. */
const idleInterrupt: Reaction = { aborts: false, ends: false, outcome: 'ignored' }

export interface HeardSignal {
  readonly row: Row
  readonly reaction: Reaction
}

/** Fresh signals that nobody has handled, in their order. */
export function signalsIn(view: View, isAnswering: boolean): readonly HeardSignal[] {
  return rowsOf(view, 'signal')
    .filter(({ freshAt, value }) => freshAt !== undefined && value.status === 'unhandled')
    .flatMap((row) => {
      const signal = signals.find((one) => one === row.value.signal)
      if (signal === undefined) return []
      return { row, reaction: signal === 'SIGINT' && !isAnswering ? idleInterrupt : reactions[signal] }
    })
}

/** The same key with the full merged value (spec/05 §5). */
export const acknowledgement = ({ row, reaction }: HeardSignal, by: string, previousState: string, atMs: number): WrittenEvent => ({
  type: 'signal',
  key: row.key,
  value: {
    ...row.value,
    status: 'handled',
    handled_at: iso(atMs),
    handled_by: by,
    outcome: reaction.outcome,
    previous_state: previousState,
    ...(reaction.newState === undefined ? {} : { new_state: reaction.newState }),
  },
  headers: { operation: 'update' },
})
