/** Appends and their consequences, in both stream modes: the pipeline's own promises, against real parts. */
import { randomUUID } from 'node:crypto'
import { createServer, request as toServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ForeignPipeline } from '../../src/dispatch/foreign-pipeline.js'
import type { Pipeline } from '../../src/dispatch/pipeline.js'
import { PostgresPipeline } from '../../src/dispatch/postgres-pipeline.js'
import { Waking } from '../../src/dispatch/waking.js'
import { type EntityUrl, mainStream, type OperationId, type StreamPath, zeroOffset } from '../../src/domain/ids.js'
import { defaultLimits } from '../../src/domain/limits.js'
import type { SubscriptionRequest } from '../../src/domain/subscription-request.js'
import { sql } from '../../src/registry/database.js'
import { projectionOf } from '../../src/registry/projections.js'
import { insertSubscription } from '../../src/registry/subscription-editing.js'
import { httpStreamStore } from '../../src/streams/http/store.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'
import type { StreamStore } from '../../src/streams/store.js'
import { eventually } from '../support/eventually.js'
import { startForeignStreams } from '../support/foreign-streams.js'
import { inTheWay, untilWaitedFor } from '../support/in-the-way.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'
import { startProxy, type TcpProxy } from '../support/proxy.js'

interface Parts {
  readonly fresh: FreshDatabase
  readonly streams: StreamStore
  readonly pipeline: Pipeline
  stop(): Promise<void>
}

/** Wakes are rows; nobody delivers them here. */
const unheard = new Waking(defaultLimits, () => undefined)

async function inPostgres(warned: unknown[] = []): Promise<Parts> {
  const fresh = await freshDatabase()
  const streams = new PostgresStreams({ database: fresh.database })
  const pipeline = new PostgresPipeline({
    database: fresh.database,
    streams: streams.transactional,
    waking: unheard,
    limits: defaultLimits,
    warn: (...warning) => warned.push(warning),
  })
  const stop = async () => {
    await streams.close()
    await fresh.drop()
  }
  return { fresh, streams, pipeline, stop }
}

async function elsewhere(): Promise<Parts & { readonly pipeline: ForeignPipeline; readonly url: string }> {
  const fresh = await freshDatabase()
  const foreign = await startForeignStreams()
  const streams = httpStreamStore({ url: foreign.url })
  const pipeline = new ForeignPipeline({ database: fresh.database, streams, waking: unheard, limits: defaultLimits })
  const stop = async () => {
    await streams.close()
    await foreign.stop()
    await fresh.drop()
  }
  return { fresh, streams, pipeline, stop, url: foreign.url }
}

