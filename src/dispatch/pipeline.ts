/**
 * The pipeline: every append that the server accepts, with its consequences (design §4).
 *
 * P1  An append and its consequences are one: a reader who sees the one can rely on the other, at the latest after `sweep`.
 * P2  A message is taken only while its entity accepts writes; never after a kill was acknowledged.
 * P3  A verdict is given once the append is durable; what was not taken left nothing behind.
 * P4  Memory is bounded: beyond `maxWaitingAppends` the answer is OVERLOADED.
 * P5  A handler's append is taken only with the token of the current claim; whoever was fenced is refused.
 *
 * Two ways to hold P1: with streams in Postgres append and consequences are one transaction (`postgres-pipeline.ts`); with a foreign stream
 * server an intent closes the gap (`foreign-pipeline.ts`). Nothing above knows which.
 */

import type { DispatchPolicy } from '../domain/entity.js'
import { acceptsWrites, type EntityStatus } from '../domain/entity.js'
import { type AgentsError, errors } from '../domain/errors.js'
import { type EntityUrl, entityOfMainStream, type Offset, type StreamPath } from '../domain/ids.js'
import { projectionChanges } from '../domain/projection.js'
import type { Transaction } from '../registry/database.js'
import type { ProjectionRow } from '../registry/projections.js'
import { jsonItems } from '../streams/protocol/json-items.js'
import type { AppendRequest, AppendVerdict, CreateRequest, CreateVerdict, DeleteVerdict, StreamAppend } from '../streams/store.js'
import { isSame } from './wake-tokens.js'

export interface PipelineAppend extends StreamAppend {
  /** Those items of the body that rows may be drawn from, where the caller has them at hand. */
  readonly events?: readonly unknown[]
  /** The append is a message to this entity (P2). */
  readonly message?: {
    readonly to: EntityUrl
    /** Ends a pause (spec/03 §2.4). */
    readonly resumes: boolean
    /** Of that entity: its subscription is made anew where it was lost. */
    readonly policy?: DispatchPolicy | null
  }
  /** The append is a handler's, to this entity: taken only with the write token of the current claim (P5). */
  readonly writer?: { readonly to: EntityUrl; readonly tokenHash: Buffer }
}

export type PipelineVerdict = AppendVerdict | { readonly outcome: 'barred'; readonly error: AgentsError }

/** Rows that change in a transaction, and the appends that belong to them. */
export interface Together<Result> {
  readonly result: Result
  readonly appends: readonly StreamAppend[]
  /** Rows that change before the streams are locked; nothing of the appends depends on the answer. */
  readonly rows?: () => Promise<unknown>
  /** Rows that change after the appends: those of subscriptions, whose locks come after the streams'. */
  readonly after?: () => Promise<void>
}

export interface Pipeline {
  append(append: PipelineAppend): Promise<PipelineVerdict>
  /** Makes a stream; patterns that name it link it, and a first entry wakes them. */
  create(path: StreamPath, request: CreateRequest): Promise<CreateVerdict>
  /** Deletes a stream, and the links to it. */
  delete(path: StreamPath): Promise<DeleteVerdict>
  /**
   * Runs `work` in a transaction and appends what it asks for, as one: after a crash both are there, or neither (P1). A stream that is closed
   * or gone takes nothing, and the rows stand. A failure of `work` leaves nothing behind.
   */
  together<Result>(work: (tx: Transaction) => Promise<Together<Result>>): Promise<Result>
  /** Returns when all that stands on these streams has had its consequences, also what a process had appended that died before it drew them (P1). */
  catchUp(paths: readonly StreamPath[]): Promise<void>
  /** Resolves when nothing is in flight. */
  drained(): Promise<void>
}

/** What admission is decided on. */
export interface Standing {
  readonly statuses: ReadonlyMap<string, EntityStatus>
  /** Hashes of the current write tokens, by path. */
  readonly tokens: ReadonlyMap<string, Buffer>
}

/** Why an append cannot be taken, or null. */
export function barOf(
  { path, message, writer }: Pick<PipelineAppend, 'path' | 'message' | 'writer'>,
  { statuses, tokens }: Standing,
): AgentsError | null {
  if (writer !== undefined) return writerBar(statuses.get(writer.to), tokens.get(path), writer.tokenHash)
  if (message === undefined) return null
  const status = statuses.get(message.to)
  if (status === undefined) return errors.ENTITY_GONE()
  return acceptsWrites(status) ? null : errors.NOT_RUNNING()
}

/** spec/03 §8.2, rows 3 and 5. */
function writerBar(status: EntityStatus | undefined, current: Buffer | undefined, presented: Buffer): AgentsError | null {
  if (status === undefined || current === undefined || !isSame(presented, current)) return errors.INVALID_WRITE_TOKEN()
  return status === 'stopped' ? errors.ENTITY_STOPPED() : null
}

/** The entities whose status decides on `appends`, each once. */
export const entitiesAskedBy = (appends: readonly PipelineAppend[]): EntityUrl[] => [
  ...new Set(appends.flatMap(({ message, writer }) => message?.to ?? writer?.to ?? [])),
]

/** The streams whose write token decides on `appends`. */
export const writtenBy = (appends: readonly PipelineAppend[]): StreamPath[] => [
  ...new Set(appends.filter(({ writer }) => writer !== undefined).map(({ path }) => path)),
]

/** The paused entities that `appends` wake. */
export const resumedBy = (appends: readonly PipelineAppend[], statuses: ReadonlyMap<string, EntityStatus>): EntityUrl[] =>
  entitiesAskedBy(appends.filter(({ message }) => message?.resumes && statuses.get(message.to) === 'paused'))

/** Items of a JSON body; nothing for what is no JSON. */
export function itemsOf(request: AppendRequest & { readonly events?: readonly unknown[] }): readonly unknown[] {
  return request.events ?? jsonItems(request.body) ?? []
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
