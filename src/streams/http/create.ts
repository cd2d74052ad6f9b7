/**
 * Creating streams at a foreign server (spec/14 §2.1, §3), and not believing it when it loses first entries (§5).
 *
 * C1  `created` is answered only for a stream that holds our first entry exactly once, or none where none was sent.
 * C2  A 404 to the creation of a stream that now exists is a lost body (D1, D1a): its bytes may come back after a restart, so the empty stream
 *     is deleted and made anew with no other write under way; it is never filled by an append.
 * C3  A stream that holds more than our own first entry is never deleted here.
 * C4  A repetition (same `operation`, or our own retry) that finds its own first entry answers `created` again.
 * C5  What the reference answers wrongly without asking for state (D4 invalid JSON, D7 life in the past) is decided here, before anything is sent.
 *
 * A crash leaves nothing, the whole stream, or, against a server with D1, an empty stream, which the same operation's repetition makes anew.
 */
import { maxStreamPathBytes, type StreamPath, zeroOffset } from '../../domain/ids.js'
import { type CreateRequest, type CreateVerdict, isRefused, type StreamHead } from '../store.js'
import { type Connection, headOf, insideLane, readAfter } from './connection.js'
import { beginsWith, isStorable, storesNothing } from './content.js'
import { type Answer, type Message, Unanswered } from './exchange.js'
import { headIn, mediaType, missing, refused, tailIn, tooLarge } from './verdicts.js'

const longestReferencePathBytes = 1_900 // D7: LMDB keys
const maxRepairs = 4

export async function create(connection: Connection, path: StreamPath, asked: CreateRequest): Promise<CreateVerdict> {
  if (Buffer.byteLength(path) > maxStreamPathBytes) return refused(400, 'body', 'Stream path is too long')
  const request = await withType(connection, asked)
  if (!isStorable(request.contentType ?? 'application/octet-stream', request.body ?? Buffer.alloc(0)))
    return await createWithBadBody(connection, path, request)
  if (isOver(request)) return await createForThePast(connection, path, request)
  const first = await put(connection, path, request)
  if (typeof first !== 'string') return first

  if (first === 'lost') connection.distrust({ path, reason: 'D1a: a first entry was lost' })
  return await connection.lane.run(() => makeAnew(insideLane(connection), path, request)) // C2
}

/** A fork that names no type has its source's: what its first entry means depends on it. Where no source is, the server says so. */
async function withType(connection: Connection, request: CreateRequest): Promise<CreateRequest> {
  const { contentType, fork, body } = request
  if (contentType !== undefined || fork === undefined || body === undefined || body.length === 0) return request
  const source = await headOf(connection, fork.from as StreamPath)
  return isRefused(source) ? request : { ...request, contentType: source.head.contentType }
}

/** `lost`: the server dropped a body under our eyes. `empty`: a repetition found its stream without the first entry. */
type Unfilled = 'lost' | 'empty'

async function put(connection: Connection, path: StreamPath, request: CreateRequest): Promise<CreateVerdict | Unfilled> {
  const message: Message = {
    method: 'PUT',
    path,
    headers: createHeaders(connection, request),
    ...(request.body !== undefined && { body: request.body }),
  }
  let mayBeOurs = request.operation !== undefined
  const answer = await connection.exchange.patiently(
    message,
    async () => {
      try {
        return await connection.lane.run(() => connection.exchange.attempt(message))
      } catch (failure) {
        if (failure instanceof Unanswered && failure.arrived) mayBeOurs = true
        throw failure
      }
    },
    () => Buffer.byteLength(path) <= longestReferencePathBytes,
  )
  return await judge(connection, path, request, answer, mayBeOurs)
}

