import { promisify } from 'node:util'
import { Outbound } from '../../../src/dispatch/outbound.js'
import { outboundPolicy } from '../../../src/dispatch/outbound-policy.js'
import { PostgresPipeline } from '../../../src/dispatch/postgres-pipeline.js'
import { Waking } from '../../../src/dispatch/waking.js'
import type { Entity } from '../../../src/domain/entity.js'
import { type EntityUrl, parseEntityUrl } from '../../../src/domain/ids.js'
import { defaultLimits, type Limits } from '../../../src/domain/limits.js'
import { type Principal, parsePrincipal } from '../../../src/domain/principals.js'
import { Directory } from '../../../src/entities/directory.js'
import { Discovery } from '../../../src/entities/discovery.js'
import { StreamWriting } from '../../../src/entities/stream-writing.js'
import { EntityTypes } from '../../../src/entities/types.js'
import { discoveredRegistration } from '../../../src/http/entity-types/bodies.js'
import type { Parts } from '../../../src/http/parts.js'
import type { Database } from '../../../src/registry/database.js'
import { insertEntities } from '../../../src/registry/spawning.js'
import { PostgresStreams } from '../../../src/streams/postgres/store.js'
import type { StreamStore } from '../../../src/streams/store.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { shellOnly, type TestServer } from './server.js'

export interface Answer {
  readonly status: number
  readonly body: unknown
  readonly text: string
  readonly headers: Headers
}

export interface RegistryServer {
  readonly url: string
  readonly database: Database
  readonly directory: Directory
  readonly streams: StreamStore
  readonly types: EntityTypes
  send(method: string, path: string, sent?: unknown, as?: string): Promise<Answer>
  register(sent: object, as?: string): Promise<Answer>
  /** Open connections of clients. */
  connections(): Promise<number>
  close(): Promise<void>
}

export function principal(key: string): Principal {
  const parsed = parsePrincipal(key)
  if ('refused' in parsed) throw new Error(parsed.refused)
  return parsed.principal
}

export function url(text: string): EntityUrl {
  const parsed = parseEntityUrl(text)
  if (parsed === null) throw new Error(`no entity URL: ${text}`)
  return parsed
}

/** Puts a row where a spawn would put it. */
export async function givenEntity(
  database: Database,
  path: string,
  more: Partial<Entity> & { readonly reservedBy?: string } = {},
): Promise<void> {
  const entityUrl = url(path)
  const { reservedBy, ...members } = more
  await database.transaction(async (tx) => {
    await insertEntities(tx, [
      {
        url: entityUrl,
        type: path.split('/')[1] ?? '',
        status: 'idle',
        dispatch_policy: null,
        tags: {},
        spawn_args: {},
        sandbox: null,
        parent: null,
        created_by: principal('user:sam').url,
        type_revision: 1,
        inbox_schemas: null,
        state_schemas: null,
        created_at: 1_000,
        updated_at: 1_000,
        reserved_by: null,
        ...members,
        ...(reservedBy === undefined ? {} : { reserved_by: reservedBy as never }),
      },
    ])
  })
}

/** A server whose registry is a real Postgres; what spawns, sends and streams is not part of it. */
export async function registryServer(
  options: {
    readonly limits?: Partial<Limits>
    readonly rewriteLoopbackTo?: string
    readonly authentication?: Parts['authentication']
  } = {},
): Promise<RegistryServer> {
  const fresh: FreshDatabase = await freshDatabase()
  const limits = { ...defaultLimits, ...options.limits }
  const directory = new Directory(fresh.database, limits)
  const outbound = new Outbound({ policy: outboundPolicy({ privateNetworks: 'allow' }), maxCalls: limits.maxOutboundCalls })
  const types = new EntityTypes(fresh.database, {
    limits,
    discovery: new Discovery({ outbound, parse: discoveredRegistration(limits.maxJsonDepth), limits }),
    ...(options.rewriteLoopbackTo === undefined ? {} : { rewriteLoopbackTo: options.rewriteLoopbackTo }),
  })
  await types.ensurePrincipalType()
  const principalEntities: Parts['principalEntities'] = {
    ensure: async (asked) => {
      await givenEntity(fresh.database, asked.url, { created_by: asked.url })
      const entity = await directory.entity(asked.url)
      if (entity === null) throw new Error('the row is missing')
      return { ...entity, inbox_schemas: null, state_schemas: null }
    },
  }
  const streams = new PostgresStreams({ database: fresh.database, limits })
  const waking = new Waking(limits, () => undefined)
  const pipeline = new PostgresPipeline({ database: fresh.database, streams: streams.transactional, waking, limits })
  const server: TestServer = await shellOnly({
    limits,
    database: fresh.database,
    directory,
    entityTypes: types,
    principalEntities,
    streams,
    streamWriting: new StreamWriting({ directory, pipeline, streams, database: fresh.database }),
    publicUrl: (path) => `http://public.example${path}`,
    ...(options.authentication === undefined ? {} : { authentication: options.authentication }),
  })
  const send = async (method: string, path: string, sent?: unknown, as?: string): Promise<Answer> => {
    const headers = new Headers(as === undefined ? [] : [['electric-principal', as]])
    const body = sent === undefined ? null : typeof sent === 'string' ? sent : JSON.stringify(sent)
    const response = await fetch(server.url + path, { method, headers, body })
    const text = await response.text()
    return { status: response.status, text, body: text === '' ? null : parsedOrText(text), headers: response.headers }
  }
  return {
    url: server.url,
    database: fresh.database,
    directory,
    streams,
    types,
    send,
    register: async (sent, as) => await send('POST', '/_electric/entity-types', sent, as),
    connections: async () => await promisify(server.app.server.getConnections.bind(server.app.server))(),
    close: async () => {
      await server.close()
      await outbound.close()
      await streams.close()
      await fresh.drop()
    },
  }
}

function parsedOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
