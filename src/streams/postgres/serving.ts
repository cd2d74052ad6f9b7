/** Reads of the public protocol: catch-up, long-poll, SSE (spec/14 §2.4–2.7), in the order of its checks. */

import { offsetOf, parseOffset, positionOf } from '../../domain/ids.js'
import type { Limits } from '../../domain/limits.js'
import type { Database } from '../../registry/database.js'
import { nextCursor } from '../protocol/cursor.js'
import * as refusals from '../protocol/refusals.js'
import type { ReadRequest, ReadResponse, StreamRefusal } from '../store.js'
import type { Opening } from './opening.js'
import { beyondAll, type Chunk, joined, readChunk, renew, type StreamEntries, StreamVanished, type StreamView } from './reading.js'
import { eventStream } from './serving-events.js'
import type { Watch, Watching } from './watching.js'

export interface ServingParts {
  readonly database: Database
  readonly opening: Opening
  readonly watching: Watching
  readonly limits: Pick<Limits, 'longPollTimeoutMs' | 'sseConnectionMs' | 'sseKeepAliveMs'>
}

/** Where a read begins. */
type Start = { readonly at: 'now' } | { readonly at: 'start' } | { readonly at: 'position'; readonly position: number }

export function refused({ status, reason, headers }: StreamRefusal): ReadResponse {
  return { status, headers: { 'content-type': 'text/plain', ...headers }, body: Buffer.from(reason) }
}

export async function serveRead(parts: ServingParts, request: ReadRequest): Promise<ReadResponse> {
  const live = liveMode(request.query.live)
  if (live === null) return await serveCatchUp(parts, request)
  const watch = parts.watching.watch(request.path) // watching W1
  let isHandedOver = false
  try {
    const opened = await open(parts, request, live === 'sse')
    if ('outcome' in opened) return refused(opened)
    if (opened.view.ttlS !== null) watch.keepAlive(opened.view.ttlS)
    if (live === 'long-poll') return await serveLongPoll(parts, request, watch, opened)
    isHandedOver = true
    return eventStream(parts, request, watch, opened.view, startPosition(opened.start, opened.view))
  } finally {
    if (!isHandedOver) watch.release()
  }
}

const liveMode = (live: string | undefined): 'long-poll' | 'sse' | null => (live === 'long-poll' || live === 'sse' ? live : null)

interface Opened {
  readonly view: StreamView
  readonly start: Start
  readonly chunk: Chunk | null
  readonly era: number
}

/** §2.4: existence, then the parameters. A read is a use of the stream, whatever it answers (spec/14 §1.5). */
async function open({ database, opening }: ServingParts, request: ReadRequest, rowOnly: boolean): Promise<Opened | StreamRefusal> {
  const start = startOf(request)
  const after =
    'outcome' in start || rowOnly || start.at === 'now' ? beyondAll : start.at === 'start' ? 0 : Math.min(start.position, beyondAll)
  const opened = await opening.open(request.path, after)
  if (opened === 'missing') return refusals.missing
  if (opened === 'gone') return refusals.gone
  if ('outcome' in start) return start
  if (opened.view.renewalDue) await renew(database, [opened.view.id])
  return { ...opened, start }
}

function startOf({ query, offsetsGiven }: ReadRequest): Start | StreamRefusal {
  if (offsetsGiven > 1) return refusals.refusal(400, 'offset', 'Multiple offset parameters not allowed')
  if (query.offset === '') return refusals.refusal(400, 'offset', 'Empty offset parameter')
  if (query.offset === undefined) return withoutOffset(query.live)
  if (query.offset === 'now') return { at: 'now' }
  if (query.offset === '-1') return { at: 'start' }
  const offset = parseOffset(query.offset)
  return offset === null ? refusals.refusal(400, 'offset', 'Invalid offset format') : { at: 'position', position: positionOf(offset) }
}

function withoutOffset(live: string | undefined): Start | StreamRefusal {
  if (live === 'long-poll') return refusals.refusal(400, 'offset', 'Long-poll requires offset parameter')
  if (live === 'sse') return refusals.refusal(400, 'offset', 'SSE requires offset parameter')
  return { at: 'start' }
}

function startPosition(start: Start, view: StreamView): number {
  if (start.at === 'now') return view.tail
  return start.at === 'start' ? 0 : Math.min(start.position, view.tail)
}

async function serveCatchUp(parts: ServingParts, request: ReadRequest): Promise<ReadResponse> {
  const opened = await open(parts, request, false)
  if ('outcome' in opened) return refused(opened)
  const { view, start } = opened
  if (start.at === 'now')
    return {
      status: 200,
      headers: { ...atTail(view), 'content-type': view.contentType, 'cache-control': 'no-store' },
      body: emptyBody(view),
    }
  return await catchUp(parts, request, opened, {})
}

