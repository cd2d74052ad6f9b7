/**
 * The HTTP server: what holds for every request, in this order (spec/02 §1, spec/12 §1.3, spec/13 §6).
 *
 * H1  Every response carries the CORS headers, also those of requests that never reach a route.
 * H2  `OPTIONS` is answered before anything is asked of the caller; health, the key set and the UI need no principal either.
 * H3  Everything else has a principal before it is routed, but for what a token alone authorises: callbacks of wakes, appends of handlers.
 * H4  Unknown paths below `/_electric/` are 404 with an empty body; all other paths are Durable Streams traffic.
 * H5  A stopping server begins no mutation; those it began are answered.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import { z } from 'zod'
import { errors } from '../domain/errors.js'
import { entityOfMainStream } from '../domain/ids.js'
import { SharedStateAccess } from '../entities/shared-state-access.js'
import { StreamAccess } from '../entities/stream-access.js'
import { SubscriptionAccess } from '../entities/subscription-access.js'
import { agentUiRoutes, isAgentUi } from './agent-ui.js'
import { attachmentRoutes } from './attachments/routes.js'
import { acceptAnyContentType } from './body.js'
import { corsHeaders } from './cors.js'
import type { RouteDocumentation } from './documentation.js'
import { renderError } from './errors.js'
import { isJwks } from './jwks.js'
import { openApi, openApiPath } from './openapi.js'
import type { Parts } from './parts.js'
import { resolvePrincipal } from './principals.js'
import { jsonRoutes } from './routes.js'
import { streamPathOf } from './streams/requests.js'
import { anyStream, type StreamRouteParts, streamRoutes } from './streams/routes.js'
import { speaksByClaimToken } from './subscriptions/views.js'
import { presentedToken } from './tokens.js'
import { tracedRequests } from './tracing.js'
import { routedUrl } from './urls.js'
import { wakeCallbacks } from './wake-callbacks.js'
import { whenOver } from './when-over.js'

const healthPath = '/_electric/health'
const healthDocumentation: RouteDocumentation = {
  operation: 'readHealth',
  tag: 'server',
  summary: 'Whether the server takes requests',
  answers: {
    200: { description: 'It does.', schema: z.object({ status: z.literal('ok') }) },
    503: { description: 'It is shutting down.', schema: z.object({ status: z.literal('stopping') }) },
  },
  isPublic: true,
}
/** Node refuses longer request lines by itself; no parameter is refused for its length before its own check. */
const maxParamLength = 65_536
/** A client that never finishes its request is cut off. */
const requestTimeoutMs = 120_000

export async function buildApp(parts: Parts): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: parts.logger,
    logController: new LogController({ disableRequestLogging: true }),
    http: { requireHostHeader: false }, // Node would refuse without H1
    routerOptions: { maxParamLength },
    rewriteUrl: (request) => routedUrl(request.url ?? '/'),
    bodyLimit: parts.limits.maxJsonBodyBytes,
    return503OnClosing: false,
    requestTimeout: requestTimeoutMs,
    clientErrorHandler: refuseMalformed,
  })
  const access = new StreamAccess(parts.directory, new SharedStateAccess(parts.database, parts.directory), parts.attachments)
  app.addHttpMethod('QUERY', { overrideExisting: true }) // no route has it; Fastify would ask for its content type before it says so
  app.server.on('checkExpectation', refuseExpectation)
  app.decorate('limits', parts.limits)
  app.decorateRequest('principal')
  app.setErrorHandler(renderError)
  app.setNotFoundHandler(nothingHere)
  openApi(app)
  tracedRequests(app, parts.tenant)
  everyRequest(app, parts)
  observed(app, parts)
  health(app, parts)
  agentUiRoutes(app, parts.agentUiFolder)
  app.register((scope, _options, done) => {
    ignoreContentType(scope)
    jsonRoutes(scope, parts, new SubscriptionAccess(access, parts.directory))
    for (const unknown of ['/_electric', '/_electric/*']) scope.all(unknown, { config: { undocumented: 'answers 404' } }, nothingHere) // H4
    done()
  })
  app.register((scope, _options, done) => {
    attachmentRoutes(scope, parts)
    done()
  })
  app.register((scope, _options, done) => {
    const { streamWriting } = parts
    streamRoutes(scope, {
      ...parts,
      access: streamAccess(access),
      refuseStranger: (path, request) => streamWriting.refuseStranger(path, presentedToken(request)),
      append: (path, append, request) => streamWriting.append(path, append, presentedToken(request)),
      create: (path, create) => streamWriting.create(path, create),
      remove: (path) => streamWriting.delete(path),
    })
    done()
  })
  return app
}

