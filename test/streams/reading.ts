/** Reads through the port as a client of the protocol would see them. */
import type { StreamPath } from '../../src/domain/ids.js'
import type { ReadRequest, StreamStore } from '../../src/streams/store.js'

export interface Read {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
}

export interface SseFrame {
  readonly event: string
  readonly data: string
}

type Query = ReadRequest['query'] & { readonly ifNoneMatch?: string; readonly offsetsGiven?: number }

const never = new AbortController().signal

const requestOf = (path: string, { ifNoneMatch, offsetsGiven, ...query }: Query, signal: AbortSignal): ReadRequest => ({
  path: path as StreamPath,
  query,
  offsetsGiven: offsetsGiven ?? (query.offset === undefined ? 0 : 1),
  signal,
  ...(ifNoneMatch !== undefined && { ifNoneMatch }),
})

export async function read(store: StreamStore, path: string, query: Query = {}): Promise<Read> {
  const { status, headers, body } = await store.serveRead(requestOf(path, query, never))
  if (body === null) return { status, headers, text: '' }
  if (Buffer.isBuffer(body)) return { status, headers, text: body.toString() }
  const parts: Buffer[] = []
  for await (const chunk of body) parts.push(chunk)
  return { status, headers, text: Buffer.concat(parts).toString() }
}

/** The frames of an SSE read, until the server ends it or `until` is satisfied; fails after `withinMs`. */
export async function readSse(
  store: StreamStore,
  path: string,
  offset: string,
  until: (frames: readonly SseFrame[]) => boolean,
  withinMs = 5_000,
): Promise<{ readonly headers: Read['headers']; readonly frames: readonly SseFrame[]; readonly ended: boolean }> {
  const leave = new AbortController()
  const deadline = setTimeout(() => leave.abort(), withinMs)
  const { headers, body } = await store.serveRead(requestOf(path, { offset, live: 'sse' }, leave.signal))
  if (body === null || Buffer.isBuffer(body)) throw new Error('an SSE read has a streamed body')
  let text = ''
  const frames = (): SseFrame[] => text.split('\n\n').slice(0, -1).map(frameOf)
  try {
    for await (const chunk of body) {
      text += chunk.toString()
      if (until(frames())) return { headers, frames: frames(), ended: false }
    }
    if (leave.signal.aborted) throw new Error(`not within ${withinMs} ms`)
    return { headers, frames: frames(), ended: true }
  } catch (failure) {
    throw leave.signal.aborted ? new Error(`no end within ${withinMs} ms; seen so far: ${text}`) : failure
  } finally {
    clearTimeout(deadline)
    leave.abort()
  }
}

function frameOf(text: string): SseFrame {
  const lines = text.split('\n')
  const data = lines.filter((line) => line.startsWith('data:')).map((line) => line.slice('data:'.length).replace(/^ /, ''))
  return {
    event:
      lines
        .find((line) => line.startsWith('event:'))
        ?.slice('event:'.length)
        .trim() ?? 'message',
    data: data.join('\n'),
  }
}

/** What the control frames say, in order. */
export const controlsIn = (frames: readonly SseFrame[]): readonly Record<string, unknown>[] =>
  frames.filter((frame) => frame.event === 'control').map((frame) => JSON.parse(frame.data) as Record<string, unknown>)