/** Everything up to the tail in one response: a client with `live: false` stops after the first (spec/14 §2.5). */
async function catchUp(
  parts: ServingParts,
  request: ReadRequest,
  opened: Opened,
  extra: Readonly<Record<string, string>>,
): Promise<ReadResponse> {
  const { view, start, chunk } = opened
  const from = startPosition(start, view)
  const etag = etagOf(view, from, view.tail)
  if (request.ifNoneMatch !== undefined && matches(request.ifNoneMatch, etag))
    return { status: 304, headers: { etag, ...extra }, body: null }
  const headers = { 'content-type': view.contentType, ...atTail(view), etag, ...extra }
  if (from >= view.tail) return { status: 200, headers, body: emptyBody(view) }
  const first = await firstChunk(parts, view, chunk, from)
  if (first === null) return refused(await endOf(parts, request))
  if (from === 0) parts.opening.keep(request.path, opened, first)
  if (first.last === view.tail) return { status: 200, headers, body: whole(view, first.data) }
  return { status: 200, headers, body: chunks(parts.database, view, first) }
}

/** What was opened is a share of a chunk (opening O3), or nothing of it. Null: the stream was deleted meanwhile. */
async function firstChunk({ database }: ServingParts, view: StreamView, opened: Chunk | null, from: number): Promise<Chunk | null> {
  if (opened?.last === view.tail) return opened
  try {
    const more = await readChunk(database, view, opened?.last ?? from, view.tail)
    return opened === null ? more : { data: joined(view, [opened.data, more.data]), last: more.last }
  } catch (failure) {
    if (failure instanceof StreamVanished) return null
    throw failure
  }
}

/** One chunk is held at a time: the next is read when the client has taken it. */
async function* chunks(database: Database, view: StreamView, first: Chunk): AsyncGenerator<Buffer> {
  let chunk = first
  if (view.json) yield Buffer.from('[')
  while (true) {
    yield chunk.data
    if (chunk.last >= view.tail) break
    if (view.json) yield Buffer.from(',')
    chunk = await readChunk(database, view, chunk.last, view.tail)
  }
  if (view.json) yield Buffer.from(']')
}

const whole = (view: StreamView, data: Buffer): Buffer => (view.json ? Buffer.concat([Buffer.from('['), data, Buffer.from(']')]) : data)

const emptyBody = (view: StreamView): Buffer => Buffer.from(view.json ? '[]' : '')

export const etagOf = (view: { readonly id: number; readonly closed: boolean }, from: number | 'head', to: number): string =>
  `"${view.id.toString(36)}:${from}:${to}${view.closed ? ':c' : ''}"`

/** `If-None-Match`: a list, weak forms, or `*`. */
const matches = (header: string, etag: string): boolean =>
  header.split(',').some((candidate) => candidate.trim() === '*' || candidate.trim().replace(/^W\//, '') === etag)

function atTail(view: StreamView): Readonly<Record<string, string>> {
  return { 'stream-next-offset': offsetOf(view.tail), 'stream-up-to-date': 'true', ...(view.closed ? { 'stream-closed': 'true' } : {}) }
}

/** §2.6. Only the tail (or `now`) waits. */
async function serveLongPoll(parts: ServingParts, request: ReadRequest, watch: Watch, opened: Opened): Promise<ReadResponse> {
  const { view, start } = opened
  const cursor = { 'stream-cursor': nextCursor(request.query.cursor) }
  const isAtTail = start.at === 'now' || (start.at === 'position' && start.position === view.tail)
  if (!isAtTail) return await catchUp(parts, request, opened, cursor)
  if (view.closed) return { status: 204, headers: { ...atTail(view), ...cursor }, body: null }
  return await waitForData(parts, request, watch, view, cursor)
}

async function waitForData(
  parts: ServingParts,
  request: ReadRequest,
  watch: Watch,
  seen: StreamView,
  cursor: Readonly<Record<string, string>>,
): Promise<ReadResponse> {
  const deadline = Date.now() + parts.limits.longPollTimeoutMs
  while (true) {
    const waking = await watch.changed(seen, Math.max(0, deadline - Date.now()), request.signal)
    if (waking !== 'changed') return { status: 204, headers: { ...atTail(seen), ...cursor }, body: null }
    const read = await watch.entries(seen.id, seen.tail)
    if (read === null) return refused(await endOf(parts, request))
    const { view, entries } = read
    const end = entries.at(-1)?.end
    if (end !== undefined) {
      return {
        status: 200,
        headers: {
          'content-type': view.contentType,
          ...(end === view.tail ? atTail(view) : { 'stream-next-offset': offsetOf(end) }),
          etag: etagOf(view, seen.tail, end),
          ...cursor,
        },
        body: sharedBody(read),
      }
    }
    if (view.closed) return { status: 204, headers: { ...atTail(view), ...cursor }, body: null } // D2: read after it was seen closed, so nothing is left
  }
}

/** Lives as long as its read. */
const bodies = new WeakMap<StreamEntries, Buffer>()

/** One for all who share the read (watching W3). */
function sharedBody(read: StreamEntries): Buffer {
  const { view, entries } = read
  const body =
    bodies.get(read) ??
    whole(
      view,
      joined(
        view,
        entries.map(({ data }) => data),
      ),
    )
  bodies.set(read, body)
  return body
}

/** Deleted under the reader: 410 while forks hold the path, else 404, also when another stream stands there by now. */
async function endOf({ opening }: ServingParts, request: ReadRequest): Promise<StreamRefusal> {
  return (await opening.open(request.path, beyondAll)) === 'gone' ? refusals.gone : refusals.missing
}
