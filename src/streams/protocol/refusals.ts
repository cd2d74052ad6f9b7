/** Every refusal of the stream protocol: status, text and headers (spec/14 §2–§3). Clients read statuses and headers; texts are for people. */
import { offsetOf } from '../../domain/ids.js'
import type { Producer, StreamRefusal } from '../store.js'

type Because = StreamRefusal['because']

export function refusal(
  status: StreamRefusal['status'],
  because: Because,
  reason: string,
  headers: Readonly<Record<string, string>> = {},
): StreamRefusal {
  return { outcome: 'refused', status, because, reason, headers }
}

export const missing = refusal(404, 'missing', 'Stream not found')
export const gone = refusal(410, 'gone', 'Stream is gone')
export const invalidJson = refusal(400, 'body', 'Invalid JSON')
export const emptyArray = refusal(400, 'body', 'Empty arrays are not allowed')
export const emptyBody = refusal(400, 'body', 'Empty body')
export const pathTooLong = refusal(400, 'body', 'Stream path is too long')
export const pathHeld = refusal(
  409,
  'gone',
  'stream was deleted but still has active forks — path cannot be reused until all forks are removed',
)
export const otherConfiguration = refusal(409, 'exists', 'Stream already exists with different configuration')

export const closed = (tail: number): StreamRefusal =>
  refusal(409, 'closed', 'Stream is closed', { 'stream-closed': 'true', 'stream-next-offset': offsetOf(tail) })

export const contentTypeMismatch = refusal(409, 'content-type', 'Content-type mismatch')
export const sequenceConflict = refusal(409, 'sequence', 'Sequence conflict')

export const staleEpoch = (epoch: number): StreamRefusal =>
  refusal(403, 'producer', 'Stale producer epoch', { 'producer-epoch': String(epoch) })
export const newEpochNotAtZero = refusal(400, 'producer', 'New epoch must start with sequence 0')
export const producerGap = (expected: number, received: number): StreamRefusal =>
  refusal(409, 'producer', 'Producer sequence gap', {
    'producer-expected-seq': String(expected),
    'producer-received-seq': String(received),
  })

export const sourceMissing = refusal(404, 'fork', 'Source stream not found')
export const sourceGone = refusal(409, 'fork', 'source stream was deleted but still has active forks')
export const sourceTypeMismatch = refusal(409, 'fork', 'Content type mismatch with source stream')
export const forkBeyondSource = refusal(400, 'fork', 'Fork offset beyond source stream length')
export const invalidSubOffset = refusal(400, 'fork', 'Invalid fork sub-offset')

/**
 * A 409 without `Producer-Expected-Seq` sends the producer client into an endless loop; with both headers equal to the sequence that it
 * sent, it reports a clean error (spec/14 §2.3, §4.3).
 */
export function forProducer(refused: StreamRefusal, producer: Producer | undefined): StreamRefusal {
  if (producer === undefined || refused.status !== 409 || 'producer-expected-seq' in refused.headers) return refused
  const seq = String(producer.seq)
  return { ...refused, headers: { ...refused.headers, 'producer-expected-seq': seq, 'producer-received-seq': seq } }
}
