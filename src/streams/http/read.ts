/**
 * Public reads, passed through from the foreign server (spec/14 §2.4–2.7).
 *
 * R1  A body is never held whole: its chunks are pulled by the client, and the server's socket is not read ahead of it.
 * R2  The client's leaving ends the request at the server; a server that falls silent ends the read.
 * R3  Only headers of the protocol pass, and no text of the server's: its ETag would show its paths, so we hash it and compare for ourselves.
 * R4  A waiting reader that is told of a close gets the last entry as well (D2: the reference answers 204 with the old offset).
 * R5  No answer says that a shared cache may keep it: who asks there next need not be allowed to read (spec/14 §2.5).
 *
 * A crash cuts the connections; readers resume at their offset.
 */
import type { ReadRequest, ReadResponse } from '../store.js'
import type { Connection } from './connection.js'
import type { StreamedAnswer } from './exchange.js'
import { isJson, isTrue, mediaType, offsetIn, opaqueEtag } from './verdicts.js'

export interface ReadLimits {
  /** Longest silence of the server in a catch-up read. */
  readonly attemptTimeoutMs: number
  /** Longest silence of the server in a live read: above its long-poll time-out and keep-alive. */
  readonly liveSilenceMs: number
  /** Life of one SSE connection; a deleted stream's would hang for ever otherwise (D10). */
  readonly sseConnectionMs: number
  /** Aborted when the store closes. */
  readonly stop: AbortSignal
}

const passed = [
  'content-type',
  'cache-control',
  'stream-next-offset',
  'stream-up-to-date',
  'stream-closed',
  'stream-cursor',
  'stream-sse-data-encoding',
] as const

export async function serveRead(connection: Connection, limits: ReadLimits, request: ReadRequest): Promise<ReadResponse> {
  const isSse = request.query.live === 'sse'
  const isLive = isSse || request.query.live === 'long-poll'
  const life = isSse ? lifeOf(limits.sseConnectionMs) : undefined
  const signal = AbortSignal.any([request.signal, limits.stop, ...(life === undefined ? [] : [life.signal])])
  const answer = await connection.exchange.stream(
    { method: 'GET', path: request.path, query: queryOf(request) },
    { signal, silenceMs: isLive ? limits.liveSilenceMs : limits.attemptTimeoutMs },
  )
  if (answer.status === 204 && isTrue(answer.header('stream-closed')) && request.query.live === 'long-poll') {
    return (await lastEntry(connection, limits, request, answer)) ?? (await withoutBody(answer))
  }
  return await respond(connection, request, answer, life && { ...life, signal })
}

interface Life {
  readonly signal: AbortSignal
  readonly timer: NodeJS.Timeout
}

/** A timer holds it: Node lets go of an `AbortSignal.timeout` that only an `AbortSignal.any` depends on, and a collected one never comes. */
function lifeOf(ms: number): Life {
  const life = new AbortController()
  return { signal: life.signal, timer: setTimeout(() => life.abort(), ms).unref() }
}

async function respond(connection: Connection, request: ReadRequest, answer: StreamedAnswer, life?: Life): Promise<ReadResponse> {
  switch (answer.status) {
    case 200:
      if (!isOfStream(request, answer)) {
        answer.discard()
        throw connection.exchange.unavailable({ method: 'GET', path: request.path }, 'GET answered with what is no stream') // exchange.ts X4
      }
      if (isOfNow(request)) return await ofNow(answer)
      return isNotModified(request, answer)
        ? notModified(answer)
        : {
            status: 200,
            headers: headersOf(answer),
            body: life === undefined ? chunksOf(answer) : untilEndOf(life, request.signal, answer),
          }
    case 204:
      return await withoutBody(answer)
    case 400:
    case 404:
    case 410:
      await drain(answer)
      return {
        status: answer.status,
        headers: { 'content-type': 'text/plain; charset=utf-8' },
        body: Buffer.from(refusalText(answer.status, request)),
      }
    default:
      answer.discard()
      throw connection.exchange.unavailable({ method: 'GET', path: request.path }, `GET answered ${answer.status}`)
  }
}

/** What follows live says where it stands as it goes; all else in its head. */
const isOfStream = ({ query }: ReadRequest, answer: StreamedAnswer): boolean =>
  query.live === 'sse' ? mediaType(answer.header('content-type') ?? '') === 'text/event-stream' : offsetIn(answer) !== undefined

