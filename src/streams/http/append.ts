/**
 * Appending and closing at a foreign server (spec/14 §2.2, §2.3), and not believing it when it loses track of what it stored (§5).
 *
 * A1  `appended` and `duplicate` are answered only on the server's own word for this request, or where a read shows the entry.
 * A2  A request that may have arrived is repeated only with a producer, and only after a look whether it landed: the reference stores data before
 *     the producer's state, so a crash between lets it accept the repetition (D13).
 * A3  A 404 for a stream that exists is a lost write whose bytes are in the log (D1b). Repeating it would store it twice. An empty stream is made
 *     anew; any other counts as damaged, and nothing is appended to it until its metadata has caught up with its data (a restart of the server).
 * A4  A close is answered when HEAD shows it and no append that was under way can undo it (D3); the reference also claims it for a duplicate (D9).
 *
 * A crash of this process leaves an entry that landed or did not; who repeats it says `mayHaveLandedAfter`.
 */
import { isUtf8 } from 'node:buffer'
import { AgentsError } from '../../domain/errors.js'
import { type Offset, type StreamPath, zeroOffset } from '../../domain/ids.js'
import { type AppendRequest, type AppendVerdict, isRefused, type Producer, type StreamHead, Unreached } from '../store.js'
import { type Connection, headOf, readAfter } from './connection.js'
import { holds, insideEntryEndingAt } from './content.js'
import { type Message, Unanswered } from './exchange.js'
import { appendVerdict, isJson, mediaType, refused } from './verdicts.js'

const maxCloses = 3
/** Far above every real position: a producer that sends it learns where the server thinks it stands, and changes nothing. */
const gapProbe = 1_000_000_000
/** The lost bytes reach the file when the server closes it, which may be after its answer. */
const untilLostBytesShow = [5, 20, 80, 160]

export async function append(connection: Connection, path: StreamPath, request: AppendRequest): Promise<AppendVerdict> {
  if (request.body.length > 0) return await appendOnce(connection, path, refusable(request))
  return request.close === true ? await closeOnly(connection, path, request) : refused(400, 'body', 'Empty body')
}

const noJson = Buffer.from('{')

/** What is no UTF-8 is no JSON, but the reference mends it, unseen by those who judged the body: what it gets instead is refused, in the protocol's order. */
const refusable = (request: AppendRequest): AppendRequest =>
  isJson(request.contentType) && !isUtf8(request.body) ? { ...request, body: noJson } : request

/** Remembers what the caller was not told, so that its repetition is a repetition for us too (A2). */
async function appendOnce(connection: Connection, path: StreamPath, request: AppendRequest): Promise<AppendVerdict> {
  const { memory } = connection
  const { producer, mayHaveLandedAfter } = request
  if (producer === undefined) return await appendEntry(connection, path, request, { before: memory.tailOf(path), look: false })
  const doubt = memory.doubtOf(path, producer)
  const before = mayHaveLandedAfter ?? (doubt === undefined ? memory.tailOf(path) : doubt.before)
  try {
    const verdict = await appendEntry(connection, path, request, { before, look: doubt !== undefined || mayHaveLandedAfter !== undefined })
    memory.settled(path, producer)
    return verdict
  } catch (failure) {
    memory.doubts(path, producer, before)
    throw failure
  }
}

type Appended = Extract<AppendVerdict, { readonly outcome: 'appended' }>

interface Known {
  /** A tail from before the request was first sent, where one is known. */
  readonly before: Offset | undefined
  /** Whether it may have been sent already. */
  readonly look: boolean
}

async function appendEntry(
  connection: Connection,
  path: StreamPath,
  request: AppendRequest,
  { before, look: repeated }: Known,
): Promise<AppendVerdict> {
  const { exchange, lane, memory } = connection
  const message: Message = { method: 'POST', path, headers: appendHeaders(request), body: request.body }
  let look = repeated
  let mayHaveArrived = repeated
  if (memory.isDamaged(path)) {
    await expectHealed(connection, path)
    look = true
  }
  const attempt = async (): Promise<AppendVerdict> => {
    const verdict = await lane.run(async () => {
      const landed = look && request.producer !== undefined ? await lookForEntry(connection, path, request, request.producer, before) : null
      if (landed !== null) return landed
      const former = mayHaveArrived
      mayHaveArrived = true
      try {
        return await sendOnce(connection, message, request)
      } catch (failure) {
        if (failure instanceof Unanswered && !failure.arrived) mayHaveArrived = former
        throw failure
      }
    })
    if (isRefused(verdict) && verdict.because === 'missing') return await judgeMissing(connection, path)
    if (!isRefused(verdict) && verdict.tail !== undefined) memory.saw(path, verdict.tail)
    if (verdict.outcome !== 'appended' || request.close !== true || verdict.closed) return verdict
    return await closeBehind(connection, path, verdict, request)
  }
  try {
    return await exchange.patiently(message, attempt, (failure) => {
      look ||= failure.arrived // A2
      return request.producer !== undefined
    })
  } catch (failure) {
    throw failure instanceof AgentsError && !mayHaveArrived ? new Unreached(failure.refusal) : failure
  }
}

