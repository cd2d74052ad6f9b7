/**
 * The floors: what the same parts can do at best when asked directly, and our own HTTP shell around routes that do nothing.
 * Raw operations run inside of this process, without HTTP; the shell is asked by the generator, like the server.
 */
import type { ServerResponse } from 'node:http'
import { Client } from '@temporalio/client'
import { NativeConnection } from '@temporalio/worker'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import type { pino } from 'pino'
import { z } from 'zod'
import { offsetOf, type StreamPath } from '../src/domain/ids.js'
import { defaultLimits } from '../src/domain/limits.js'
import { buildApp } from '../src/http/app.js'
import { acceptAnyContentType, body } from '../src/http/body.js'
import type { Parts } from '../src/http/parts.js'
import { oneOf } from '../src/http/schemas.js'
import { createLog } from '../src/log.js'
import { Database } from '../src/registry/database.js'
import { migrate } from '../src/registry/migrate.js'
import { PostgresStreams } from '../src/streams/postgres/store.js'
import { type Command, measure, type Numbers, type Operate } from './measure.js'
import { answerCommands } from './processes.js'

const { BENCH_DATABASE_URL: databaseUrl = '', BENCH_TEMPORAL_ADDRESS: address = '' } = process.env
const pool = new pg.Pool({ connectionString: databaseUrl, max: 20 })
const connection = await NativeConnection.connect({ address, grpcCompression: { codec: 'none' } })
const client = new Client({ connection })

await pool.query(`
  CREATE TABLE IF NOT EXISTS bench_rows (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text NOT NULL);
  CREATE TABLE IF NOT EXISTS bench_counters (id int4 PRIMARY KEY, value int8 NOT NULL);
  INSERT INTO bench_counters SELECT i, 0 FROM generate_series(0, 1023) i ON CONFLICT DO NOTHING`)

const payload = 'x'.repeat(200)

async function transaction(caller: number): Promise<null> {
  const connected = await pool.connect()
  try {
    await connected.query('BEGIN')
    await connected.query({ name: 'row', text: 'INSERT INTO bench_rows (payload) VALUES ($1)', values: [payload] })
    await connected.query({ name: 'counter', text: 'UPDATE bench_counters SET value = value + 1 WHERE id = $1', values: [caller] })
    await connected.query('COMMIT')
    return null
  } finally {
    connected.release()
  }
}

let started = 0
/** Acknowledged, and carried out by nobody: no worker polls this queue. */
async function start(): Promise<null> {
  started += 1
  await client.workflow.start('nothing', {
    taskQueue: 'bench-nobody',
    workflowId: `nothing-${process.pid}-${started}`,
    args: [{ number: started }],
  })
  return null
}

async function select(stream: string): Promise<null> {
  const query = {
    name: 'bytes',
    text: 'SELECT e.data FROM streams s JOIN stream_entries e ON e.stream_id = s.id WHERE s.path = $1 ORDER BY e.end_offset',
    values: [stream],
    binary: true, // the cheapest form; unknown to the types of `pg`
  }
  await pool.query(query)
  return null
}

async function page(type: string, rows: number): Promise<null> {
  const text = 'SELECT * FROM entities WHERE type = $1 ORDER BY created_at DESC, url LIMIT $2'
  await pool.query({ name: 'page', text, values: [type, rows] })
  return null
}

async function rawAppend(command: Command): Promise<Numbers> {
  const database = new Database({ url: databaseUrl, tenant: 'bench-raw', poolMax: 20 })
  await migrate(database)
  const streams = new PostgresStreams({ database })
  const path = (caller: number) => `/bench/raw-${caller}` as StreamPath
  try {
    for (let caller = 0; caller < command.callers; caller += 1) await streams.create(path(caller), { contentType: 'application/json' })
    const entry = Buffer.from(JSON.stringify({ type: 'note', key: 'k', value: { text: payload } }))
    return await measure(command, async (_, caller) => {
      const { outcome } = await streams.append(path(caller), { contentType: 'application/json', body: entry })
      return outcome === 'appended' ? null : outcome
    })
  } finally {
    await streams.close()
    await database.close()
  }
}

function operate({ load }: Command): Operate {
  switch (load.is) {
    case 'transaction':
      return (_, caller) => transaction(caller)
    case 'start':
      return () => start()
    case 'start+transaction':
      return async (_, caller) => (await start()) ?? (await transaction(caller))
    case 'select':
      return () => select(load.stream ?? '')
    case 'page':
      return () => page(load.type ?? '', load.rows ?? 0)
    default:
      throw new Error(`no floor is called "${load.is}"`)
  }
}

const sendBody = body(
  z.looseObject({
    payload: z.unknown().optional(),
    key: z.string().optional(),
    type: z.string().optional(),
    mode: oneOf('immediate', 'queued', 'paused', 'steer').optional(),
    position: z.string().optional(),
    afterMs: z.number().optional(),
    from: z.string().optional(),
    from_principal: z.string().optional(),
    from_agent: z.string().optional(),
  }),
)

const tagBody = body(z.looseObject({ value: z.string() }))

/** What is posted is passed on to everybody who holds a GET open. */
function fan(scope: FastifyInstance): void {
  const open = new Set<ServerResponse>()
  scope.get('/_electric/bench/fan', (request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write(':\n\n')
    open.add(reply.raw)
    request.raw.once('close', () => open.delete(reply.raw))
  })
  scope.post('/_electric/bench/fan', async (request, reply) => {
    for (const response of open) response.write(`data:${String(request.body)}\n\n`)
    return reply.code(204).send()
  })
}

/** Our shell, whose routes parse, validate and answer; nothing behind them. Its log is the server's, so that it costs the same. */
async function shell(): Promise<string> {
  const tail = offsetOf(1)
  const read = Buffer.from(`[${'{"type":"note","key":"k","value":{"text":"hello"},"headers":{"offset":"1"}},'.repeat(10).slice(0, -1)}]`)
  const parts = {
    limits: defaultLimits,
    authentication: { allowDevFallback: true, refuseSystemHeader: false },
    logger: createLog({ level: 'warn' }) satisfies pino.Logger,
    publicUrl: () => '',
    isStopping: () => false,
    directory: { wakeStream: async () => null },
    streamWriting: { append: async () => ({ outcome: 'appended', tail, closed: false }) },
    streams: {
      serveRead: async () => ({
        status: 200,
        headers: { 'content-type': 'application/json', 'stream-next-offset': tail, etag: '"1"' },
        body: read,
      }),
    },
  } as unknown as Parts // the routes that need more are not asked
  const app = await buildApp(parts)
  app.register((scope, _options, done) => {
    acceptAnyContentType(scope)
    scope.get('/_electric/bench/empty', async () => ({}))
    scope.post('/_electric/bench/:type/:instanceId/send', async (request) => {
      sendBody(request)
      return { txid: '00000000-0000-0000-0000-000000000000' }
    })
    scope.post('/_electric/bench/:type/:instanceId/tags/:tagKey', async (request) => tagBody(request))
    const bytes = Buffer.alloc(1_024 * 1_024, 'x')
    scope.get('/_electric/bench/bytes', async (_request, reply) => reply.type('application/octet-stream').send(bytes))
    scope.post('/_electric/bench/bytes', async () => ({}))
    fan(scope)
    done()
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const bound = app.server.address()
  return `http://127.0.0.1:${typeof bound === 'object' ? bound?.port : ''}`
}

answerCommands(
  async (command) => {
    if (command.load.is === 'raw append') return await rawAppend(command)
    return await measure(command, operate(command))
  },
  await shell(),
)