function everyRequest(app: FastifyInstance, parts: Parts): void {
  app.addHook('onRequest', async (request, reply) => {
    request.raw.url = request.originalUrl // routed already; from here on the URL is the one that was sent
    reply.headers(corsHeaders) // H1
    if (namesNoHost(request)) return await reply.code(400).header('connection', 'close').send()
    if (request.method === 'OPTIONS') return await reply.code(204).send() // H2
    if (needsNoPrincipal(request.method, request.originalUrl)) return
    if (parts.isStopping() && !isRead(request.method)) throw errors.SERVER_STOPPING() // H5
    if (speaksByToken(request)) return // H3
    request.principal = await resolvePrincipal(request, parts.authentication) // H3
  })
}

/** HTTP/1.1 wants such a request refused, whatever it is. */
const namesNoHost = ({ raw: { httpVersion, headers } }: FastifyRequest): boolean => httpVersion === '1.1' && headers.host === undefined

function observed(app: FastifyInstance, { observeRequest }: Parts): void {
  if (observeRequest === undefined) return
  whenOver(app, ({ method, routeOptions }, { elapsedTime }, status) =>
    observeRequest({ method, route: routeOptions.url ?? '', status, seconds: elapsedTime / 1_000 }),
  )
}

function isRead(method: string): boolean {
  return method === 'GET' || method === 'HEAD'
}

function streamAccess(access: StreamAccess): StreamRouteParts['access'] {
  return async ({ principal, method, headers }, path) => {
    const forkedFrom = headers['stream-forked-from']
    const owner = headers['electric-owner-entity']
    await access.check({
      principal,
      method,
      path,
      ...(forkedFrom === undefined ? {} : { forkedFrom: String(forkedFrom) }),
      ...(owner === undefined ? {} : { owner: String(owner) }),
    })
  }
}

function needsNoPrincipal(method: string, url: string): boolean {
  const path = url.split('?', 1)[0] ?? url
  return path === healthPath || path === `${healthPath}/` || path === openApiPath || isJwks(path) || isAgentUi(path) || isRoot(method, path)
}

/** It leads to the UI; to a method that is no read it is a path like any (spec/13 §6). */
const isRoot = (method: string, path: string): boolean => path === '/' && isRead(method)

/** Runtimes send no principal on these (spec/06 §2). */
function speaksByToken({ method, originalUrl, routeOptions }: FastifyRequest): boolean {
  if (method !== 'POST') return false
  if (routeOptions.url === anyStream) return entityOfMainStream(streamPathOf(originalUrl)) !== null // as the route reads it
  const path = originalUrl.split('?', 1)[0] ?? originalUrl
  return path.startsWith(wakeCallbacks) || speaksByClaimToken(path)
}

function health(app: FastifyInstance, parts: Parts): void {
  app.get(healthPath, { config: { documentation: healthDocumentation } }, async (_request, reply) =>
    parts.isStopping() ? reply.code(503).send({ status: 'stopping' }) : reply.send({ status: 'ok' }),
  )
}

/** JSON routes read their bodies as JSON whatever the content type says, even one that is none (spec/02 §1.2). */
function ignoreContentType(scope: FastifyInstance): void {
  acceptAnyContentType(scope)
  scope.addHook('onRequest', async (request) => {
    delete request.raw.headers['content-type']
  })
}

async function nothingHere(_request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  return await reply.code(404).send()
}

const malformedResponse = (status: string): string =>
  [
    `HTTP/1.1 ${status}`,
    ...Object.entries(corsHeaders).map(([name, value]) => `${name}: ${value}`),
    'content-length: 0',
    'connection: close',
    '',
    '',
  ].join('\r\n')

/** What Node would refuse by itself, without H1: an `Expect` that nobody knows. */
function refuseExpectation(_request: IncomingMessage, response: ServerResponse): void {
  response.writeHead(417, { ...corsHeaders, 'content-length': 0 }).end()
}

/** What Node's parser refuses never becomes a request; it still gets a status and CORS (H1). */
function refuseMalformed(failure: NodeJS.ErrnoException, socket: Socket): void {
  if (failure.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const status = failure.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request'
  socket.end(malformedResponse(status))
}
