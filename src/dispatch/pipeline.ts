/**
 * The pipeline: every append that the server accepts, with its consequences (design §4).
 *
 * P1  An append and its consequences are one: a reader who sees the one can rely on the other, at the latest after `sweep`.
 * P2  A message is taken only while its entity accepts writes; never after a kill was acknowledged.
 * P3  A verdict is given once the append is durable; what was not taken left nothing behind.
 * P4  Memory is bounded: beyond `maxWaitingAppends` the answer is OVERLOADED.
 *
 * Two ways to hold P1: with streams in Postgres append and consequences are one transaction (`postgres-pipeline.ts`); with a foreign stream
 * server an intent closes the gap (`foreign-pipeline.ts`). Nothing above knows which.
 */
import { acceptsWrites, type EntityStatus } from '../domain/entity.js'
import { type AgentsError, errors } from '../domain/errors.js'
import { type EntityUrl, entityOfMainStream, type Offset, type StreamPath } from '../domain/ids.js'
import { projectionChanges } from '../domain/projection.js'
import type { Transaction } from '../registry/database.js'
import type { ProjectionRow } from '../registry/projections.js'
import type { AppendRequest, AppendVerdict, StreamAppend } from '../streams/store.js'

export interface PipelineAppend extends StreamAppend {
  /** The items of the body, where the caller has them at hand. */
  readonly events?: readonly unknown[]
  /** The append is a message to this entity (P2). */
  readonly message?: { readonly to: EntityUrl /** Ends a pause (spec/03 §2.4). */; readonly resumes: boolean }
}

export type PipelineVerdict = AppendVerdict | { readonly outcome: 'barred'; readonly error: AgentsError }

/** Rows that change in a transaction, and the appends that belong to them. */
export interface Together<Result> {
  readonly result: Result
  readonly appends: readonly StreamAppend[]
}

export interface Pipeline {
  append(append: PipelineAppend): Promise<PipelineVerdict>
  /**
   * Runs `work` in a transaction and appends what it asks for, as one: after a crash both are there, or neither (P1). A stream that is closed
   * or gone takes nothing, and the rows stand. A failure of `work` leaves nothing behind.
   */
  together<Result>(work: (tx: Transaction) => Promise<Together<Result>>): Promise<Result>
  /** Resolves when nothing is in flight. */
  drained(): Promise<void>
}

/** Why a message cannot be taken in `status`, or null. */
export function barOf(append: PipelineAppend, statuses: ReadonlyMap<string, EntityStatus>): AgentsError | null {
  if (append.message === undefined) return null
  const status = statuses.get(append.message.to)
  if (status === undefined) return errors.ENTITY_GONE()
  return acceptsWrites(status) ? null : errors.NOT_RUNNING()
}

/** The entities that `appends` are messages to, each once. */
export const recipientsOf = (appends: readonly PipelineAppend[]): EntityUrl[] => [
  ...new Set(appends.flatMap((append) => (append.message === undefined ? [] : [append.message.to]))),
]

/** The paused entities that `appends` wake. */
export const resumedBy = (appends: readonly PipelineAppend[], statuses: ReadonlyMap<string, EntityStatus>): EntityUrl[] =>
  recipientsOf(appends.filter((append) => append.message?.resumes && statuses.get(append.message.to) === 'paused'))

/** Items of a JSON body; nothing for what is no JSON. */
export function itemsOf(request: AppendRequest & { readonly events?: readonly unknown[] }): readonly unknown[] {
  if (request.events !== undefined) return request.events
  if (request.body.length === 0) return []
  try {
    const parsed: unknown = JSON.parse(request.body.toString('utf8'))
    return Array.isArray(parsed) ? parsed : [parsed]
  } catch {
    return []
  }
}

/** The projection rows of one entry that was appended to `path`; streams other than main streams have none. */
export function projectionRows(path: StreamPath, events: readonly { readonly entry: Offset; readonly item: unknown }[]): ProjectionRow[] {
  const entity_url = entityOfMainStream(path)
  if (entity_url === null) return []
  return projectionChanges(events).map((change) => ({ entity_url, ...change }))
}

/** Of several rows with one key, the last. */
export function lastOfEach(rows: readonly ProjectionRow[]): ProjectionRow[] {
  return [...new Map(rows.map((row) => [`${row.entity_url} ${row.type} ${row.key}`, row])).values()]
}
