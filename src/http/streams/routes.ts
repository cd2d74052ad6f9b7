/**
 * The Durable Streams protocol (spec/14) on every path that no other route has. Parses and renders; the store decides.
 * Refusals of the stream layer are `text/plain`; those of `access` go through the house's error envelope.
 */
import { isUtf8 } from 'node:buffer'
import type { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { AgentsError } from '../../domain/errors.js'
import type { StreamPath } from '../../domain/ids.js'
import type { Limits } from '../../domain/limits.js'
import { contentTypeOf } from '../../streams/protocol/media-type.js'
import { missing } from '../../streams/protocol/refusals.js'
import type {
  AppendRequest,
  AppendVerdict,
  CreateRequest,
  CreateVerdict,
  DeleteVerdict,
  ReadResponse,
  StreamHead,
  StreamRefusal,
  StreamStore,
} from '../../streams/store.js'
import { allowCrossOrigin, streamSecurityHeaders } from '../cors.js'
import { cutOffWhenStalled } from '../stalled.js'
import { HeldParts, inParts, sliceBytes } from './held.js'
import { isRefusal, parseAppend, parseCreate, streamPathOf } from './requests.js'

export interface StreamRouteParts {
  readonly streams: StreamStore
  /** Throws where the caller may not append to this stream, whatever it sends. Asked for requests that are no appends. */
  readonly refuseStranger?: (path: StreamPath, request: FastifyRequest) => Promise<void>
  /** The pipeline; what it does is part of the append. */
  readonly append: (path: StreamPath, append: AppendRequest, request: FastifyRequest) => Promise<AppendVerdict>
  /** Creates and deletes through the protocol, where they have consequences; absent: the store's own. */
  readonly create?: (path: StreamPath, create: CreateRequest) => Promise<CreateVerdict>
  readonly remove?: (path: StreamPath) => Promise<DeleteVerdict>
  /** Throws an `AgentsError` where the caller may not do this. Runs before the body is read. */
  readonly access: (request: FastifyRequest, path: StreamPath) => Promise<void>
  readonly limits: Pick<Limits, 'maxStreamBodyBytes' | 'readStallMs' | 'maxHeldReadBytes'>
  /** Where the world finds `path`: for `Location`. */
  readonly publicUrl: (path: string) => string
}

const emptyBuffer = Buffer.alloc(0)

/** Registers on an encapsulated instance: `app.register(async (scope) => streamRoutes(scope, parts))`. */
export function streamRoutes(app: FastifyInstance, parts: StreamRouteParts): void {
  const contentTypes = new WeakMap<FastifyRequest, string>()
  const contentTypeSent = (request: FastifyRequest) => contentTypes.get(request)
  const held = new HeldParts(parts.limits.maxHeldReadBytes)
  acceptAnyBody(app, parts.limits.maxStreamBodyBytes)

  app.addHook('onRequest', async (request, reply) => {
    allowCrossOrigin(reply)
    reply.headers(streamSecurityHeaders)
    rememberContentType(request, contentTypes)
    const path = streamPathOf(request.originalUrl)
    if (request.method === 'OPTIONS') return reply.code(204).send()
    if (isControlPath(path)) return refuse(reply, missing)
    await parts.access(request, path)
  })

  for (const url of streamUrls) streamRoute(app, url, parts, held, contentTypeSent)
}

/** The subscription API's, of either view: no stream lives there. */
const isControlPath = (path: string): boolean => /^(\/v1\/stream)?\/__ds(\/|$)/.test(path)

/** Everything that no other route has. */
export const anyStream = '*'

/** Below `/_electric/` only shared state is a stream. */
const streamUrls = [anyStream, '/_electric/shared-state/:id'] as const

function streamRoute(
  app: FastifyInstance,
  url: string,
  parts: StreamRouteParts,
  held: HeldParts,
  contentTypeSent: (request: FastifyRequest) => string | undefined,
): void {
  const route = { url, bodyLimit: parts.limits.maxStreamBodyBytes }
  app.route({ ...route, method: 'HEAD', handler: async (request, reply) => await head(parts, request, reply) })
  app.route({ ...route, method: 'GET', exposeHeadRoute: false, handler: async (request, reply) => await read(parts, held, request, reply) })
  app.route({ ...route, method: 'PUT', handler: async (request, reply) => await create(parts, request, reply, contentTypeSent(request)) })
  app.route({ ...route, method: 'POST', handler: async (request, reply) => await append(parts, request, reply, contentTypeSent(request)) })
  app.route({ ...route, method: 'DELETE', handler: async (request, reply) => await remove(parts, request, reply) })
  app.route({ ...route, method: 'OPTIONS', handler: async (_request, reply) => await reply.code(204).send() })
  app.route({ ...route, method: 'PATCH', handler: async (_request, reply) => await plain(reply, 405, 'Method not allowed') })
}

function acceptAnyBody(app: FastifyInstance, bodyLimit: number): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit }, async (_request: FastifyRequest, bytes: Buffer) => bytes)
}