/** R4. The catch-up read from where the reader stands; null where there is nothing more. */
async function lastEntry(
  connection: Connection,
  limits: ReadLimits,
  request: ReadRequest,
  told: StreamedAnswer,
): Promise<ReadResponse | null> {
  const offset = request.query.offset === 'now' ? told.header('stream-next-offset') : request.query.offset
  const again: ReadRequest = {
    path: request.path,
    query: { ...(offset !== undefined && { offset }) },
    offsetsGiven: 1,
    signal: request.signal,
  }
  const answer = await connection.exchange.stream(
    { method: 'GET', path: again.path, query: queryOf(again) },
    { signal: request.signal, silenceMs: limits.attemptTimeoutMs },
  )
  const next = answer.header('stream-next-offset')
  if (answer.status !== 200 || next === undefined || offset === undefined || next <= offset) {
    answer.discard()
    return null
  }
  await drain(told)
  const cursor = told.header('stream-cursor')
  const response = await respond(connection, again, answer)
  return cursor === undefined ? response : { ...response, headers: { ...response.headers, 'stream-cursor': cursor } }
}

function queryOf({ query, offsetsGiven }: ReadRequest): string {
  const parameters = new URLSearchParams()
  for (let nth = 0; nth < offsetsGiven; nth += 1) parameters.append('offset', query.offset ?? '')
  if (query.live !== undefined) parameters.append('live', query.live)
  if (query.cursor !== undefined) parameters.append('cursor', query.cursor)
  return parameters.size > 0 ? `?${parameters}` : ''
}

/** In the order of spec/14 §2.4. */
function refusalText(status: number, { query, offsetsGiven }: ReadRequest): string {
  if (status === 404) return 'Stream not found'
  if (status === 410) return 'Stream is gone'
  if (offsetsGiven > 1) return 'Multiple offset parameters not allowed'
  if (query.offset === '') return 'Empty offset parameter'
  if (query.offset !== undefined) return 'Invalid offset format'
  return query.live === 'sse' ? 'SSE requires offset parameter' : 'Long-poll requires offset parameter'
}

function headersOf(answer: StreamedAnswer): Record<string, string> {
  const present = passed
    .map((name) => [name, answer.header(name)] as const)
    .filter((entry): entry is [(typeof passed)[number], string] => entry[1] !== undefined)
    .filter(([name, value]) => name !== 'cache-control' || isForbidding(value))
  const etag = etagOf(answer)
  return { ...Object.fromEntries(present), ...(etag !== undefined && { etag }) }
}

// R5
const isForbidding = (cacheControl: string): boolean => /\bno-(store|cache)\b/i.test(cacheControl) && !/\bpublic\b/i.test(cacheControl)

// R3
function etagOf(answer: StreamedAnswer): string | undefined {
  const etag = answer.header('etag')
  return etag === undefined ? undefined : opaqueEtag(etag)
}

function isNotModified({ ifNoneMatch }: ReadRequest, answer: StreamedAnswer): boolean {
  const etag = etagOf(answer)
  if (etag === undefined || ifNoneMatch === undefined) return false
  return ifNoneMatch.split(',').some((candidate) => candidate.trim() === '*' || candidate.trim().replace(/^W\//, '') === etag)
}

function notModified(answer: StreamedAnswer): ReadResponse {
  answer.discard()
  const { 'content-type': _, ...headers } = headersOf(answer)
  return { status: 304, headers, body: null }
}

/** A catch-up read from `now` has nothing to read. */
const isOfNow = ({ query }: ReadRequest): boolean => query.offset === 'now' && query.live !== 'sse' && query.live !== 'long-poll'

/** The reference knows JSON by its type without parameters only, and sends nothing for any other (spec/14 §2.5). */
async function ofNow(answer: StreamedAnswer): Promise<ReadResponse> {
  await drain(answer)
  return { status: 200, headers: headersOf(answer), body: Buffer.from(isJson(answer.header('content-type') ?? '') ? '[]' : '') }
}

async function withoutBody(answer: StreamedAnswer): Promise<ReadResponse> {
  await drain(answer)
  const { 'content-type': _, ...headers } = headersOf(answer)
  return { status: answer.status, headers, body: null }
}

async function drain(answer: StreamedAnswer): Promise<void> {
  for await (const _ of answer.chunks);
}

// R1
async function* chunksOf(answer: StreamedAnswer): AsyncGenerator<Buffer> {
  yield* answer.chunks
}

/** An SSE body that ends cleanly when its life is over: the client reconnects at its last offset. */
async function* untilEndOf({ signal, timer }: Life, client: AbortSignal, answer: StreamedAnswer): AsyncGenerator<Buffer> {
  try {
    yield* answer.chunks
  } catch (failure) {
    if (!signal.aborted || client.aborted) throw failure
  } finally {
    clearTimeout(timer)
  }
}
