/**
 * What one append, claim, heartbeat or done costs does not depend on how many entities are linked to a runner, nor on what its wake stream holds
 * (spec/07 §8, cases 10 and 12). Counted by Postgres: rows that a transaction has read and written.
 */
import { Claims } from '../../src/dispatch/claims.js'
import type { PipelineAppend } from '../../src/dispatch/pipeline.js'
import { PostgresPipeline } from '../../src/dispatch/postgres-pipeline.js'
import { Stopping } from '../../src/dispatch/stopping.js'
import { WakeTokens } from '../../src/dispatch/wake-tokens.js'
import { Waking } from '../../src/dispatch/waking.js'
import { type EntityUrl, mainStream, type StreamPath } from '../../src/domain/ids.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { type Database, sql, type Transaction } from '../../src/registry/database.js'
import { recordHeartbeat } from '../../src/registry/runners.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'
import { freshDatabase } from '../support/postgres.js'

interface Touched {
  readonly read: number
  readonly written: number
}

const runnerId = 'r1'
const wakeStream = '/runners/r1/wake' as StreamPath
const policy = { targets: [{ type: 'runner', runnerId }] } as const
const json = 'application/json'
const entry = (...events: readonly object[]) => ({ contentType: json, body: Buffer.from(JSON.stringify(events)) })
const urlOf = (nth: number) => `/chat/e${nth}` as EntityUrl

/** Of this connection, until Postgres forgets it between two transactions. */
async function touchedSoFar(tx: Transaction): Promise<Touched> {
  const { rows } = await tx.query(sql`
    SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::int AS read, sum(n_tup_ins + n_tup_upd + n_tup_del)::int AS written
      FROM pg_stat_xact_user_tables`)
  return { read: Number(rows[0]?.read), written: Number(rows[0]?.written) }
}

/** Transactions through it are counted. */
function counted(database: Database, note: (touched: Touched) => void): Database {
  const transaction: Database['transaction'] = async (body, options) =>
    await database.transaction(async (tx) => {
      const before = await touchedSoFar(tx)
      const result = await body(tx)
      const { read, written } = await touchedSoFar(tx)
      note({ read: read - before.read, written: written - before.written })
      return result
    }, options)
  return { tenant: database.tenant, query: database.query.bind(database), transaction } as unknown as Database // all that is asked of it
}

interface Size {
  readonly entities: number
  readonly oldEvents: number
  /** Whether all other entities wait for the runner as well; Postgres has counted them while they were at rest. */
  readonly isBusy?: boolean
  /** Further streams that the entity's subscription waits for. */
  readonly streams?: number
}

/** What each step of one wake touches, where `entities` are linked to a runner whose wake stream holds `oldEvents`. */
async function costs(size: Size) {
  const fresh = await freshDatabase()
  const streams = new PostgresStreams({ database: fresh.database })
  try {
    return await costsIn(fresh.database, streams, size)
  } finally {
    await streams.close()
    await fresh.drop()
  }
}

