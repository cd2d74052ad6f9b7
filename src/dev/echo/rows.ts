/** What the events of a stream come to: rows as readers see them (spec/01 §6.2), and among them the messages that wait for an answer. Pure. */
import { z } from 'zod'
import type { Json, JsonObject } from '../../domain/entity.js'
import type { StreamEvent } from './wake.js'

/** A stream as far as it was read. */
export interface View {
  readonly events: readonly StreamEvent[]
  /** Events from this offset on are fresh. */
  readonly from: string
}

export interface Row {
  readonly key: string
  readonly value: JsonObject
  /** The key of the message that it answers, of a run. */
  readonly answers: string | undefined
  /** Offset of the event that made it. */
  readonly madeAt: string
  /** Offset of the last event that gave it a payload. */
  readonly saidAt: string | undefined
  /** Offset of its first fresh event; undefined: it has none. */
  readonly freshAt: string | undefined
}

export interface Message {
  readonly key: string
  readonly text: string
  /** Waits its turn in the queue: it has to be promoted. */
  readonly isQueued: boolean
  readonly freshAt: string | undefined
}

/** Updates merge, a deleted row is gone; rows stand in the order in which they were made. */
export function rowsOf({ events, from }: View, type: string): readonly Row[] {
  const forkEnd = events.findLast(({ headers }) => headers.forkedFrom !== undefined)?.headers.offset
  const rows = new Map<string, Row>()
  for (const { key, value, headers } of events.filter((event) => event.type === type)) {
    if (headers.operation === 'delete') {
      rows.delete(key)
      continue
    }
    const known = rows.get(key)
    const isFresh = headers.offset >= from && (forkEnd === undefined || headers.offset > forkEnd) // what a fork copied is no work
    rows.set(key, {
      key,
      value: { ...known?.value, ...value },
      answers: headers.answers ?? known?.answers,
      madeAt: known?.madeAt ?? headers.offset,
      saidAt: value?.payload === undefined ? known?.saidAt : headers.offset,
      freshAt: known?.freshAt ?? (isFresh ? headers.offset : undefined),
    })
  }
  return [...rows.values()]
}

/**
 * Messages without an answer: first those that came for this wake, then the queue in its order, up to one that is held back (spec/03 §2.4).
 * A message has its answer when a completed run names it that began after its words, whoever wrote that run: a wake that is delivered again finds it,
 * while a message that was edited, or sent once more under its key, gets another answer.
 */
export function unanswered(view: View): readonly Message[] {
  const completed = rowsOf(view, 'run').filter(({ value }) => value.status === 'completed')
  const answeredAt = new Map(completed.map(({ answers, madeAt }) => [answers, madeAt])) // the last one counts
  const open = rowsOf(view, 'inbox').filter(
    ({ key, value, saidAt }) => saidAt !== undefined && value.status !== 'cancelled' && (answeredAt.get(key) ?? '') < saidAt,
  )
  const ready = open.filter((row) => !isWaiting(row) && row.freshAt !== undefined)
  const queue = open.filter(isWaiting).sort((one, other) => compare(positionOf(one), positionOf(other)))
  const heldBack = queue.findIndex(({ value }) => value.mode === 'paused')
  return [...ready, ...(heldBack === -1 ? queue : queue.slice(0, heldBack))].map((row) => ({
    key: row.key,
    text: textOf(row.value.payload),
    isQueued: isWaiting(row),
    freshAt: row.freshAt,
  }))
}

/** What the next run is called: one more than all that are there, whoever wrote them. */
export function nextRun({ events }: View): number {
  const numbers = events.filter(({ type }) => type === 'run').map(({ key }) => Number(/^run-(\d{1,9})$/.exec(key)?.[1] ?? -1))
  return numbers.reduce((highest, number) => Math.max(highest, number), -1) + 1
}

const isWaiting = ({ value }: Row): boolean => value.status === 'pending' && (value.mode === 'queued' || value.mode === 'paused')

/** Those without a position come last. */
const positionOf = ({ value }: Row): string => (typeof value.position === 'string' ? value.position : '\uffff')

const compare = (one: string, other: string): number => (one < other ? -1 : one > other ? 1 : 0)

const textForm = z.looseObject({ text: z.string() })

/** A text, an object with a `text`, or any other payload as JSON. */
export function textOf(payload: Json | undefined): string {
  if (typeof payload === 'string') return payload
  const withText = textForm.safeParse(payload)
  return withText.success ? withText.data.text : JSON.stringify(payload ?? null)
}