async function sendOnce({ exchange }: Connection, message: Message, request: AppendRequest): Promise<AppendVerdict> {
  const answer = await exchange.attempt(message)
  const verdict = appendVerdict(request, answer)
  if (verdict === null) throw exchange.unavailable(message, `POST answered ${answer.status}`)
  return verdict
}

/** A2. The verdict of an entry that is there although the server does not know its producer; null where sending it (again) is right. */
async function lookForEntry(
  connection: Connection,
  path: StreamPath,
  request: AppendRequest,
  producer: Producer,
  before: Offset | undefined,
): Promise<AppendVerdict | null> {
  const found = await headOf(connection, path)
  if (isRefused(found)) return found
  const { head } = found
  if (head.closed || mediaType(head.contentType) !== mediaType(request.contentType)) return null
  if (await knows(connection, path, request, producer)) return null // its own answer to the repetition is right

  const last = await readAfter(connection, path, insideEntryEndingAt(head.tail))
  if (last.next > head.tail) throw damaged(connection, path, head, last.next)
  if (before === undefined) {
    if (holds(head.contentType, last.stored, request.body)) throw unclear(connection, path)
    return null
  }
  const isThere = await standsBetween(connection, path, before, head, request.body)
  return isThere ? { outcome: 'appended', tail: head.tail, closed: head.closed, producer } : null
}

/** The entry is there without the close that came with it: the server stores that later, as it does the producer's state (D13). */
async function closeBehind(
  connection: Connection,
  path: StreamPath,
  entry: Appended,
  { contentType }: AppendRequest,
): Promise<AppendVerdict> {
  const closed = await closeOnly(connection, path, { contentType, body: Buffer.alloc(0), close: true })
  return isRefused(closed) ? closed : { ...entry, closed: closed.closed }
}

/** Whether an entry like `body` stands behind `before`; a server may hand out what stands there piece by piece. */
async function standsBetween(connection: Connection, path: StreamPath, before: Offset, head: StreamHead, body: Buffer): Promise<boolean> {
  for (let after = before; after < head.tail; ) {
    const { stored, next } = await readAfter(connection, path, after)
    if (holds(head.contentType, stored, body)) return true
    if (next <= after) return false
    after = next
  }
  return false
}

/** Whether the server's state of the producer includes this request, or refuses it: asked with a sequence that is always a gap. */
async function knows({ exchange }: Connection, path: StreamPath, request: AppendRequest, producer: Producer): Promise<boolean> {
  const { streamSeq: _, close: __, ...plain } = request
  const probe: AppendRequest = { ...plain, producer: { ...producer, seq: producer.seq + gapProbe } }
  const answer = await exchange.ask({ method: 'POST', path, headers: appendHeaders(probe), body: request.body })
  const expected = answer.header('producer-expected-seq')
  return expected === undefined || Number(expected) > producer.seq
}

/** A3. 404: the stream is missing, or it is there and the write was lost. */
async function judgeMissing(connection: Connection, path: StreamPath): Promise<AppendVerdict> {
  const found = await headOf(connection, path)
  if (isRefused(found)) {
    connection.memory.forget(path)
    return found
  }
  connection.distrust({ path, reason: 'D1b: an append to an existing stream was answered with 404' })
  const { head } = found
  if (head.tail === zeroOffset) {
    await connection.lane.run(() => makeAnew(connection, path)) // alone: no other append of ours lands between its look and its delete
    throw new Unanswered('D1b: the first append was lost; the empty stream was made anew', { arrived: false })
  }
  for (const pauseMs of untilLostBytesShow) {
    const { next } = await readAfter(connection, path, insideEntryEndingAt(head.tail))
    if (next > head.tail) throw damaged(connection, path, head, next)
    await new Promise((resume) => setTimeout(resume, pauseMs))
  }
  throw new Unanswered('D1b: an append was lost', { arrived: true })
}