/** Fastify refuses what does not look like a content type (415); the protocol has rules of its own for it (spec/14 §2.1 row 1). */
function rememberContentType(request: FastifyRequest, sent: WeakMap<FastifyRequest, string>): void {
  const contentType = request.raw.headers['content-type']
  if (contentType === undefined) return
  sent.set(request, contentType)
  request.raw.headers['content-type'] = 'application/octet-stream'
}

const bodyOf = (request: FastifyRequest): Buffer => (request.body instanceof Buffer ? request.body : emptyBuffer)

async function plain(
  reply: FastifyReply,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<FastifyReply> {
  return await reply
    .code(status)
    .headers({ 'content-type': 'text/plain', ...headers })
    .send(text)
}

const refuse = async (reply: FastifyReply, { status, reason, headers }: StreamRefusal): Promise<FastifyReply> =>
  await plain(reply, status, reason, headers)

async function create(
  parts: StreamRouteParts,
  request: FastifyRequest,
  reply: FastifyReply,
  contentType: string | undefined,
): Promise<FastifyReply> {
  const path = streamPathOf(request.originalUrl)
  const parsed = parseCreate(request.headers, contentTypeOf(contentType), bodyOf(request))
  if (isRefusal(parsed)) return await refuse(reply, parsed)
  const verdict = await (parts.create ?? ((at, wanted) => parts.streams.create(at, wanted)))(path, parsed)
  if (verdict.outcome === 'refused') return await refuse(reply, verdict)
  if (verdict.outcome === 'created') reply.header('location', parts.publicUrl(path))
  return await reply
    .code(verdict.outcome === 'created' ? 201 : 200)
    .headers(positionOfHead(verdict.head))
    .send()
}

const positionOfHead = ({ contentType, tail, closed }: StreamHead): Readonly<Record<string, string>> => ({
  'content-type': contentType,
  'stream-next-offset': tail,
  ...(closed ? { 'stream-closed': 'true' } : {}),
})

async function append(
  parts: StreamRouteParts,
  request: FastifyRequest,
  reply: FastifyReply,
  contentType: string | undefined,
): Promise<FastifyReply> {
  const parsed = parseAppend(request.headers, contentType, bodyOf(request))
  if (isRefusal(parsed)) {
    await parts.refuseStranger?.(streamPathOf(request.originalUrl), request)
    return await refuse(reply, parsed)
  }
  const verdict = await parts.append(streamPathOf(request.originalUrl), parsed, request).catch((failure: unknown) => {
    throw withProducerHeaders(reply, failure, parsed)
  })
  if (verdict.outcome === 'refused') return await refuse(reply, verdict)
  const isAcceptedEntry = verdict.outcome === 'appended' && verdict.producer !== undefined && parsed.body.length > 0
  return await reply
    .code(isAcceptedEntry ? 200 : 204)
    .headers(appendHeaders(verdict))
    .send() // 204 tells a producer "duplicate" (spec/14 §4.3)
}

/** A conflict that is no gap says so to a producer: without these headers its client repeats the request for ever (spec/14 §2.3, §4.3). */
function withProducerHeaders(reply: FastifyReply, failure: unknown, { producer }: AppendRequest): unknown {
  const isConflict = failure instanceof AgentsError && failure.refusal.status === 409
  if (isConflict && producer !== undefined) {
    const seq = String(producer.seq)
    reply.headers({ 'producer-expected-seq': seq, 'producer-received-seq': seq })
  }
  return failure
}

function appendHeaders({ tail, closed, producer }: Exclude<AppendVerdict, StreamRefusal>): Readonly<Record<string, string>> {
  return {
    ...(tail === undefined ? {} : { 'stream-next-offset': tail }),
    ...(closed ? { 'stream-closed': 'true' } : {}),
    ...(producer === undefined ? {} : { 'producer-epoch': String(producer.epoch), 'producer-seq': String(producer.seq) }),
  }
}

async function head(parts: StreamRouteParts, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const verdict = await parts.streams.head(streamPathOf(request.originalUrl))
  if (verdict.outcome === 'refused') return await reply.code(verdict.status).send()
  const { ttlS, expiresAt, etag } = verdict.head
  return await reply
    .code(200)
    .headers({
      ...positionOfHead(verdict.head),
      'cache-control': 'no-store',
      ...(etag === undefined ? {} : { etag }),
      ...(ttlS === undefined ? {} : { 'stream-ttl': String(ttlS) }),
      ...(expiresAt === undefined ? {} : { 'stream-expires-at': expiresAt }),
    })
    .send()
}

async function remove(parts: StreamRouteParts, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const verdict = await (parts.remove ?? ((path) => parts.streams.delete(path)))(streamPathOf(request.originalUrl))
  return verdict.outcome === 'refused' ? await refuse(reply, verdict) : await reply.code(204).send()
}

async function read(parts: StreamRouteParts, held: HeldParts, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const url = request.originalUrl
  const query = new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?') + 1) : '')
  const left = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) left.abort() // an abort that nobody hears of was a twentieth of a small read
  })
  const response = await parts.streams.serveRead({
    path: streamPathOf(url),
    query: given({ offset: query.get('offset'), live: query.get('live'), cursor: query.get('cursor') }),
    offsetsGiven: query.getAll('offset').length,
    signal: left.signal,
    ...given({ ifNoneMatch: request.headers['if-none-match'] ?? null }),
  })
  if (mayStall(response)) cutOffWhenStalled(reply.raw, parts.limits.readStallMs)
  const payload = payloadOf(response, reply, held)
  if (typeof payload === 'string') reply.serializer(asItIs) // without one fastify adds a charset to the type of a text
  return await reply.code(response.status).headers(response.headers).send(payload)
}

/** What no socket takes at once would be held for a reader who never comes for it. */
const mayStall = ({ body }: ReadResponse): boolean => body !== null && !(body instanceof Buffer && body.length < smallBytes)

const smallBytes = 16 * 1024

/** Without the members that are null. */
function given<Names extends string>(values: Readonly<Record<Names, string | null>>): Partial<Record<Names, string>> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null)) as Partial<Record<Names, string>> // entries lose the names
}

const asItIs = (text: string): string => text

/** A small text goes out in one piece with its head; a buffer would be a piece of its own. */
function payloadOf({ body }: ReadResponse, reply: FastifyReply, held: HeldParts): string | Buffer | Readable | undefined {
  if (body === null) return undefined
  if (!Buffer.isBuffer(body)) return inParts(body, reply.raw, held)
  if (body.length < smallBytes) return isUtf8(body) ? body.toString() : body
  if (body.length > sliceBytes) {
    reply.header('content-length', body.length)
    return inParts([body], reply.raw, held)
  }
  held.reader(reply.raw).take(body)
  return body
}
