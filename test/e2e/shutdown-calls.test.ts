import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import type { Child } from '../../src/dev/child.js'
import { eventually } from '../support/eventually.js'
import { migratedDatabase, type OwnDatabase } from '../support/own-database.js'
import { ownPort } from '../support/ports.js'
import { launchProgram } from '../support/program.js'
import { ownNamespace, quietNamespace } from '../support/temporal.js'

const temporal = process.env.TEST_TEMPORAL_ADDRESS ?? ''
let own: OwnDatabase
let namespace: string
let client: pg.Client
let handler: Server
let refusals: number
let calls: number
beforeEach(async () => {
  own = await migratedDatabase()
  namespace = await ownNamespace()
  client = new pg.Client({ connectionString: own.url })
  await client.connect()
  calls = 0
  handler = createServer((request, response) => {
    calls += 1
    request.resume()
    if (calls <= refusals) response.writeHead(500).end()
  })
  await new Promise<void>((resolve) => {
    handler.listen(0, '127.0.0.1', resolve)
  })
})
afterEach(async () => {
  handler.closeAllConnections()
  handler.close()
  await client.end()
  await quietNamespace(temporal, namespace, 'agents')
  await own.drop()
})

describe('a server that is told to stop while a handler keeps its call open', () => {
  it.each([
    ['the first call', 0],
    ['a call that Temporal had repeated', 1],
  ])(
    'ends within its limits with exit code 0, and the wake stays to be delivered: %s',
    async (_, refused) => {
      refusals = refused
      const port = await ownPort()
      const server = await runningAt(port)
      const { port: handlerPort } = handler.address() as AddressInfo // it listens on a port
      const target = { type: 'webhook', url: `http://127.0.0.1:${handlerPort}/` }
      await ask(port, 'POST', '/_electric/entity-types', { name: 'chat', description: 'x', default_dispatch_policy: { targets: [target] } })
      await ask(port, 'PUT', '/_electric/entities/chat/a', { initialMessage: 'x' })
      await eventually(() => calls > refused)

      server.kill('SIGTERM')

      expect(await server.exited).toEqual({ code: 0, signal: null })
      expect(server.output).not.toContain('ERROR')
      const { rows } = await client.query(`SELECT attempts > ${refused} AS tried, due_at FROM subscriptions`)
      expect(rows).toEqual([{ tried: true, due_at: expect.any(Date) }])
    },
    60_000,
  )

  async function runningAt(port: number): Promise<Child> {
    const server = launchProgram('server', { DATABASE_URL: own.url, TEMPORAL_NAMESPACE: namespace, PORT: String(port) })
    await eventually(() => server.output.includes('server running at'), { withinMs: 30_000 })
    return server
  }

  async function ask(port: number, method: string, path: string, body: unknown): Promise<void> {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: JSON.stringify(body) })
    expect(response.status).toBe(201)
  }
})
