/** What in a stream is work: pure rules of the runtime (spec/06 §12 steps 5–6, spec/03 §2.4, spec/05 §5). */
import type { StreamEvent } from './wake.js'

/** Events at or after `offset`, by string comparison, and after what a fork copied. */
export function freshFrom(events: readonly StreamEvent[], offset: string): readonly StreamEvent[] {
  return events.slice(firstFresh(events, offset))
}

/** Where the fresh part begins. */
export function firstFresh(events: readonly StreamEvent[], offset: string): number {
  const forkEnd = events.findLast(({ headers }) => headers.forkedFrom !== undefined)?.headers.offset
  const index = events.findIndex(({ headers }) => headers.offset >= offset && (forkEnd === undefined || headers.offset > forkEnd))
  return index === -1 ? events.length : index
}

export interface Row {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
  /** The event that made it. */
  readonly made: StreamEvent
}

/** The rows of one event type as readers see them (spec/01 §6.2): updates merge, a deleted row is gone. */
export function rowsOf(events: readonly StreamEvent[], type: string): ReadonlyMap<string, Row> {
  const rows = new Map<string, Row>()
  for (const event of events) {
    if (event.type !== type) continue
    if (event.headers.operation === 'delete') {
      rows.delete(event.key)
      continue
    }
    const known = rows.get(event.key)
    rows.set(event.key, { key: event.key, value: { ...known?.value, ...event.value }, made: known?.made ?? event })
  }
  return rows
}

const isWaiting = (row: Row): boolean => row.value.status === 'pending' && (row.value.mode === 'queued' || row.value.mode === 'paused')

/** An inbox event that may start the handler: its message is still there, and it brings a payload or a mode that asks for a turn. */
function isMessage(event: StreamEvent, rows: ReadonlyMap<string, Row>): boolean {
  const row = event.type === 'inbox' && event.headers.operation !== 'delete' ? rows.get(event.key) : undefined
  if (row === undefined || row.value.status === 'cancelled') return false
  const mode = event.value?.mode
  return event.value?.payload !== undefined || mode === 'queued' || mode === 'steer'
}

export interface Work {
  /** Messages to be handled now, one event per message. */
  readonly messages: readonly StreamEvent[]
  readonly wakes: readonly StreamEvent[]
  /** Whether a message came that has to wait its turn in the queue. */
  readonly queues: boolean
}

/** The work among `fresh`, which is a part of `events`. */
export function workIn(fresh: readonly StreamEvent[], events: readonly StreamEvent[]): Work {
  const rows = rowsOf(events, 'inbox')
  const messages = new Map<string, StreamEvent>()
  let queues = false
  for (const event of fresh.filter((one) => isMessage(one, rows))) {
    const row = rows.get(event.key)
    if (row !== undefined && isWaiting(row)) queues = true
    else messages.set(event.key, event)
  }
  return { messages: [...messages.values()], wakes: fresh.filter(({ type }) => type === 'wake'), queues }
}

export const isEmpty = ({ messages, wakes, queues }: Work): boolean => messages.length === 0 && wakes.length === 0 && !queues

/** The waiting messages in their order: by position, those without one last; ties in the order of the stream. */
export function queueIn(events: readonly StreamEvent[]): readonly Row[] {
  const position = ({ value }: Row): string => (typeof value.position === 'string' ? value.position : '\uffff')
  return [...rowsOf(events, 'inbox').values()].filter(isWaiting).sort((one, other) => compare(position(one), position(other)))
}

const compare = (one: string, other: string): number => (one < other ? -1 : one > other ? 1 : 0)

/** Signals among `fresh` that the runtime acts on: the latest state of each key, if nobody handled it, and a SIGKILL in any case. */
export function signalsIn(fresh: readonly StreamEvent[], events: readonly StreamEvent[]): readonly Row[] {
  const keys = new Set(fresh.filter(({ type }) => type === 'signal').map(({ key }) => key))
  return [...rowsOf(events, 'signal').values()].filter(
    ({ key, value }) => keys.has(key) && (value.status === 'unhandled' || (value.status === 'handled' && value.signal === 'SIGKILL')),
  )
}
