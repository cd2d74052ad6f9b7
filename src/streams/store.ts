/**
 * The port to the event logs. Two adapters stand behind it: `postgres/` (our own store) and `http/` (any Durable Streams server by URL).
 * Nothing above knows which, but for one question: whether appends can join a database transaction (`transactional`).
 *
 * S1  An accepted append is durable and readable by every process before its verdict is given.
 * S2  Offsets of a stream strictly increase in commit order; an entry never changes or moves.
 * S3  A refused request changes nothing: neither tail, producer, sequence nor closed flag.
 * S4  Verdicts are values; an adapter throws only when it cannot know or cannot reach (`STREAM_SERVICE_UNAVAILABLE`). An append of which nothing can have
 *     arrived says so (`Unreached`).
 *
 * The rules of every verdict: spec/14-durable-streams.md §2 and §3.
 */
import { AgentsError } from '../domain/errors.js'
import type { Offset, StreamPath } from '../domain/ids.js'
import type { Transaction } from '../registry/database.js'
import type { Payload } from './protocol/payload.js'

/** An idempotent writer's position (spec/14 §2.3). */
export interface Producer {
  readonly id: string
  readonly epoch: number
  readonly seq: number
}

export interface ForkRequest {
  readonly from: string
  /** Absent: the source's tail at that instant. */
  readonly offset?: string
  readonly subOffset?: number
}

export interface CreateRequest {
  /** Absent: `application/octet-stream`, or the source's for a fork. */
  readonly contentType?: string
  readonly ttlS?: number
  /** As the client sent it; echoed by `head`. */
  readonly expiresAt?: string
  readonly closed?: boolean
  /** First entry; empty means none. In JSON mode an array is flattened one level. */
  readonly body?: Buffer
  /** As of an append; of JSON. */
  readonly payload?: Payload | StreamRefusal
  readonly fork?: ForkRequest
  /**
   * Names the operation that creates, where the caller holds the path for it: a repetition finds its own stream by the first entry and answers
   * `created` again. Adapters that create atomically may ignore it.
   */
  readonly operation?: string
}

export interface AppendRequest {
  readonly contentType: string
  /** One entry. Empty only together with `close` (close-only). */
  readonly body: Buffer
  readonly producer?: Producer
  readonly streamSeq?: string
  readonly close?: boolean
  /**
   * An earlier attempt, maybe of another process, may have landed, behind this offset: adapters whose server forgets producers look there for its entry
   * first. Needs `producer`.
   */
  readonly mayHaveLandedAfter?: Offset
  /** What a store has made of `body` already, for itself (protocol/payload.ts P4). */
  readonly payload?: Payload | StreamRefusal
}

/** Why a request was refused: the HTTP status of the protocol, a short text, and the headers that go with it. */
export interface StreamRefusal {
  readonly outcome: 'refused'
  readonly status: 400 | 403 | 404 | 409 | 410 | 413
  readonly reason: string
  /** Lower-case header names, e.g. `producer-expected-seq`. */
  readonly headers: Readonly<Record<string, string>>
  /** What stood in the way, for callers that branch on it. */
  readonly because:
    | 'missing'
    | 'gone'
    | 'closed'
    | 'exists'
    | 'content-type'
    | 'producer'
    | 'sequence'
    | 'body'
    | 'size'
    | 'fork'
    | 'offset'
}

export interface StreamHead {
  readonly contentType: string
  readonly tail: Offset
  readonly closed: boolean
  readonly ttlS?: number
  readonly expiresAt?: string
  readonly etag?: string
}

export type CreateVerdict =
  | {
      readonly outcome: 'created' | 'exists'
      readonly head: StreamHead
      /** Of a fork that was made just now: where what it inherits ends, where the adapter knows it. */
      readonly inherited?: Offset
      /** An earlier attempt of the same operation has made it: its tail is where it ends now. */
      readonly isRepeated?: true
    }
  | StreamRefusal

export type AppendVerdict =
  | { readonly outcome: 'appended'; readonly tail: Offset; readonly closed: boolean; readonly producer?: Producer }
  /** A producer's repetition: `producer.seq` is the highest accepted one. `tail` where the adapter knows it. */
  | { readonly outcome: 'duplicate'; readonly tail?: Offset; readonly closed: boolean; readonly producer: Producer }
  | StreamRefusal

export type DeleteVerdict = { readonly outcome: 'deleted' } | StreamRefusal

export type HeadVerdict = { readonly outcome: 'found'; readonly head: StreamHead } | StreamRefusal

/** A read of the public protocol: catch-up, long-poll or SSE, with the query as the client sent it (spec/14 §2.4–2.7). */
export interface ReadRequest {
  readonly path: StreamPath
  /** First value of each parameter; `offsetsGiven` counts how often `offset` was given. */
  readonly query: { readonly offset?: string; readonly live?: string; readonly cursor?: string }
  readonly offsetsGiven: number
  readonly ifNoneMatch?: string
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal
}