async function judge(
  connection: Connection,
  path: StreamPath,
  request: CreateRequest,
  answer: Answer,
  mayBeOurs: boolean,
): Promise<CreateVerdict | Unfilled> {
  const { exchange, memory } = connection
  const message = { method: 'PUT', path } as const
  switch (answer.status) {
    case 201: {
      const head = headIn(answer, tailIn(exchange, message, answer), request)
      if (hasBody(request) && head.tail === zeroOffset) return 'lost' // C1
      memory.forget(path)
      memory.saw(path, head.tail)
      return { outcome: 'created', head }
    }
    case 200: {
      const head = headIn(answer, tailIn(exchange, message, answer), request)
      memory.saw(path, head.tail)
      if (!mayBeOurs || !hasBody(request)) return { outcome: 'exists', head }
      if (head.tail === zeroOffset) return 'empty'
      return (await holdsFirstEntry(connection, path, request, head))
        ? { outcome: 'created', head, isRepeated: true } // C4
        : { outcome: 'exists', head }
    }
    case 400:
      return refused(
        400,
        request.fork === undefined ? 'body' : 'fork',
        request.fork === undefined ? 'Invalid create request' : 'Invalid fork request',
      )
    case 404: {
      const found = await headOf(connection, path)
      if (!isRefused(found)) return hasBody(request) ? 'lost' : { outcome: 'exists', head: found.head }
      return request.fork === undefined ? 'lost' : refused(404, 'fork', 'Source stream not found')
    }
    case 409:
      return await judgeConflict(connection, path, request, mayBeOurs)
    case 410:
      return refused(409, 'gone', softDeleted)
    case 413:
      return tooLarge()
    case 414:
      return refused(400, 'body', 'Stream path is too long')
    default:
      throw exchange.unavailable(message, `PUT answered ${answer.status}`)
  }
}

const softDeleted = 'stream was deleted but still has active forks — path cannot be reused until all forks are removed'

/** 409 where only the form differs (D6: type parameters, what a fork inherited): asked again in the stored form. */
async function judgeConflict(
  connection: Connection,
  path: StreamPath,
  request: CreateRequest,
  mayBeOurs: boolean,
): Promise<CreateVerdict | Unfilled> {
  const found = await headOf(connection, path)
  if (isRefused(found)) {
    if (found.because === 'gone') return refused(409, 'gone', softDeleted)
    return request.fork === undefined
      ? refused(409, 'exists', 'Stream already exists with different configuration')
      : refused(409, 'fork', 'Fork conflicts with its source stream')
  }
  const stored = inStoredForm(request, found.head)
  if (stored !== null) {
    const again = await connection.exchange.ask({ method: 'PUT', path, headers: createHeaders(connection, stored) })
    if (again.status === 200) return await judge(connection, path, stored, again, mayBeOurs)
  }
  return refused(409, 'exists', 'Stream already exists with different configuration')
}

/** The request with what it leaves open, or words differently, taken from the stream; null where that changes nothing. */
function inStoredForm(request: CreateRequest, head: StreamHead): CreateRequest | null {
  const isFork = request.fork !== undefined
  const sameType = mediaType(request.contentType ?? 'application/octet-stream') === mediaType(head.contentType)
  const contentType = sameType || (isFork && request.contentType === undefined) ? head.contentType : request.contentType
  const inherits = isFork && request.ttlS === undefined && request.expiresAt === undefined
  const sameInstant =
    request.expiresAt !== undefined && head.expiresAt !== undefined && Date.parse(request.expiresAt) === Date.parse(head.expiresAt)
  const stored: CreateRequest = {
    ...request,
    ...(contentType !== undefined && { contentType }),
    ...(inherits && head.ttlS !== undefined && { ttlS: head.ttlS }),
    ...((inherits || sameInstant) && head.expiresAt !== undefined && { expiresAt: head.expiresAt }),
  }
  const changed = stored.contentType !== request.contentType || stored.ttlS !== request.ttlS || stored.expiresAt !== request.expiresAt
  return changed ? stored : null
}

