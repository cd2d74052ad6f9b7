/**
 * Server-sent events (spec/14 §2.7).
 *
 * E1  A control frame follows every data frame, with that entry's end: a client that stops anywhere resumes there, and is given first what was held
 *     back of a character that the entry before has split.
 * E2  Frames are made when the client has taken the ones before, and once for all readers who share the read (watching W3): they are given the very
 *     same buffers. Only control frames differ, where clients sent different cursors.
 * E3  A stalled client costs one read. Nothing is held while waiting.
 */
import { offsetOf } from '../../domain/ids.js'
import { nextCursor } from '../protocol/cursor.js'
import { controlFrame, type Framer, framerFor } from '../protocol/frames.js'
import type { ReadRequest, ReadResponse } from '../store.js'
import type { StreamEntries, StreamView } from './reading.js'
import type { ServingParts } from './serving.js'
import type { Watch } from './watching.js'

export function eventStream(parts: ServingParts, request: ReadRequest, watch: Watch, view: StreamView, from: number): ReadResponse {
  const framer = framerFor(view.contentType)
  return {
    status: 200,
    headers: {
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
      ...(framer.isBase64 ? { 'stream-sse-data-encoding': 'base64' } : {}),
    },
    body: released(watch, frames(parts, request, watch, framer, view.id, from)),
  }
}

/** Gives the watch back however the response ends: by itself, by the client, or before its first frame. */
function released(watch: Watch, inner: AsyncGenerator<Buffer>): AsyncIterableIterator<Buffer> {
  const end = async () => {
    watch.release()
    return await inner.return(undefined)
  }
  return {
    next: async () => {
      const result = await inner.next()
      if (result.done === true) watch.release()
      return result
    },
    return: end,
    [Symbol.asyncIterator]() {
      return this
    },
  }
}

async function* frames(
  parts: ServingParts,
  request: ReadRequest,
  watch: Watch,
  framer: Framer,
  id: number,
  from: number,
): AsyncGenerator<Buffer> {
  const { sseConnectionMs, sseKeepAliveMs } = parts.limits
  const endsAt = Date.now() + sseConnectionMs
  let at: Position = { position: from, held: await heldBefore(watch, id, from, framer) }
  let isSilent = true // at connect, and when a keep-alive is due: one control frame, also without data
  while (!request.signal.aborted) {
    let step = await nextStep(watch, id, framer, at, nextCursor(request.query.cursor), isSilent)
    if (step === null) return // deleted: the reconnect learns it (D10)
    yield* step.frames
    const { isAtTail, closed } = step
    at = step.at
    step = null // E3
    if (!isAtTail) continue
    if (closed) return
    const waitMs = Math.min(sseKeepAliveMs, endsAt - Date.now())
    if (waitMs <= 0) return
    const waking = await watch.changed({ id, tail: at.position, closed: false }, waitMs, request.signal)
    if (waking === 'aborted' || waking === 'closing' || Date.now() >= endsAt) return
    isSilent = waking === 'time-out'
  }
}

/** Where a reader stands, and what is held back there. */
interface Position {
  readonly position: number
  readonly held: Buffer
}

/** What one read gives its reader. It does not hold the read. */
interface Step {
  readonly frames: readonly Buffer[]
  readonly at: Position
  readonly isAtTail: boolean
  readonly closed: boolean
}

async function nextStep(watch: Watch, id: number, framer: Framer, at: Position, cursor: string, isSilent: boolean): Promise<Step | null> {
  const read = await watch.entries(id, at.position)
  if (read === null) return null
  const { view, entries } = read
  const { closed } = view
  if (entries.length === 0) {
    const control = Buffer.from(controlOf(view, at.position, cursor))
    const frames = closed ? [framer.rest(at.held), control].filter((frame) => frame.length > 0) : isSilent ? [control] : []
    return { frames, at, isAtTail: at.position >= view.tail, closed }
  }
  const shared = sharedFrames(read, framer, at.held)
  return { frames: shared.with(cursor), at: shared.end, isAtTail: shared.end.position >= view.tail, closed }
}

const controlOf = (view: StreamView, end: number, cursor: string): string =>
  controlFrame({ offset: offsetOf(end), cursor, upToDate: end === view.tail, ended: end === view.tail && view.closed })

/** What is held back at `position`; nothing where the stream is deleted meanwhile. */
async function heldBefore(watch: Watch, id: number, position: number, { maxHeldBack, heldBack }: Framer): Promise<Buffer> {
  let last = Buffer.alloc(0)
  for (let at = position; at > 0 && last.length < maxHeldBack; at -= 1) {
    const [entry] = (await watch.entries(id, at - 1))?.entries ?? []
    if (entry === undefined) break
    last = Buffer.concat([entry.data.subarray(-maxHeldBack), last])
  }
  return heldBack(Buffer.alloc(0), last)
}

/** Lives as long as its read. */
const framesOf = new WeakMap<StreamEntries, SharedFrames>()

function sharedFrames(read: StreamEntries, framer: Framer, held: Buffer): SharedFrames {
  const shared = framesOf.get(read) ?? new SharedFrames(read, framer, held)
  framesOf.set(read, shared)
  return shared
}

/** Below it a frame on its own costs more than copying it. */
const smallFrameBytes = 16 * 1024

/** The frames of one read, for whoever stands where it begins (E2). What is handed out lies in one piece of memory, but for control frames. */
class SharedFrames {
  readonly end: Position
  readonly #view: StreamView
  readonly #ends: readonly number[]
  readonly #data: readonly Buffer[]
  readonly #areSmall: boolean
  #latest: { readonly cursor: string; readonly frames: readonly Buffer[] } | null = null

  constructor({ view, entries }: StreamEntries, framer: Framer, held: Buffer) {
    const made: Buffer[] = []
    let waiting = held
    for (const { end, data } of entries) {
      const isLast = end === view.tail && view.closed
      made.push(framer.frame(waiting, data, isLast))
      waiting = framer.heldBack(waiting, data)
    }
    const bytes = made.reduce((sum, frame) => sum + frame.length, 0)
    this.#view = view
    this.#ends = entries.map(({ end }) => end)
    this.#areSmall = bytes < smallFrameBytes * made.length
    this.#data = this.#areSmall ? made : inOnePiece(made, bytes)
    this.end = { position: this.#ends.at(-1) ?? 0, held: waiting }
  }

  /** Most clients send none, or an old one, and are given the same (cursor.ts): one set of frames is kept. */
  with(cursor: string): readonly Buffer[] {
    if (this.#latest?.cursor !== cursor) this.#latest = { cursor, frames: this.#made(cursor) }
    return this.#latest.frames
  }

  #made(cursor: string): readonly Buffer[] {
    const frames = this.#data.flatMap((data, index) => [data, Buffer.from(controlOf(this.#view, this.#ends[index] ?? 0, cursor))])
    return this.#areSmall ? [Buffer.concat(frames)] : frames
  }
}

function inOnePiece(frames: readonly Buffer[], bytes: number): readonly Buffer[] {
  if (frames.length === 1) return frames
  const piece = Buffer.allocUnsafeSlow(bytes)
  let at = 0
  return frames.map((frame) => {
    const from = at
    at += frame.copy(piece, at)
    return piece.subarray(from, at)
  })
}
