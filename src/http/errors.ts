/** How failures leave the house: the envelope of spec/02 §1.3, never an inner text. */
import { Readable } from 'node:stream'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { AgentsError, errors, type Refusal } from '../domain/errors.js'
import { isConnectionFailure } from '../registry/database.js'

const jsonType = 'application/json; charset=utf-8'

/** Fastify's own refusals (body too large, malformed request) by its error code; they are the client's doing. */
function ofFramework(failure: FastifyError, request: FastifyRequest): AgentsError | null {
  if (failure.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return errors.BODY_TOO_LARGE(request.routeOptions.bodyLimit ?? 0)
  const status = failure.statusCode
  if (typeof failure.code !== 'string' || !failure.code.startsWith('FST_') || status === undefined || status < 400 || status >= 500)
    return null
  return new AgentsError({ ...errors.INVALID_REQUEST(failure.message).refusal, status })
}

function refusalOf(failure: FastifyError, request: FastifyRequest): Refusal {
  if (failure instanceof AgentsError) return failure.refusal
  const framework = ofFramework(failure, request)
  if (framework !== null) return framework.refusal
  if (isConnectionFailure(failure)) {
    request.log.warn({ reason: failure.message, route: request.routeOptions.url }, 'the registry database does not answer')
    return errors.DATABASE_UNAVAILABLE().retryAfter(1).refusal
  }
  request.log.error({ err: failure, method: request.method, route: request.routeOptions.url }, 'request failed')
  return errors.INTERNAL_SERVER_ERROR().refusal
}

export function errorBody(refusal: Refusal): string {
  const { code, message, details, instead } = refusal
  return JSON.stringify({ error: { code, ...(instead ?? { message, ...(details === undefined ? {} : { details }) }) } })
}

/** How long, at most, the rest of a refused body is read and thrown away. */
const lingerMs = 2_000

/** A client that still sends does not read, and an answer that overtakes its body is lost with the connection. */
async function restDiscarded({ raw }: FastifyRequest): Promise<void> {
  if (raw.complete || raw.destroyed) return
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, lingerMs)
    const done = () => {
      clearTimeout(timer)
      resolve()
    }
    raw.once('end', done).once('close', done).resume()
  })
}

export async function renderError(failure: FastifyError, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  return await render(failure, request, reply, jsonType)
}

/** The same, as the subscription API says it: without a charset (spec/06 §2). */
export async function renderPlainError(failure: FastifyError, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  return await render(failure, request, reply, 'application/json')
}

/** Of an answer that became a refusal on its way: nobody is to keep that, or to save it under the answer's name. */
const headersOfAnswers = ['cache-control', 'content-disposition', 'etag'] as const

async function render(failure: FastifyError, request: FastifyRequest, reply: FastifyReply, type: string): Promise<FastifyReply> {
  const refusal = refusalOf(failure, request)
  for (const name of headersOfAnswers) reply.removeHeader(name)
  if (refusal.status === 413 || request.body instanceof Readable) await restDiscarded(request)
  if (refusal.retryAfterS !== undefined) reply.header('retry-after', String(refusal.retryAfterS))
  return reply
    .code(refusal.status)
    .header('content-type', type)
    .send(Buffer.from(errorBody(refusal))) // bytes, for Fastify gives text a charset
}