/** C2. Alone in the lane, so no other write of this process evicts ours again. */
async function makeAnew(connection: Connection, path: StreamPath, request: CreateRequest): Promise<CreateVerdict> {
  const { exchange } = connection
  for (let nth = 1; nth <= maxRepairs; nth += 1) {
    const found = await headOf(connection, path)
    if (isRefused(found)) {
      if (found.because === 'gone') return refused(409, 'gone', softDeleted)
    } else {
      if (!isOurEmptyOne(request, found.head))
        throw exchange.unavailable({ method: 'PUT', path }, `the stream is at ${found.head.tail} and may be another's`) // C3
      await exchange.ask({ method: 'DELETE', path })
      connection.memory.forget(path)
    }
    const verdict = await put(connection, path, { ...request, operation: request.operation ?? 'repair' })
    if (typeof verdict !== 'string') return verdict
  }
  const left = await headOf(connection, path)
  if (!isRefused(left) && isOurEmptyOne(request, left.head)) await exchange.ask({ method: 'DELETE', path })
  throw exchange.unavailable({ method: 'PUT', path }, `D1a: the first entry was lost ${maxRepairs + 1} times`)
}

const isOurEmptyOne = (request: CreateRequest, head: StreamHead): boolean =>
  request.fork === undefined
    ? head.tail === zeroOffset
    : request.fork.offset !== undefined && !request.fork.subOffset && head.tail === request.fork.offset

async function holdsFirstEntry(connection: Connection, path: StreamPath, request: CreateRequest, head: StreamHead): Promise<boolean> {
  const { stored } = await readAfter(connection, path, forkPoint(request))
  return beginsWith(head.contentType, stored, request.body ?? Buffer.alloc(0))
}

const forkPoint = (request: CreateRequest): StreamHead['tail'] => (request.fork?.offset as StreamHead['tail'] | undefined) ?? zeroOffset

/** D4: the reference would leave an empty stream behind. An existing stream is not asked for its body (spec/14 §2.1 row 7). */
async function createWithBadBody(connection: Connection, path: StreamPath, request: CreateRequest): Promise<CreateVerdict> {
  const invalid = refused(400, 'body', 'Invalid JSON')
  const found = await headOf(connection, path)
  if (isRefused(found)) return found.because === 'gone' ? refused(409, 'gone', softDeleted) : invalid
  const { body: _, ...bodyless } = request
  const verdict = await create(connection, path, bodyless)
  if (verdict.outcome !== 'created') return verdict
  await connection.exchange.ask({ method: 'DELETE', path }) // it went away between our two requests
  return invalid
}

const isOver = (request: CreateRequest): boolean =>
  request.ttlS === 0 || (request.expiresAt !== undefined && Date.parse(request.expiresAt) <= Date.now())

/** D7: the reference answers 500. Such a stream is created, and missing from then on (spec/14 §1.5): nothing needs to be stored. */
async function createForThePast(connection: Connection, path: StreamPath, request: CreateRequest): Promise<CreateVerdict> {
  const found = await headOf(connection, path)
  if (!isRefused(found)) return refused(409, 'exists', 'Stream already exists with different configuration')
  if (found.because === 'gone') return refused(409, 'gone', softDeleted)
  if (request.fork !== undefined && isRefused(await headOf(connection, request.fork.from as StreamPath)))
    return { ...missing(), because: 'fork' }
  const { ttlS, expiresAt } = request
  return {
    outcome: 'created',
    head: {
      contentType: request.contentType ?? 'application/octet-stream',
      tail: zeroOffset,
      closed: request.closed === true,
      ...(ttlS !== undefined && { ttlS }),
      ...(expiresAt !== undefined && { expiresAt }),
    },
  }
}

function createHeaders({ exchange }: Connection, request: CreateRequest): Record<string, string> {
  const { fork } = request
  return {
    ...(request.contentType !== undefined && { 'content-type': request.contentType }),
    ...(request.ttlS !== undefined && { 'stream-ttl': String(request.ttlS) }),
    ...(request.expiresAt !== undefined && { 'stream-expires-at': request.expiresAt }),
    ...(request.closed === true && { 'stream-closed': 'true' }),
    ...(fork !== undefined && { 'stream-forked-from': exchange.pathThere(fork.from) }),
    ...(fork?.offset !== undefined && { 'stream-fork-offset': fork.offset }),
    ...(fork?.subOffset !== undefined && { 'stream-fork-sub-offset': String(fork.subOffset) }),
  }
}

const hasBody = (request: CreateRequest): boolean =>
  request.body !== undefined && !storesNothing(request.contentType ?? 'application/octet-stream', request.body)