export interface ReadResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Chunks are pulled one by one: a slow client holds one chunk, not the stream. */
  readonly body: Buffer | AsyncIterable<Buffer> | null
}

/** The items of a JSON stream after an offset, for the server's own use (projection, sweep, manifests). */
export interface StoredEvents {
  /** In order; `entry` is the end offset of the log entry that holds the item. */
  readonly events: readonly { readonly entry: Offset; readonly item: unknown }[]
  readonly next: Offset
  readonly upToDate: boolean
  readonly closed: boolean
}

export interface StreamStore {
  create(path: StreamPath, request: CreateRequest): Promise<CreateVerdict>
  append(path: StreamPath, request: AppendRequest): Promise<AppendVerdict>
  head(path: StreamPath): Promise<HeadVerdict>
  delete(path: StreamPath): Promise<DeleteVerdict>
  /** Serves one read of the public protocol. The response carries the protocol's own headers, not CORS. */
  serveRead(request: ReadRequest): Promise<ReadResponse>
  /** At most `limit` events after `after`. */
  readEvents(path: StreamPath, after: Offset, limit: number): Promise<StoredEvents | StreamRefusal>
  /** Present where appends can be part of a database transaction. */
  readonly transactional?: TransactionalStreams
  /** Ends held reads cleanly and stops background work. */
  close(): Promise<void>
}

/** Streams in the same Postgres: what changes here commits with everything else in `tx`. */
export interface TransactionalStreams {
  /** Verdicts in the order given. Locks by ascending stream id. One statement per table. */
  create(tx: Transaction, streams: readonly NewStream[]): Promise<readonly CreateVerdict[]>
  /** Locks the stream first; who held it before has committed. Readers are told after the commit. */
  delete(tx: Transaction, path: StreamPath): Promise<DeleteVerdict>
  /** Locks the streams of these appends until `tx` ends, by ascending stream id: what is read afterwards was true when nobody could append. */
  lock(tx: Transaction, appends: readonly Pick<StreamAppend, 'path' | 'producer'>[]): Promise<LockedStreams>
  /** Decides those appends, or some of them, once: verdicts in the order given; several appends to one stream are applied in that order. */
  decide(locked: LockedStreams, appends: readonly StreamAppend[]): DecidedAppends
  /** Locks these streams against appends and deletes, not against other forks, until `tx` ends, by ascending stream id. The tails of those that live. */
  share(tx: Transaction, paths: readonly StreamPath[]): Promise<ReadonlyMap<StreamPath, Offset>>
  readonly history: HistoryReads
  /** To be called after the commit: wakes the readers of this process at once and those of others within milliseconds. */
  announce(paths: readonly StreamPath[]): void
}

/** What a fork at an earlier event reads of its source's history, which never changes, without reading all of it (docs/decisions/0012). */
export interface HistoryReads {
  /** The items of at most `entries` entries behind `after`. */
  itemsBehind(tx: Transaction, path: StreamPath, after: Offset, entries: number): Promise<StoredEvents | StreamRefusal>
  /**
   * All items of the entries that are marked for manifest rows, child statuses or watermarks: up to the one that ends at `after`, and of the one
   * behind it where a cut lies in it (`items` > 0).
   */
  projectedItems(
    tx: Transaction,
    path: StreamPath,
    cut: { readonly after: Offset; readonly items: number },
  ): Promise<StoredEvents['events']>
  /** The last entry up to `upTo` (null: of all) that is marked for a completed run; null where there is none. */
  lastRunEntry(tx: Transaction, path: StreamPath, upTo: Offset | null): Promise<MarkedEntry | null>
}

export interface MarkedEntry {
  /** Its end, and that of the entry before it. */
  readonly entry: Offset
  readonly before: Offset
  readonly items: readonly unknown[]
}

/** `write` asks for all that these appends write, in one turn of the event loop, in the transaction that holds their streams. */
export interface DecidedAppends {
  readonly verdicts: readonly AppendVerdict[]
  write(tx: Transaction): Promise<unknown>
}

declare const locked: unique symbol
/** What a store knows of streams that it has locked. */
export interface LockedStreams {
  readonly [locked]: true
}

export interface NewStream extends CreateRequest {
  readonly path: StreamPath
  /** Entries behind the first one. */
  readonly more?: readonly Buffer[]
}

export interface StreamAppend extends AppendRequest {
  readonly path: StreamPath
}

/** What was asked has not happened, and will not. */
export class Unreached extends AgentsError {}

export const isRefused = (verdict: { readonly outcome: string }): verdict is StreamRefusal => verdict.outcome === 'refused'
