/** The stream protocol over HTTP on a store, without the rest of the house. */
import { promisify } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import { AgentsError } from '../../src/domain/errors.js'
import { defaultLimits, type Limits } from '../../src/domain/limits.js'
import { streamRoutes } from '../../src/http/streams/routes.js'
import { routedUrl } from '../../src/http/urls.js'
import { Database } from '../../src/registry/database.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'

export interface StreamApp {
  readonly url: string
  readonly database: Database
  readonly streams: PostgresStreams
  /** How many clients are connected. */
  connections(): Promise<number>
  stop(): Promise<void>
}

/** One "process": a pool, a store and a server of its own on the database at `url`. */
export async function startStreamApp(databaseUrl: string, changed: Partial<Limits> = {}, publicUrl?: string): Promise<StreamApp> {
  const database = new Database({ url: databaseUrl, tenant: 'default', poolMax: 8 })
  const limits = { ...defaultLimits, longPollTimeoutMs: 3_000, ...changed }
  const streams = new PostgresStreams({ database, limits })
  const app = Fastify({ forceCloseConnections: true, rewriteUrl: (request) => routedUrl(request.url ?? '/') })
  renderErrors(app)
  let url = ''
  app.register((scope, _options, done) => {
    streamRoutes(scope, {
      streams,
      append: async (path, append) => await streams.append(path, append),
      access: async () => undefined,
      limits,
      publicUrl: (path) => `${publicUrl ?? url}${path}`,
    })
    done()
  })
  url = await app.listen({ host: '127.0.0.1', port: 0 })
  return {
    url,
    database,
    streams,
    connections: () => promisify(app.server.getConnections.bind(app.server))(),
    stop: async () => {
      await streams.close()
      await app.close()
      await database.close()
    },
  }
}

function renderErrors(app: FastifyInstance): void {
  app.setErrorHandler(async (failure: Error, _request, reply) => {
    if (failure instanceof AgentsError) return await reply.code(failure.refusal.status).send({ error: failure.refusal })
    const status = 'statusCode' in failure && typeof failure.statusCode === 'number' ? failure.statusCode : 500
    if (status === 500) process.stderr.write(`${failure.stack}\n`)
    return await reply.code(status).send({ error: { message: failure.message } })
  })
}
