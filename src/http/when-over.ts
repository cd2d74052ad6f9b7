import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

/** What stands for the status of an answer that nobody waited for, as proxies write it down. */
const clientLeft = 499

/** Calls `then` once for each request when it is over: answered, or left by its client, of which Fastify's `onResponse` does not hear. */
export function whenOver(app: FastifyInstance, then: (request: FastifyRequest, reply: FastifyReply, status: number) => void): void {
  app.addHook('onRequest', (request, reply, done) => {
    reply.raw.once('close', () => then(request, reply, reply.raw.headersSent ? reply.statusCode : clientLeft))
    done()
  })
}