/** An empty stream has nothing to lose but the lost bytes, which would come back after a restart. */
async function makeAnew(connection: Connection, path: StreamPath): Promise<void> {
  const { exchange, memory } = connection
  const found = await headOf(connection, path)
  if (isRefused(found) || found.head.tail !== zeroOffset) return
  const { contentType, ttlS, expiresAt } = found.head
  await exchange.ask({ method: 'DELETE', path })
  memory.forget(path)
  const headers = {
    'content-type': contentType,
    ...(ttlS !== undefined && { 'stream-ttl': String(ttlS) }),
    ...(expiresAt !== undefined && { 'stream-expires-at': expiresAt }),
  }
  const made = await exchange.ask({ method: 'PUT', path, headers })
  if (made.status !== 201)
    throw exchange.unavailable({ method: 'PUT', path }, `D1b: the empty stream could not be made anew (${made.status})`)
}

async function expectHealed(connection: Connection, path: StreamPath): Promise<void> {
  const found = await headOf(connection, path)
  if (!isRefused(found)) {
    const { next } = await readAfter(connection, path, insideEntryEndingAt(found.head.tail))
    if (next > found.head.tail) throw damaged(connection, path, found.head, next)
  }
  connection.memory.healed(path)
}

function damaged({ exchange, memory }: Connection, path: StreamPath, head: StreamHead, next: Offset): Error {
  memory.damaged(path)
  return exchange.unavailable(
    { method: 'POST', path },
    `D1b: the stream holds data up to ${next} but counts to ${head.tail}; restart the stream server`,
  )
}

const unclear = ({ exchange }: Connection, path: StreamPath): Error =>
  exchange.unavailable(
    { method: 'POST', path },
    'D13: the last entry equals this one, its producer is unknown, and so is what stood there before',
  )

async function closeOnly(connection: Connection, path: StreamPath, request: AppendRequest): Promise<AppendVerdict> {
  const { exchange, lane, memory } = connection
  const message: Message = { method: 'POST', path, headers: appendHeaders(request) }
  const found = await headOf(connection, path)
  if (isRefused(found)) return found // D8
  for (let nth = 1; nth <= maxCloses; nth += 1) {
    const answer = await exchange.patiently(
      message,
      () => lane.run(() => exchange.attempt(message)),
      () => true,
    )
    const verdict = appendVerdict(request, answer)
    if (verdict === null) throw exchange.unavailable(message, `POST answered ${answer.status}`)
    if (isRefused(verdict)) return verdict
    await passLock(connection, path, found.head.contentType)
    const after = await headOf(connection, path) // A4
    if (isRefused(after)) return after
    const { tail, closed } = after.head
    memory.saw(path, tail)
    if (closed && request.producer === undefined) return { outcome: 'appended', tail, closed }
    if (closed && request.producer !== undefined)
      return { outcome: found.head.closed ? 'duplicate' : 'appended', tail, closed, producer: request.producer }
    if (request.producer !== undefined)
      return { outcome: 'duplicate', tail, closed, producer: highest(request.producer, answer.header('producer-seq')) } // D9
  }
  throw exchange.unavailable(message, 'D3: a close did not hold')
}

/** Appends of other processes that were under way may still undo the close (D3): one that is always refused comes back after they have ended. */
async function passLock({ exchange }: Connection, path: StreamPath, contentType: string): Promise<void> {
  const refusedAlways = { contentType, body: Buffer.from('0'), producer: { id: 'close-check', epoch: 0, seq: gapProbe } }
  await exchange.ask({ method: 'POST', path, headers: appendHeaders(refusedAlways), body: refusedAlways.body })
}

const highest = (sent: Producer, seq: string | undefined): Producer => ({ ...sent, seq: Number(seq ?? sent.seq) })

function appendHeaders({ contentType, producer, streamSeq, close }: AppendRequest): Record<string, string> {
  return {
    'content-type': contentType,
    ...(producer !== undefined && {
      'producer-id': producer.id,
      'producer-epoch': String(producer.epoch),
      'producer-seq': String(producer.seq),
    }),
    ...(streamSeq !== undefined && { 'stream-seq': streamSeq }),
    ...(close === true && { 'stream-closed': 'true' }),
  }
}