async function costsIn(database: Database, streams: PostgresStreams, { entities, oldEvents, isBusy = false, streams: more = 0 }: Size) {
  let last: Touched = { read: 0, written: 0 }
  const counting = counted(database, (touched) => {
    last = touched
  })
  const waking = new Waking(defaultLimits, () => undefined)
  const parts = { database, streams: streams.transactional, waking, limits: defaultLimits }
  const pipeline = new PostgresPipeline(parts)
  const appendIn = async (tx: Transaction, appends: readonly PipelineAppend[]) => {
    const { write } = await pipeline.decideIn(tx, appends)
    tx.last(write)
  }
  const claims = new Claims({
    database: counting,
    tokens: new WakeTokens(Buffer.alloc(32)),
    waking,
    stopping: new Stopping(
      pipeline,
      () => undefined,
      () => undefined,
    ),
    limits: defaultLimits,
    expire: async () => false,
  })
  const runner = { id: runnerId, owner_principal: '/principal/user%3Asam' as never }
  await database.query(
    sql`INSERT INTO runners (id, owner_principal, label, wake_stream) VALUES ('r1', '/principal/user%3Asam', 'L', ${wakeStream})`,
  )
  await database.query(sql`
    INSERT INTO entities (url, type, status, created_at, updated_at)
    SELECT '/chat/e' || n, 'chat', 'idle', 1, 1 FROM generate_series(0, ${entities - 1}::int) AS n`)
  const created = entry({ type: 'entity_created', key: 'entity-created', headers: { operation: 'insert' } })
  const mains = Array.from({ length: entities }, (_, nth) => ({ path: mainStream(urlOf(nth)), ...created, dispatch: policy }))
  await database.transaction(async (tx) => await pipeline.createIn(tx, [...mains, { path: wakeStream, contentType: json }]))
  for (let nth = 0; nth < oldEvents; nth += 1_000)
    await database.transaction(
      async (tx) =>
        await appendIn(
          tx,
          Array.from({ length: 1_000 }, () => ({ path: wakeStream, ...entry({ type: 'wake' }) })),
        ),
    )
  const url = urlOf(entities >> 1)
  const main = mainStream(url)
  const inbox = entry({ type: 'inbox', key: 'm' })
  const others = isBusy ? mains.filter(({ path }) => path !== main).map(({ path }) => ({ path, ...inbox })) : []
  const wakeOthers = async () => await database.transaction(async (tx) => await appendIn(tx, others))
  await wakeOthers()
  await database.query(sql`
    INSERT INTO subscription_links (tenant_id, path, subscription_id, is_explicit, is_glob, acked)
    SELECT 'default', '/more/' || n, id, true, false, '-1' FROM subscriptions, generate_series(1, ${more}::int) AS n WHERE entity_url = ${url}`)
  await database.query(sql`
    UPDATE subscriptions SET wake_id = NULL, wake_path = NULL, wake_entity_url = NULL, started_at = NULL, due_at = NULL`) // all are at rest
  await database.query(sql`ANALYZE`)
  await wakeOthers()

  const step = async (work: (tx: Transaction) => Promise<unknown>): Promise<Touched> => {
    await counting.transaction(work)
    return last
  }
  const message = { to: url, resumes: true, policy }
  const append = await step(async (tx) => await appendIn(tx, [{ path: main, ...inbox, message }]))
  const announcement = await step(async (tx) => await appendIn(tx, [{ path: wakeStream, ...entry({ type: 'wake' }) }]))
  const [{ id } = { id: '' }] = (await database.query(sql`SELECT id FROM subscriptions WHERE entity_url = ${url}`)).rows
  const claimed = await claims.claimNext(String(id), runnerId)
  const claim = last
  if (claimed.outcome !== 'claimed') throw new Error(`${claimed.outcome} instead of claimed`)
  const { wake_id: wakeId, generation } = claimed.wake
  await claims.callback({ wakeId, generation, acks: [] })
  const heartbeat = last
  const runnerHeartbeat = await step(
    async (tx) => await recordHeartbeat(tx, { runner, lease: { forMs: 30_000 }, maxLeaseMs: defaultLimits.maxRunnerLeaseMs }),
  )
  const offset = claimed.links[0]?.tail ?? ''
  await claims.callback({ wakeId, generation, acks: [{ path: main, offset }], ends: 'done' })
  return { append, announcement, claim, heartbeat, runnerHeartbeat, done: last }
}

describe('of a runner', () => {
  let alone: Awaited<ReturnType<typeof costs>>
  beforeAll(async () => {
    alone = await costs({ entities: 1, oldEvents: 0 })
  })

  it.each([
    { what: '1,000 linked entities', entities: 1_000, oldEvents: 0 },
    { what: '1,000 linked entities that all wait', entities: 1_000, oldEvents: 0, isBusy: true },
    { what: '10,000 old events', entities: 1, oldEvents: 10_000 },
  ])('$what make no step of a wake read or write more rows than one and none', async ({ what, ...size }) => {
    const many = await costs(size)

    process.stdout.write(`rows with ${what}: ${JSON.stringify(many)}; alone: ${JSON.stringify(alone)}\n`)
    for (const [step, { read, written }] of Object.entries(many)) {
      const { read: readAlone, written: writtenAlone } = alone[step as keyof typeof alone]
      expect({ step, written, readsMore: Math.max(0, read - readAlone) }).toEqual({ step, written: writtenAlone, readsMore: 0 })
    }
  })

  it('a heartbeat reads no more rows where a wake is about 1,000 streams', async () => {
    const { heartbeat } = await costs({ entities: 1, oldEvents: 0, streams: 1_000 })

    expect(heartbeat).toEqual(alone.heartbeat)
  })
})
