import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { defaultLimits } from '../../../src/domain/limits.js'
import { buildApp } from '../../../src/http/app.js'
import type { Parts } from '../../../src/http/parts.js'

export interface TestServer {
  readonly url: string
  readonly app: FastifyInstance
  close(): Promise<void>
}

/** A server on a free port. */
export async function listening(parts: Parts, prepare: (app: FastifyInstance) => void = () => undefined): Promise<TestServer> {
  const app = await buildApp(parts)
  prepare(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, app, close: async () => await app.close() }
}

export const silent = pino({ level: 'silent' })
export const developing = { allowDevFallback: true, refuseSystemHeader: false } as const

/** The shell alone: no test that uses it reaches a database. */
export async function shellOnly(parts: Partial<Parts> = {}, prepare?: (app: FastifyInstance) => void): Promise<TestServer> {
  const whole = { limits: defaultLimits, authentication: developing, logger: silent, isStopping: () => false, ...parts }
  return await listening(whole as Parts, prepare)
}
