/**
 * The items of a JSON stream after an offset, for the server's own use.
 *
 * E1  A batch ends at an entry border: what follows `next` is exactly what was not returned. It exceeds `limit` only by the rest of an entry.
 * E2  Items are split off as bytes arrive; a batch that is full, of items or of text, ends the request, so a long log is never held whole.
 * E3  An item without a stamp of its own belongs to the next border that is known: it may be read again, it is never skipped.
 */
import { AgentsError } from '../../domain/errors.js'
import { type Offset, parseOffset, type StreamPath, zeroOffset } from '../../domain/ids.js'
import type { StoredEvents, StreamRefusal } from '../store.js'
import { type Connection, uncached } from './connection.js'
import { jsonItems } from './json-items.js'
import { gone, isJson, isTrue, missing, refused, tailIn } from './verdicts.js'

/** Characters. One entry may be longer. */
const maxBatchLength = 16 * 1024 * 1024

interface ReadItem {
  readonly stamp: Offset | null
  readonly item: unknown
}

export async function readEvents(
  { exchange }: Connection,
  path: StreamPath,
  after: Offset,
  limit: number,
  silenceMs: number,
): Promise<StoredEvents | StreamRefusal> {
  const request = { method: 'GET', path, query: `?offset=${after === zeroOffset ? '-1' : after}`, headers: uncached } as const
  const stop = new AbortController()
  const answer = await exchange.stream(request, { signal: stop.signal, silenceMs })
  try {
    if (answer.status === 404) return missing()
    if (answer.status === 410) return gone()
    if (answer.status === 400) return refused(400, 'offset', 'Invalid offset format')
    if (answer.status !== 200) throw exchange.unavailable(request, `GET answered ${answer.status}`)
    const end = tailIn(exchange, request, answer)
    if (!isJson(answer.header('content-type') ?? '')) return refused(409, 'content-type', 'Not a JSON stream')

    const items: ReadItem[] = []
    let length = 0
    for await (const text of jsonItems(answer.chunks)) {
      const item: unknown = JSON.parse(text)
      const stamp = stampOf(item)
      const last = items.at(-1)
      length += text.length
      if ((items.length >= limit || length > maxBatchLength) && stamp !== null && last?.stamp && last.stamp !== stamp) {
        return { events: withEntries(items, last.stamp), next: last.stamp, upToDate: false, closed: false } // E1
      }
      items.push({ stamp, item })
    }
    const upToDate = isTrue(answer.header('stream-up-to-date'))
    if (!upToDate && end <= after) throw exchange.unavailable(request, 'GET brought nothing, and did not say that there is no more')
    return {
      events: withEntries(items, end),
      next: end,
      upToDate,
      closed: isTrue(answer.header('stream-closed')),
    }
  } catch (failure) {
    throw failure instanceof AgentsError ? failure : exchange.unavailable(request, String(failure))
  } finally {
    answer.discard()
    stop.abort()
  }
}

// E3
function withEntries(items: readonly ReadItem[], end: Offset): StoredEvents['events'] {
  let border = end
  return items
    .toReversed()
    .map(({ stamp, item }) => {
      border = stamp ?? border
      return { entry: border, item }
    })
    .toReversed()
}

function stampOf(item: unknown): Offset | null {
  if (typeof item !== 'object' || item === null || !('headers' in item)) return null
  const { headers } = item
  if (typeof headers !== 'object' || headers === null || !('offset' in headers) || typeof headers.offset !== 'string') return null
  const isStamped =
    ('operation' in headers && typeof headers.operation === 'string') || ('control' in headers && typeof headers.control === 'string')
  return isStamped ? parseOffset(headers.offset) : null
}