/** The stream server at `url`, behind somebody who refuses what has more than `bytes`. */
async function takingAtMost(bytes: number, url: string) {
  const server = createServer((request, response) => {
    if (Number(request.headers['content-length'] ?? 0) > bytes) {
      request.resume().on('end', () => response.writeHead(413).end())
      return
    }
    const { pathname, port } = new URL(url)
    const options = { port, path: pathname + request.url, method: request.method ?? 'GET', headers: request.headers }
    const passed = toServer(options, (answer) => answer.pipe(response.writeHead(answer.statusCode ?? 500, answer.headers)))
    request.pipe(passed)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const streams = httpStreamStore({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  const stop = async () => {
    await streams.close()
    await new Promise((closed) => server.close(closed))
  }
  return { streams, stop }
}

const json = 'application/json'
const entry = (...events: readonly object[]) => ({ contentType: json, body: Buffer.from(JSON.stringify(events)) })
const manifest = (key: string, value: object | undefined, operation = 'upsert') => ({
  type: 'manifest',
  key,
  value,
  headers: { operation },
})

async function anEntity({ fresh, streams }: Parts): Promise<EntityUrl> {
  const url = `/chat/${randomUUID()}` as EntityUrl
  await fresh.database.query(sql`
    INSERT INTO entities (url, type, status, created_at, updated_at) VALUES (${url}, 'chat', 'idle', 1, 1)`)
  await streams.create(mainStream(url), entry({ type: 'entity_created', key: 'entity-created', headers: { operation: 'insert' } }))
  return url
}

/** The owners of all intents have let them lapse. */
async function lapse({ fresh }: Parts): Promise<void> {
  await fresh.database.query(sql`UPDATE append_intents SET owned_until = now() - interval '1 second'`)
}

async function intentsLeft({ fresh }: Parts): Promise<number> {
  return (await fresh.database.query(sql`SELECT FROM append_intents`)).count
}

async function keysOn({ streams }: Parts, path: StreamPath): Promise<unknown[]> {
  const read = await streams.readEvents(path, zeroOffset, 1_000)
  return 'events' in read ? read.events.map(({ item }) => (item as { key: string }).key) : []
}

describe.each([
  ['with streams in Postgres', async () => await inPostgres()],
  ['with a foreign stream server', elsewhere],
])('the pipeline %s', (_name, start: () => Promise<Parts>) => {
  let parts: Parts
  beforeAll(async () => {
    parts = await start()
  })
  afterAll(async () => await parts.stop())

  it('projects manifest, child-status and watermark rows: the last value wins, delete removes', async () => {
    const url = await anEntity(parts)
    const path = mainStream(url)

    await parts.pipeline.append({
      path,
      ...entry(manifest('child:a', { n: 1 }), manifest('child:b', { n: 1 }), { type: 'run', key: 'run-0', value: {}, headers: {} }),
    })
    await parts.pipeline.append({
      path,
      ...entry(manifest('child:a', { n: 2 }), { type: 'child_status', key: 'x', value: { s: 1 }, headers: { operation: 'insert' } }),
    })
    await parts.pipeline.append({ path, ...entry(manifest('child:b', undefined, 'delete')) })

    const rows = await projectionOf(parts.fresh.database, url)
    expect(rows.map(({ type, key, value }) => [type, key, value])).toEqual([
      ['child_status', 'x', '{"s":1}'],
      ['manifest', 'child:a', '{"n":2}'],
    ])
  })

  it('keeps keys that Postgres text cannot hold', async () => {
    const url = await anEntity(parts)

    await parts.pipeline.append({ path: mainStream(url), ...entry(manifest('nul\0', { a: '\0' }), manifest('lone\ud800', { a: 1 })) })

    expect(await projectionOf(parts.fresh.database, url)).toHaveLength(2)
  })

  it('takes a message while the entity accepts writes, and ends a pause with it', async () => {
    const url = await anEntity(parts)
    await parts.fresh.database.query(sql`UPDATE entities SET status = 'paused' WHERE url = ${url}`)

    const message = { to: url, resumes: true }
    const verdict = await parts.pipeline.append({ path: mainStream(url), ...entry({ type: 'inbox', key: 'm1', headers: {} }), message })

    const { rows } = await parts.fresh.database.query(sql`SELECT status FROM entities WHERE url = ${url}`)
    expect([verdict.outcome, rows[0]?.status]).toEqual(['appended', 'idle'])
  })

  it.each(['stopping', 'stopped', 'killed'])('bars a message to an entity that is %s, and leaves nothing behind', async (status) => {
    const url = await anEntity(parts)
    await parts.fresh.database.query(sql`UPDATE entities SET status = ${status} WHERE url = ${url}`)

    const message = { to: url, resumes: true }
    const verdict = await parts.pipeline.append({ path: mainStream(url), ...entry({ type: 'inbox', key: 'm1', headers: {} }), message })

    expect(verdict).toMatchObject({ outcome: 'barred', error: { refusal: { code: 'NOT_RUNNING' } } })
    expect(await keysOn(parts, mainStream(url))).toEqual(['entity-created'])
    expect(await intentsLeft(parts)).toBe(0)
  })

  it('changes rows and appends together, in the order of the row changes', async () => {
    const url = await anEntity(parts)
    const path = mainStream(url)

    const changes = Array.from({ length: 20 }, async () =>
      parts.pipeline.together(async (tx) => {
        const { rows } = await tx.query(sql`UPDATE entities SET updated_at = updated_at + 1 WHERE url = ${url} RETURNING updated_at`)
        const n = Number(rows[0]?.updated_at)
        return { result: n, appends: [{ path, ...entry({ type: 'tags', key: String(n), headers: { operation: 'insert' } }) }] }
      }),
    )

    expect((await Promise.all(changes)).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 2))
    expect(await keysOn(parts, path)).toEqual(['entity-created', ...Array.from({ length: 20 }, (_, index) => String(index + 2))])
  })

  it('leaves nothing behind when the work fails', async () => {
    const url = await anEntity(parts)

    const failing = parts.pipeline.together(async (tx) => {
      await tx.query(sql`UPDATE entities SET status = 'killed' WHERE url = ${url}`)
      throw new Error('no')
    })

    await expect(failing).rejects.toThrow('no')
    const { rows } = await parts.fresh.database.query(sql`SELECT status FROM entities WHERE url = ${url}`)
    expect(rows[0]?.status).toBe('idle')
  })
})

describe('an append that Postgres cannot take', () => {
  const warned: unknown[] = []
  let parts: Parts
  beforeAll(async () => {
    parts = await inPostgres(warned)
  })
  afterAll(async () => await parts.stop())

  it('fails none of its batch, and the process says why it failed', async () => {
    const paths = ['/plain/alone', '/plain/fine', '/plain/refused'] as StreamPath[]
    for (const path of paths) await parts.streams.create(path, { contentType: json })
    await parts.fresh.database.query(sql`
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not this one''; END'`)
    await parts.fresh.database.query(sql`
      CREATE TRIGGER refuse BEFORE UPDATE ON streams FOR EACH ROW WHEN (OLD.path = '/plain/refused') EXECUTE FUNCTION refuse()`)

    const verdicts = await Promise.all(paths.map(async (path) => await parts.pipeline.append({ path, ...entry({ a: 1 }) }))) // the first goes alone

    expect(verdicts).toMatchObject([
      { outcome: 'appended' },
      { outcome: 'appended' },
      { outcome: 'barred', error: { refusal: { code: 'INTERNAL_SERVER_ERROR' } } },
    ])
    expect(warned).toEqual([[expect.objectContaining({ message: 'not this one' }), 'an append to /plain/refused was not taken']])
  })
})

describe('an append to a stream that somebody else holds', () => {
  let parts: Parts
  beforeAll(async () => {
    parts = await inPostgres()
  })
  afterAll(async () => await parts.stop())

  it('keeps those to other streams waiting for a moment only, and its own kind in their order', async () => {
    const [held, free] = ['/plain/held' as StreamPath, '/plain/free' as StreamPath]
    for (const path of [held, free]) await parts.pipeline.create(path, { contentType: json })
    const append = async (path: StreamPath, key: string) => await parts.pipeline.append({ path, ...entry({ key }) })
    let stuck: Promise<unknown>[] = []

    await inTheWay(parts.fresh.url, async (tx) => {
      await tx.query('SELECT FROM streams WHERE path = $1 FOR UPDATE', [held])
      stuck = [append(held, '1'), append(held, '2')]
      await untilWaitedFor(tx)
      expect(await append(free, 'passes')).toMatchObject({ outcome: 'appended' })
    })

    await Promise.all(stuck)
    expect([await keysOn(parts, held), await keysOn(parts, free)]).toEqual([['1', '2'], ['passes']])
  })
})

describe('what a dead process left on a foreign stream server', () => {
  let parts: Awaited<ReturnType<typeof elsewhere>>
  beforeAll(async () => {
    parts = await elsewhere()
  })
  afterAll(async () => await parts.stop())

  it('is landed by the sweep with its consequences, once', async () => {
    const url = await anEntity(parts)
    const path = mainStream(url)
    const id = `dead-${randomUUID()}` as OperationId
    await parts.fresh.database.transaction((tx) => parts.pipeline.intendIn(tx, id, [{ path, ...entry(manifest('child:a', { n: 1 })) }]))
    await lapse(parts)

    const landed = [await parts.pipeline.sweep(), await parts.pipeline.sweep()]

    expect(landed).toEqual([1, 0])
    expect(await keysOn(parts, path)).toEqual(['entity-created', 'child:a'])
    expect(await projectionOf(parts.fresh.database, url)).toHaveLength(1)
  })

  it('draws consequences of an append that had landed before its process died', async () => {
    const url = await anEntity(parts)
    const path = mainStream(url)
    const id = `dead-${randomUUID()}` as OperationId
    const append = { path, ...entry(manifest('child:a', { n: 1 })) }
    await parts.fresh.database.transaction((tx) => parts.pipeline.intendIn(tx, id, [append]))
    await parts.streams.append(path, { ...append, producer: { id: `${id}/000000`, epoch: 0, seq: 0 } })
    await lapse(parts)

    await parts.pipeline.sweep()

    expect(await keysOn(parts, path)).toEqual(['entity-created', 'child:a'])
    expect(await projectionOf(parts.fresh.database, url)).toHaveLength(1)
  })

  it('is there once although the stream server has forgotten who wrote it, and others have written since (spec/14 §5 D13)', async () => {
    const url = await anEntity(parts)
    const path = mainStream(url)
    const append = { path, ...entry(manifest('child:a', { n: 1 })) }
    await parts.fresh.database.transaction((tx) => parts.pipeline.intendIn(tx, `dead-${randomUUID()}` as OperationId, [append]))
    await parts.streams.append(path, append)
    await parts.pipeline.append({ path, ...entry(manifest('child:b', { n: 2 })) })
    await lapse(parts)

    await parts.pipeline.sweep()

    expect(await keysOn(parts, path)).toEqual(['entity-created', 'child:a', 'child:b'])
    expect(await intentsLeft(parts)).toBe(0)
  })

  it('on one stream does not wait for another one that cannot be written', async () => {
    const [stuck, other] = [mainStream(await anEntity(parts)), mainStream(await anEntity(parts))]
    const appends = [stuck, other].map((path) => ({ path, ...entry(manifest('child:a', { n: 1 })) }))
    await parts.fresh.database.transaction((tx) => parts.pipeline.intendIn(tx, `dead-${randomUUID()}` as OperationId, appends))
    await lapse(parts)
    const failing: StreamStore = {
      ...parts.streams,
      append: async (path, request) => {
        if (path === stuck) throw new Error('refuses')
        return await parts.streams.append(path, request)
      },
    }

    await expect(
      new ForeignPipeline({ database: parts.fresh.database, streams: failing, waking: unheard, limits: defaultLimits }).sweep(),
    ).rejects.toThrow('refuses')

    expect(await keysOn(parts, other)).toEqual(['entity-created', 'child:a'])
    expect(await intentsLeft(parts)).toBe(1)
    await lapse(parts)
    await parts.pipeline.sweep()
    expect(await keysOn(parts, stuck)).toEqual(['entity-created', 'child:a'])
  })

  it('is given up where the stream server does not take so large an entry', async () => {
    const path = mainStream(await anEntity(parts))
    const small = await takingAtMost(1_000, parts.url)
    const large = { path, ...entry(manifest('child:a', { filler: 'x'.repeat(1_000) })) }
    await parts.fresh.database.transaction((tx) => parts.pipeline.intendIn(tx, `dead-${randomUUID()}` as OperationId, [large]))
    await lapse(parts)

    const swept = await new ForeignPipeline({
      database: parts.fresh.database,
      streams: small.streams,
      waking: unheard,
      limits: defaultLimits,
    }).sweep()

    expect([swept, await intentsLeft(parts)]).toEqual([1, 0])
    expect(await keysOn(parts, path)).toEqual(['entity-created'])
    await small.stop()
  })

  it('is kept where the stream of an entity that stands is not found for a while (F5), and given up with the entity', async () => {
    const [url, removed] = [await anEntity(parts), await anEntity(parts)]
    const appends = [url, removed].map((one) => ({ path: mainStream(one), ...entry(manifest('child:a', { n: 1 })) }))
    await parts.fresh.database.transaction((tx) => parts.pipeline.intendIn(tx, `dead-${randomUUID()}` as OperationId, appends))
    await parts.fresh.database.query(sql`DELETE FROM entities WHERE url = ${removed}`)
    await lapse(parts)
    const notFound: StreamStore = {
      ...parts.streams,
      append: async () => ({ outcome: 'refused', status: 404, because: 'missing', reason: 'default backend', headers: {} }),
    }

    expect(
      await new ForeignPipeline({ database: parts.fresh.database, streams: notFound, waking: unheard, limits: defaultLimits }).sweep(),
    ).toBe(2)
    expect(await intentsLeft(parts)).toBe(1)
    await lapse(parts)
    await parts.pipeline.sweep()

    expect(await keysOn(parts, mainStream(url))).toEqual(['entity-created', 'child:a'])
    expect(await intentsLeft(parts)).toBe(0)
  })

  it('has its consequences drawn though its stream was not found for a while when it had landed', async () => {
    const url = await anEntity(parts)
    const blind: StreamStore = {
      ...parts.streams,
      readEvents: async () => ({ outcome: 'refused', status: 404, because: 'missing', reason: 'default backend', headers: {} }),
    }
    const append = { path: mainStream(url), ...entry(manifest('child:a', { n: 1 })) }
    await new ForeignPipeline({ database: parts.fresh.database, streams: blind, waking: unheard, limits: defaultLimits }).append(append)
    expect([await intentsLeft(parts), await projectionOf(parts.fresh.database, url)]).toEqual([1, []])

    await lapse(parts)
    await parts.pipeline.sweep()

    expect(await keysOn(parts, mainStream(url))).toEqual(['entity-created', 'child:a'])
    expect([await intentsLeft(parts), (await projectionOf(parts.fresh.database, url)).length]).toEqual([0, 1])
  })

  it('is left to a living owner', async () => {
    const url = await anEntity(parts)
    const id = `alive-${randomUUID()}` as OperationId
    await parts.fresh.database.transaction((tx) =>
      parts.pipeline.intendIn(tx, id, [{ path: mainStream(url), ...entry(manifest('child:a', { n: 1 })) }]),
    )

    const swept = await parts.pipeline.sweep()
    await parts.pipeline.landOperation(id)

    expect(swept).toBe(0)
    expect(await keysOn(parts, mainStream(url))).toEqual(['entity-created', 'child:a'])
  })
})

describe('a handler that is fenced while its append is on its way to a foreign stream server', () => {
  let parts: Parts & { readonly pipeline: ForeignPipeline }
  beforeAll(async () => {
    parts = await elsewhere()
  })
  afterAll(async () => await parts.stop())

  const runEvent = (status: string) => ({ type: 'run', key: 'run-1', value: { status }, headers: { operation: 'insert' } })
  const tokenHash = Buffer.alloc(32, 1)

  /** The first append through this store is under way until `release` is called. */
  function slow(streams: StreamStore) {
    let release: () => void = () => undefined
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    let begin: () => void = () => undefined
    const begun = new Promise<void>((resolve) => {
      begin = resolve
    })
    const append: StreamStore['append'] = async (path, request) => {
      begin()
      await released
      return await streams.append(path, request)
    }
    const store: StreamStore = new Proxy(streams, {
      get: (target, name) => (name === 'append' ? append : Reflect.get(target, name)),
    })
    return { store, begun, release: () => release() }
  }

  async function claimedEntity(): Promise<EntityUrl> {
    const url = await anEntity(parts)
    await parts.fresh.database.query(
      sql`INSERT INTO write_tokens (tenant_id, path, token_hash, wake_id) VALUES ('default', ${mainStream(url)}, ${tokenHash}, 'w')`,
    )
    return url
  }

  const fence = async (url: EntityUrl) => await parts.fresh.database.query(sql`DELETE FROM write_tokens WHERE path = ${mainStream(url)}`)

  /** The statuses of its runs as its stream tells them, and which of them are open in the registry. */
  async function runsOf(url: EntityUrl) {
    const read = await parts.streams.readEvents(mainStream(url), zeroOffset, 100)
    const items = 'events' in read ? read.events.map(({ item }) => item as ReturnType<typeof runEvent>) : []
    const open = (await projectionOf(parts.fresh.database, url)).filter(({ type }) => (type as string) === 'run')
    return { told: items.filter(({ type }) => type === 'run').map(({ value }) => value.status), open: open.length }
  }

  it.each([
    {
      what: 'has the run that it began closed, once, for nobody else can end it',
      status: 'started',
      isFenced: true,
      left: { told: ['started', 'failed'], open: 0 },
    },
    { what: 'has nothing closed that it ended itself', status: 'completed', isFenced: true, left: { told: ['completed'], open: 0 } },
    { what: 'or is not, keeps its run', status: 'started', isFenced: false, left: { told: ['started'], open: 1 } },
  ])('$what', async ({ status, isFenced, left }) => {
    const url = await claimedEntity()
    const { store, begun, release } = slow(parts.streams)
    const pipeline = new ForeignPipeline({ database: parts.fresh.database, streams: store, waking: unheard, limits: defaultLimits })

    const appending = pipeline.append({ path: mainStream(url), ...entry(runEvent(status)), writer: { to: url, tokenHash } })
    await begun
    if (isFenced) await fence(url)
    release()

    expect((await appending).outcome).toBe('appended')
    expect(await runsOf(url)).toEqual(left)
    expect(await intentsLeft(parts)).toBe(0)
  })

  it('by somebody who looked for open runs before it landed, and commits after, has its run closed', async () => {
    const url = await claimedEntity()
    const appending: Promise<unknown>[] = []

    await inTheWay(parts.fresh.url, async (tx) => {
      await tx.query('SELECT FROM entities WHERE url = $1 FOR NO KEY UPDATE', [url])
      await tx.query('DELETE FROM write_tokens WHERE path = $1', [mainStream(url)])
      appending.push(parts.pipeline.append({ path: mainStream(url), ...entry(runEvent('started')), writer: { to: url, tokenHash } }))
      await untilWaitedFor(tx)
    })
    await Promise.all(appending)

    expect(await runsOf(url)).toEqual({ told: ['started', 'failed'], open: 0 })
  })

  describe('by a process that dies when it has landed', () => {
    /** What it appends lands, and it hears of nothing any more. */
    const dying = (streams: StreamStore): StreamStore =>
      new Proxy(streams, {
        get: (target, name) =>
          name === 'append'
            ? async (...append: Parameters<StreamStore['append']>) => {
                await streams.append(...append)
                throw new Error('dead')
              }
            : Reflect.get(target, name),
      })

    async function deadAppendTo(url: EntityUrl): Promise<void> {
      const pipeline = new ForeignPipeline({
        database: parts.fresh.database,
        streams: dying(parts.streams),
        waking: unheard,
        limits: defaultLimits,
      })
      const append = { path: mainStream(url), ...entry(runEvent('started')), writer: { to: url, tokenHash } }
      await expect(pipeline.append(append)).rejects.toThrow('dead')
    }

    const sweptByTwo = async () => {
      await lapse(parts)
      const other = new ForeignPipeline({ database: parts.fresh.database, streams: parts.streams, waking: unheard, limits: defaultLimits })
      await Promise.all([parts.pipeline.sweep(), other.sweep()])
      await parts.pipeline.sweep()
    }

    it.each([
      { what: 'and nobody has heard of it', isDrawn: false },
      { what: 'and its consequences are drawn', isDrawn: true },
    ])('$what, has the run closed by the sweep, once', async ({ isDrawn }) => {
      const url = await claimedEntity()
      await deadAppendTo(url)
      await fence(url)
      if (isDrawn) await parts.pipeline.catchUp([mainStream(url)])

      await sweptByTwo()

      expect(await runsOf(url)).toEqual({ told: ['started', 'failed'], open: 0 })
      expect(await intentsLeft(parts)).toBe(0)
    })

    it('and that lives on in another process, keeps its run', async () => {
      const url = await claimedEntity()
      await deadAppendTo(url)

      await sweptByTwo()

      expect(await runsOf(url)).toEqual({ told: ['started'], open: 1 })
    })

    it('after whoever ended its claim had written down that the run is closed, has it closed once', async () => {
      const url = await claimedEntity()
      await deadAppendTo(url)
      await parts.pipeline.catchUp([mainStream(url)])
      await fence(url)
      const closing = { path: mainStream(url), ...entry(runEvent('failed')) }
      await parts.fresh.database.transaction((tx) => parts.pipeline.intendIn(tx, `expiry-${randomUUID()}` as OperationId, [closing]))

      await sweptByTwo()

      expect(await runsOf(url)).toEqual({ told: ['started', 'failed'], open: 0 })
    })
  })
})

describe('a foreign stream that is made anew while it is deleted', () => {
  let parts: Awaited<ReturnType<typeof elsewhere>>
  beforeAll(async () => {
    parts = await elsewhere()
    const request = { id: 'all', mount: '', type: 'pull-wake', pattern: 'renewed/*', streams: [], wakeStream: '/wakes/all' as StreamPath }
    await parts.fresh.database.transaction(
      async (tx) =>
        await insertSubscription(tx, {
          request: { ...request, webhookUrl: null, leaseTtlMs: 30_000, description: null } as SubscriptionRequest,
          configuration: '',
          webhookUrl: null,
          createdBy: null,
        }),
    )
  })
  afterAll(async () => await parts.stop())

  const linked = async (path: StreamPath) =>
    (
      await parts.fresh.database.query(sql`
        SELECT l.acked, s.wake_path FROM subscription_links l JOIN subscriptions s ON s.id = l.subscription_id WHERE l.path = ${path}`)
    ).rows
  const pipelineOver = (streams: Partial<StreamStore>) =>
    new ForeignPipeline({
      database: parts.fresh.database,
      streams: Object.assign(Object.create(parts.streams), streams),
      waking: unheard,
      limits: defaultLimits,
    })
  const atRest = async () => await parts.fresh.database.query(sql`UPDATE subscriptions SET wake_id = NULL, wake_path = NULL`)

  it('before its links are dropped, is linked, and wakes with its first entry', async () => {
    const path = '/renewed/before' as StreamPath
    await parts.pipeline.create(path, { contentType: json })
    const slow = pipelineOver({
      delete: async (deleted) => {
        const verdict = await parts.streams.delete(deleted)
        await parts.pipeline.create(deleted, entry({ first: true }))
        await atRest()
        return verdict
      },
    })

    expect(await slow.delete(path)).toEqual({ outcome: 'deleted' })

    expect(await linked(path)).toEqual([{ acked: '-1', wake_path: path }])
  })

  it('after it has expired, is linked as what it is, and wakes with its first entry', async () => {
    const path = '/renewed/expired' as StreamPath
    await parts.pipeline.create(path, { contentType: json, ttlS: 1 })
    for (const n of [1, 2, 3]) await parts.pipeline.append({ path, ...entry({ n }) })
    const found = await parts.streams.head(path)
    const tail = found.outcome === 'found' ? found.head.tail : zeroOffset
    await parts.fresh.database.query(sql`UPDATE subscription_links SET acked = ${tail} WHERE path = ${path}`)
    await atRest()
    await eventually(async () => (await parts.streams.head(path)).outcome === 'refused')

    await parts.pipeline.create(path, { contentType: json, ttlS: 60 })
    const woken = await linked(path)
    await parts.pipeline.append({ path, ...entry({ n: 1 }) })

    expect([woken, await linked(path)]).toEqual([[{ acked: '-1', wake_path: null }], [{ acked: '-1', wake_path: path }]])
  })

  it('between its own links and itself, is linked, and wakes with its first entry', async () => {
    const path = '/renewed/between' as StreamPath
    await parts.pipeline.create(path, { contentType: json })
    await atRest()
    const slow = pipelineOver({
      create: async (created, request) => {
        await parts.pipeline.delete(created)
        return await parts.streams.create(created, request)
      },
    })

    expect(await slow.create(path, entry({ first: true }))).toMatchObject({ outcome: 'created' })

    expect(await linked(path)).toEqual([{ acked: '-1', wake_path: path }])
  })
})

describe('a message that a foreign stream server did not answer', () => {
  let parts: Awaited<ReturnType<typeof elsewhere>>
  let proxy: TcpProxy
  let streams: StreamStore
  beforeAll(async () => {
    parts = await elsewhere()
    proxy = await startProxy(Number(new URL(parts.url).port))
    const url = Object.assign(new URL(parts.url), { port: String(proxy.port) }).href
    streams = httpStreamStore({ url, knownConforming: true, attemptTimeoutMs: 500, deadlineMs: 1_000, holdMs: 0, minAttempts: 1 })
  })
  afterAll(async () => {
    await streams.close()
    await proxy.stop()
    await parts.stop()
  })

  const send = async (url: EntityUrl, over: StreamStore) => {
    const pipeline = new ForeignPipeline({ database: parts.fresh.database, streams: over, waking: unheard, limits: defaultLimits })
    const body = entry({ type: 'inbox', key: 'm1', headers: { operation: 'insert' } })
    return await pipeline.append({ path: mainStream(url), ...body, message: { to: url, resumes: true } })
  }
  const unavailable = { refusal: { code: 'STREAM_SERVICE_UNAVAILABLE' } }

  it('and that cannot have reached it is refused for good (F6)', async () => {
    const url = await anEntity(parts)
    const nowhere = httpStreamStore({ url: 'http://127.0.0.1:9/v1/stream', knownConforming: true, holdMs: 0, minAttempts: 2 })

    await expect(send(url, nowhere)).rejects.toMatchObject(unavailable)

    expect(await intentsLeft(parts)).toBe(0)
    await nowhere.close()
  })

  it('and that may have reached it lands with the sweep, once', async () => {
    const url = await anEntity(parts)
    proxy.cutAnswers()

    await expect(send(url, streams)).rejects.toMatchObject(unavailable)

    expect(await intentsLeft(parts)).toBe(1)
    await lapse(parts)
    expect([await parts.pipeline.sweep(), await keysOn(parts, mainStream(url)), await intentsLeft(parts)]).toEqual([
      1,
      ['entity-created', 'm1'],
      0,
    ])
  })
})

describe('a foreign stream server that answers with older data', () => {
  let parts: Awaited<ReturnType<typeof elsewhere>>
  beforeAll(async () => {
    parts = await elsewhere()
    await parts.fresh.database.query(sql`
      INSERT INTO subscriptions (tenant_id, id, type, mount, configuration, wake_stream, lease_ttl_ms)
      VALUES ('default', 'reader', 'pull-wake', '', '', '/wakes/reader', 30000)`)
  })
  afterAll(async () => await parts.stop())

  const tailOf = async (path: StreamPath) => {
    const found = await parts.streams.head(path)
    return found.outcome === 'found' ? found.head.tail : zeroOffset
  }
  /** Its subscriber is at rest, and has read all. */
  const read = async (path: StreamPath) => {
    const { database } = parts.fresh
    await database.query(sql`UPDATE subscriptions SET wake_id = NULL, wake_path = NULL`)
    await database.query(sql`DELETE FROM subscription_links`)
    await database.query(sql`
      INSERT INTO subscription_links (tenant_id, path, subscription_id, is_explicit, is_glob, acked)
      VALUES ('default', ${path}, 'reader', true, false, ${await tailOf(path)})`)
  }
  const seen = async (path: StreamPath) =>
    (
      await parts.fresh.database.query(sql`
        SELECT l.acked, s.wake_path FROM subscription_links l JOIN subscriptions s ON s.id = l.subscription_id WHERE l.path = ${path}`)
    ).rows[0]
  /** As out of a backup, without our knowing. */
  const restore = async (path: StreamPath) => {
    await parts.streams.delete(path)
    await parts.streams.create(path, entry({ type: 'entity_created', key: 'entity-created', headers: { operation: 'insert' } }))
    return await tailOf(path)
  }

  it('wakes for what is appended behind it, and for nothing else', async () => {
    const path = mainStream(await anEntity(parts))
    for (const n of [1, 2, 3, 4]) await parts.pipeline.append({ path, ...entry(manifest('old', { n })) })
    await read(path)

    const restored = await restore(path)
    await Promise.all(['one', 'other'].map((key) => parts.pipeline.append({ path, ...entry(manifest(key, { n: 5 })) })))

    expect(await seen(path)).toEqual({ acked: restored, wake_path: path })
    expect([await intentsLeft(parts), (await keysOn(parts, path)).toSorted()]).toEqual([0, ['entity-created', 'one', 'other']])
  })

  it('wakes who reads a plain stream', async () => {
    const path = '/plain/older' as StreamPath
    await parts.streams.create(path, entry({ n: 0 }))
    await read(path)
    for (const n of [1, 2, 3, 4]) await parts.pipeline.append({ path, ...entry({ n, long: '.'.repeat(100) }) })
    await read(path)

    await restore(path)
    await parts.pipeline.append({ path, ...entry({ n: 5 }) })

    expect(await seen(path)).toEqual({ acked: zeroOffset, wake_path: path })
  })

  it('only for a moment, loses no wake (C3)', async () => {
    const path = mainStream(await anEntity(parts))
    await parts.pipeline.append({ path, ...entry(manifest('first', { n: 1 })) })
    await read(path)
    const before = await tailOf(path)
    const readEvents: StreamStore['readEvents'] = async () => ({ events: [], next: before, upToDate: true, closed: false })
    const lagging = Object.assign(Object.create(parts.streams), { readEvents }) as StreamStore
    const pipeline = new ForeignPipeline({ database: parts.fresh.database, streams: lagging, waking: unheard, limits: defaultLimits })

    expect(await pipeline.append({ path, ...entry(manifest('second', { n: 2 })) })).toMatchObject({ outcome: 'appended' })
    const meanwhile = [await intentsLeft(parts), await seen(path)]
    await lapse(parts)
    await parts.pipeline.sweep()

    expect([meanwhile, await intentsLeft(parts), await seen(path)]).toEqual([
      [1, { acked: before, wake_path: null }],
      0,
      { acked: before, wake_path: path },
    ])
  })
})
