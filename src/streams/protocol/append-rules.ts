/**
 * What one append does to a stream: pure, decided under the stream's lock in the order of spec/14 §2.2, producers as in §2.3.
 * A refusal changes nothing; everything else answers the stream and the producer as they are afterwards.
 */
import { offsetOf } from '../../domain/ids.js'
import type { AppendRequest, AppendVerdict, CreateRequest, Producer, StreamRefusal } from '../store.js'
import { isJsonType, sameMediaType } from './media-type.js'
import { appendPayload, isLarge, largeAppendPayload, largeFirstPayload, type Payload } from './payload.js'
import * as refusals from './refusals.js'

/** What the rules must know of a stream. Positions are whole numbers. */
export interface LogState {
  readonly contentType: string
  readonly tail: number
  readonly closed: boolean
  /** The producer's request that closed it. */
  readonly closer: Producer | null
  readonly lastSeq: string | null
}

export interface ProducerState {
  readonly epoch: number
  readonly lastSeq: number
}

/** A request with its body made ready, and why that failed: an invalid body is refused last (spec/14 §2.2 row 12). */
export interface PreparedAppend {
  readonly request: AppendRequest
  /** Null: close-only. */
  readonly payload: Payload | StreamRefusal | null
}

export interface AppendEffect {
  readonly verdict: AppendVerdict
  /** Absent where nothing changes. */
  readonly state?: LogState
  readonly producer?: ProducerState
  /** The entry to write; its end is the tail of `state`. */
  readonly entry?: Payload
}

const nothing = Buffer.alloc(0)

export function prepareAppend(request: AppendRequest): PreparedAppend {
  if (request.payload !== undefined) return { request, payload: request.payload }
  if (request.body.length > 0) return { request, payload: appendPayload(isJsonType(request.contentType), request.body) }
  return { request, payload: request.close === true ? null : refusals.emptyBody }
}

/** Whether a request is to be made ready before it waits for a batch: what is small joins one in the very turn in which it comes. */
export const needsTime = ({ contentType, body }: AppendRequest): boolean => isLarge(isJsonType(contentType), body)

/** What a fork brings may be JSON, as its source is. */
export const needsTimeToCreate = ({ contentType, fork, body = nothing }: CreateRequest): boolean =>
  isLarge(contentType === undefined ? fork !== undefined : isJsonType(contentType), body)

/** As `madeReady`, to be created. */
export async function madeReadyToCreate<Request extends CreateRequest>(request: Request): Promise<Request> {
  return { ...request, payload: await largeFirstPayload(request.body ?? nothing) }
}

/** With its body made ready, while others have their turns (protocol/payload.ts P4). */
export async function madeReady<Request extends AppendRequest>(request: Request): Promise<Request> {
  return { ...request, payload: await largeAppendPayload(request.body) }
}

const isRefusal = (payload: Payload | StreamRefusal): payload is StreamRefusal => 'outcome' in payload

export function decideAppend(state: LogState, known: ProducerState | undefined, { request, payload }: PreparedAppend): AppendEffect {
  const effect = payload === null ? decideClose(state, known, request) : decideEntry(state, known, request, payload)
  if (effect.verdict.outcome !== 'refused') return effect
  return { verdict: refusals.forProducer(effect.verdict, request.producer) }
}

function decideEntry(
  state: LogState,
  known: ProducerState | undefined,
  request: AppendRequest,
  payload: Payload | StreamRefusal,
): AppendEffect {
  if (payload === refusals.emptyBody) return { verdict: refusals.emptyBody } // row 4
  if (state.closed) return { verdict: onClosed(state, request) } // rows 7, 8
  if (!sameMediaType(state.contentType, request.contentType)) return { verdict: refusals.contentTypeMismatch } // row 9
  const position = decideProducer(known, request.producer, state.tail) // row 10
  if (position !== null) return { verdict: position }
  if (request.streamSeq !== undefined && state.lastSeq !== null && request.streamSeq <= state.lastSeq)
    return { verdict: refusals.sequenceConflict } // row 11: header bytes arrive as latin-1, so code units are bytes
  if (isRefusal(payload)) return { verdict: payload } // row 12
  const tail = state.tail + 1
  return {
    ...accepted({ ...state, tail, lastSeq: request.streamSeq ?? state.lastSeq }, request),
    entry: payload,
  }
}

/** Close-only: neither content type nor `Stream-Seq` is looked at. */
function decideClose(state: LogState, known: ProducerState | undefined, request: AppendRequest): AppendEffect {
  if (state.closed && request.producer === undefined) return { verdict: { outcome: 'appended', tail: offsetOf(state.tail), closed: true } }
  if (state.closed) return { verdict: onClosed(state, request) }
  const position = decideProducer(known, request.producer, state.tail)
  if (position !== null) return { verdict: position }
  return accepted(state, request)
}

function accepted(state: LogState, request: AppendRequest): AppendEffect {
  const { producer, close = false } = request
  const verdict = {
    outcome: 'appended' as const,
    tail: offsetOf(state.tail),
    closed: close,
    ...(producer === undefined ? {} : { producer }),
  }
  return {
    verdict,
    state: close ? { ...state, closed: true, closer: producer ?? null } : state,
    ...(producer === undefined ? {} : { producer: { epoch: producer.epoch, lastSeq: producer.seq } }),
  }
}

function onClosed(state: LogState, { producer }: AppendRequest): AppendVerdict {
  const { closer, tail } = state
  if (producer === undefined || closer === null) return refusals.closed(tail)
  const isSame = producer.id === closer.id && producer.epoch === closer.epoch && producer.seq === closer.seq
  return isSame ? { outcome: 'duplicate', tail: offsetOf(tail), closed: true, producer } : refusals.closed(tail)
}

/** Null: the request is the producer's next one (or of no producer). */
function decideProducer(known: ProducerState | undefined, sent: Producer | undefined, tail: number): AppendVerdict | null {
  if (sent === undefined) return null
  if (known === undefined) return sent.seq === 0 ? null : refusals.producerGap(0, sent.seq)
  if (sent.epoch < known.epoch) return refusals.staleEpoch(known.epoch)
  if (sent.epoch > known.epoch) return sent.seq === 0 ? null : refusals.newEpochNotAtZero
  if (sent.seq > known.lastSeq + 1) return refusals.producerGap(known.lastSeq + 1, sent.seq)
  if (sent.seq === known.lastSeq + 1) return null
  // A repetition does not close an open stream, whatever it asks for (D9); the answer names the highest accepted sequence.
  return { outcome: 'duplicate', tail: offsetOf(tail), closed: false, producer: { ...sent, seq: known.lastSeq } }
}
