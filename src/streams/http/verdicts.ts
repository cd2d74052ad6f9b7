/** From statuses and headers of the protocol to the port's verdicts (spec/14 §2). Texts are our own: nothing that the foreign server writes is passed on. */
import { createHash } from 'node:crypto'
import { type Offset, parseOffset, zeroOffset } from '../../domain/ids.js'
import type { AppendRequest, AppendVerdict, Producer, StreamHead, StreamRefusal } from '../store.js'
import type { Answer, Exchange, Message } from './exchange.js'

type Because = StreamRefusal['because']
type RefusalStatus = StreamRefusal['status']

export function refused(
  status: RefusalStatus,
  because: Because,
  reason: string,
  headers: Readonly<Record<string, string>> = {},
): StreamRefusal {
  return { outcome: 'refused', status, because, reason, headers }
}

export const missing = (): StreamRefusal => refused(404, 'missing', 'Stream not found')
export const gone = (): StreamRefusal => refused(410, 'gone', 'Stream is gone')

/** Its own limit, whatever ours is: repeating the request does not help. */
export const tooLarge = (): StreamRefusal => refused(413, 'size', 'Entry too large for the stream service')

export const isTrue = (value: string | undefined): boolean => value?.toLowerCase() === 'true'

/** Compared by media type only (spec/14 §1.1). */
export const mediaType = (contentType: string): string => (contentType.split(';')[0] ?? '').trim().toLowerCase()
export const isJson = (contentType: string): boolean => mediaType(contentType) === 'application/json'

export const offsetIn = (answer: Answer): Offset | undefined => parseOffset(answer.header('stream-next-offset') ?? '') ?? undefined

/** Where a success says that its stream ends; one that does not say it is nobody's word (exchange.ts X4). Throws `STREAM_SERVICE_UNAVAILABLE`. */
export function tailIn(exchange: Pick<Exchange, 'unavailable'>, message: Pick<Message, 'method' | 'path'>, answer: Answer): Offset {
  const tail = offsetIn(answer)
  if (tail === undefined) throw exchange.unavailable(message, `${message.method} answered ${answer.status} and named no offset`)
  return tail
}

/** The reference's ETag shows its paths. */
export const opaqueEtag = (etag: string): string => `"${createHash('sha256').update(etag).digest('base64url').slice(0, 27)}"`

export function headIn(answer: Answer, tail: Offset, asked: { readonly ttlS?: number; readonly expiresAt?: string } = {}): StreamHead {
  const ttlS = answer.header('stream-ttl') ?? asked.ttlS
  const expiresAt = answer.header('stream-expires-at') ?? asked.expiresAt
  const etag = answer.header('etag')
  return {
    contentType: answer.header('content-type') ?? 'application/octet-stream',
    tail,
    closed: isTrue(answer.header('stream-closed')),
    ...(ttlS !== undefined && { ttlS: Number(ttlS) }),
    ...(expiresAt !== undefined && { expiresAt }),
    ...(etag !== undefined && { etag: opaqueEtag(etag) }),
  }
}

/**
 * A POST's answer as verdict; null where it says nothing about the request: 403 without an epoch, 405 and 415 are trouble between the servers, and an
 * append without an offset is none.
 */
export function appendVerdict(request: AppendRequest, answer: Answer): AppendVerdict | null {
  const tail = offsetIn(answer)
  const closed = isTrue(answer.header('stream-closed'))
  switch (answer.status) {
    case 200:
    case 204:
      if (tail === undefined && request.body.length > 0 && !isRepeated(request, answer)) return null // exchange.ts X4
      return isRepeated(request, answer) && request.producer !== undefined
        ? { outcome: 'duplicate', closed, producer: highestAccepted(request.producer, answer), ...(tail !== undefined && { tail }) }
        : { outcome: 'appended', tail: tail ?? zeroOffset, closed, ...(request.producer !== undefined && { producer: request.producer }) }
    case 400:
      return request.producer !== undefined && request.producer.seq > 0 && !isBodyText(answer)
        ? refused(400, 'producer', 'New epoch must start with sequence 0')
        : refused(400, 'body', bodyReason(request))
    case 403:
      if (answer.header('producer-epoch') === undefined) return null
      return refused(403, 'producer', 'Stale producer epoch', headersOf(answer, ['producer-epoch']))
    case 404:
      return missing()
    case 410:
      return gone()
    case 409:
      return conflict(request, answer)
    case 413:
      return tooLarge()
    default:
      return null
  }
}

/** How a producer hears that it had said this before. */
const isRepeated = ({ producer, body }: AppendRequest, { status }: Answer): boolean =>
  status === 204 && producer !== undefined && body.length > 0

const highestAccepted = (sent: Producer, answer: Answer): Producer => ({ ...sent, seq: Number(answer.header('producer-seq') ?? sent.seq) })

/** The protocol has one 400 for producers; it is told from those for bodies by the words of the reference. */
const isBodyText = (answer: Answer): boolean => /json|array|body/i.test(answer.body.subarray(0, 200).toString())

const bodyReason = (request: AppendRequest): string =>
  isJson(request.contentType) ? (isEmptyArray(request.body) ? 'Empty arrays are not allowed' : 'Invalid JSON') : 'Invalid body'

const isEmptyArray = (body: Buffer): boolean => body.length < 64 && /^\s*\[\s*\]\s*$/.test(body.toString())

function conflict(request: AppendRequest, answer: Answer): StreamRefusal {
  const gap = headersOf(answer, ['producer-expected-seq', 'producer-received-seq'])
  if (gap['producer-expected-seq'] !== undefined) return refused(409, 'producer', 'Producer sequence gap', gap)

  // A 409 to a producer that names no expected sequence makes its client spin for ever (spec/14 §2.3, last rule).
  const seq = request.producer?.seq
  const calm: Record<string, string> =
    seq === undefined ? {} : { 'producer-expected-seq': String(seq), 'producer-received-seq': String(seq) }
  if (isTrue(answer.header('stream-closed'))) {
    return refused(409, 'closed', 'Stream is closed', { 'stream-closed': 'true', ...headersOf(answer, ['stream-next-offset']), ...calm })
  }
  const text = answer.body.subarray(0, 200).toString()
  return request.streamSeq !== undefined && !/content-type/i.test(text)
    ? refused(409, 'sequence', 'Sequence conflict', calm)
    : refused(409, 'content-type', 'Content-type mismatch', calm)
}

function headersOf(answer: Answer, names: readonly string[]): Record<string, string> {
  const present = names
    .map((name) => [name, answer.header(name)] as const)
    .filter((entry): entry is [string, string] => entry[1] !== undefined)
  return Object.fromEntries(present)
}
