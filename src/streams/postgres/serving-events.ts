/**
 * Server-sent events (spec/14 §2.7).
 *
 * A control frame follows every data frame, with that entry's end: a client that stops anywhere resumes there, and is given first what was held back
 * of a character that the entry before has split. Frames are made when the client has taken the ones before: a stalled client costs one chunk.
 * Nothing is held while waiting.
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
  let position = from
  framer.resume(await lastBytes(watch, id, from, framer.maxHeldBack))
  let isSilent = true // at connect, and when a keep-alive is due: one control frame, also without data
  while (!request.signal.aborted) {
    const read = await watch.entries(id, position)
    if (read === null) return // deleted: the reconnect learns it (D10)
    const text = framesOf(read, framer, position, request.query.cursor, isSilent)
    if (text !== '') yield Buffer.from(text, 'utf8')
    position = read.entries.at(-1)?.end ?? position
    if (position < read.view.tail) continue
    if (read.view.closed) return
    const waitMs = Math.min(sseKeepAliveMs, endsAt - Date.now())
    if (waitMs <= 0) return
    const waking = await watch.changed({ id, tail: position, closed: false }, waitMs, request.signal)
    if (waking === 'aborted' || waking === 'closing' || Date.now() >= endsAt) return
    isSilent = waking === 'time-out'
  }
}

/** At least `bytes` up to `position`, where there are so many; none where the stream is deleted meanwhile. */
async function lastBytes(watch: Watch, id: number, position: number, bytes: number): Promise<Buffer> {
  let last = Buffer.alloc(0)
  for (let at = position; at > 0 && last.length < bytes; at -= 1) {
    const [entry] = (await watch.entries(id, at - 1))?.entries ?? []
    if (entry === undefined) break
    last = Buffer.concat([entry.data, last])
  }
  return last
}

function framesOf(
  { view, entries }: StreamEntries,
  framer: Framer,
  position: number,
  sentCursor: string | undefined,
  isSilent: boolean,
): string {
  const control = (end: number) =>
    controlFrame({
      offset: offsetOf(end),
      cursor: nextCursor(sentCursor),
      upToDate: end === view.tail,
      ended: end === view.tail && view.closed,
    })
  if (entries.length === 0 && view.closed) return framer.rest() + control(position)
  if (entries.length === 0) return isSilent ? control(position) : ''
  return entries.map(({ end, data }) => framer.frame(data, end === view.tail && view.closed) + control(end)).join('')
}
