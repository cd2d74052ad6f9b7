/** Requests of the stream protocol, parsed in the order of its checks (spec/14 §2.1, §2.2, §3.1). */
import type { IncomingHttpHeaders } from 'node:http'
import { maxProducerIdBytes, parseOffset, type StreamPath } from '../../domain/ids.js'
import { isInstant } from '../../streams/protocol/create-rules.js'
import { emptyBody, refusal, sourceMissing } from '../../streams/protocol/refusals.js'
import type { AppendRequest, CreateRequest, ForkRequest, Producer, StreamRefusal } from '../../streams/store.js'

const wholeNumber = /^(0|[1-9]\d*)$/
const digits = /^\d+$/

const bad = (reason: string): StreamRefusal => refusal(400, 'body', reason)

export const isRefusal = (value: object): value is StreamRefusal => 'outcome' in value

/** The path of a request as it is compared: percent-encoding kept, dot segments resolved, no query (spec/14 §1.1). */
export function streamPathOf(url: string): StreamPath {
  const path = url.startsWith('/') ? url : url.replace(/^https?:\/\/[^/?#]*/i, '')
  const { pathname } = new URL(`http://path.invalid${path.startsWith('/') ? path : `/${path}`}`)
  return (isOfOurs(pathname) ? pathname.slice(0, -1) : pathname) as StreamPath
}

/** A trailing slash is accepted on the server's own routes (spec/02 §1.1); elsewhere it is part of the stream's name. */
const isOfOurs = (path: string): boolean => path.endsWith('/') && path.startsWith('/_electric/')

const one = (header: string | readonly string[] | undefined): string | undefined => (typeof header === 'object' ? header[0] : header)

/** Case-insensitive `true`; anything else counts as absent (spec/14 §2.1). */
const isClosing = (headers: IncomingHttpHeaders): boolean => one(headers['stream-closed'])?.trim().toLowerCase() === 'true'

export function parseCreate(headers: IncomingHttpHeaders, contentType: string | undefined, body: Buffer): CreateRequest | StreamRefusal {
  const expiry = parseExpiry(headers)
  if (isRefusal(expiry)) return expiry
  const fork = parseFork(headers)
  if (fork !== null && isRefusal(fork)) return fork
  return {
    ...expiry,
    closed: isClosing(headers),
    body,
    ...(contentType === undefined ? {} : { contentType }),
    ...(fork === null ? {} : { fork }),
  }
}

function parseExpiry(headers: IncomingHttpHeaders): Pick<CreateRequest, 'ttlS' | 'expiresAt'> | StreamRefusal {
  const ttl = one(headers['stream-ttl'])
  const expiresAt = one(headers['stream-expires-at'])
  if (ttl !== undefined && expiresAt !== undefined) return bad('Cannot specify both Stream-TTL and Stream-Expires-At')
  if (ttl !== undefined)
    return wholeNumber.test(ttl) && Number.isSafeInteger(Number(ttl)) ? { ttlS: Number(ttl) } : bad('Invalid Stream-TTL value')
  if (expiresAt === undefined) return {}
  return isInstant(expiresAt) ? { expiresAt } : bad('Invalid Stream-Expires-At timestamp')
}

function parseFork(headers: IncomingHttpHeaders): ForkRequest | StreamRefusal | null {
  const from = one(headers['stream-forked-from'])
  const offset = one(headers['stream-fork-offset'])
  const sub = one(headers['stream-fork-sub-offset'])
  if (from !== undefined && offset !== undefined && parseOffset(offset) === null) return bad('Invalid Stream-Fork-Offset format')
  if (from === undefined) return sub === undefined ? null : bad('Stream-Fork-Sub-Offset requires Stream-Forked-From')
  if (sub !== undefined && !(wholeNumber.test(sub) && Number.isSafeInteger(Number(sub))))
    return bad('Invalid Stream-Fork-Sub-Offset format')
  if (!from.startsWith('/') || from !== streamPathOf(from)) return sourceMissing // no stream is named like that: nobody is asked for it
  return { from, ...(offset === undefined ? {} : { offset }), ...(sub === undefined ? {} : { subOffset: Number(sub) }) }
}

export function parseAppend(headers: IncomingHttpHeaders, contentType: string | undefined, body: Buffer): AppendRequest | StreamRefusal {
  const producer = parseProducer(headers)
  if (producer !== null && isRefusal(producer)) return producer
  const close = isClosing(headers)
  if (body.length === 0 && !close) return emptyBody
  if (body.length > 0 && (contentType === undefined || contentType.trim() === '')) return bad('Content-Type header is required')
  const streamSeq = one(headers['stream-seq'])
  return {
    contentType: contentType ?? '',
    body,
    close,
    ...(producer === null ? {} : { producer }),
    ...(streamSeq === undefined ? {} : { streamSeq }),
  }
}

function parseProducer(headers: IncomingHttpHeaders): Producer | StreamRefusal | null {
  const id = one(headers['producer-id'])
  const epoch = one(headers['producer-epoch'])
  const seq = one(headers['producer-seq'])
  if (id === undefined && epoch === undefined && seq === undefined) return null
  if (id === undefined || epoch === undefined || seq === undefined)
    return bad('All producer headers (Producer-Id, Producer-Epoch, Producer-Seq) must be provided together')
  if (id === '') return bad('Invalid Producer-Id: must not be empty')
  if (Buffer.byteLength(id) > maxProducerIdBytes) return bad(`Invalid Producer-Id: must have at most ${maxProducerIdBytes} bytes`)
  if (!isCount(epoch)) return bad('Invalid Producer-Epoch: must be a non-negative integer')
  if (!isCount(seq)) return bad('Invalid Producer-Seq: must be a non-negative integer')
  return { id, epoch: Number(epoch), seq: Number(seq) }
}

const isCount = (text: string): boolean => digits.test(text) && Number.isSafeInteger(Number(text))
