/** Attempts that end after their operation was given up, as where an activity misses its deadline while its transaction waits. */
import { pino } from 'pino'
import { loadConfiguration } from '../../src/config.js'
import type { EntityUrl, OperationId } from '../../src/domain/ids.js'
import { buildEngine, type Engine } from '../../src/engine.js'
import { sql } from '../../src/registry/database.js'
import { eventually } from '../support/eventually.js'
import { type ForeignStreams, startForeignStreams } from '../support/foreign-streams.js'
import { inTheWay, untilWaitedFor } from '../support/in-the-way.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

const principal = 'system:dev-local'
const source = '/chat/source' as EntityUrl

let fresh: FreshDatabase
let engine: Engine
beforeAll(async () => {
  fresh = await freshDatabase()
  engine = await engineOf(fresh)
  await engine.activities.createEntities({ operationId: 'first' as OperationId, items: [{ url: source, principal }] })
})
afterAll(async () => {
  await engine.close()
  await fresh.drop()
})

async function engineOf({ url, database }: FreshDatabase, environment: Readonly<Record<string, string>> = {}): Promise<Engine> {
  const built = await buildEngine(loadConfiguration({ DATABASE_URL: url, ...environment }), pino({ level: 'silent' }))
  await database.query(sql`
    INSERT INTO entity_types (name, description, created_at, updated_at) VALUES ('chat', 'chat', '2026-01-01', '2026-01-01')`)
  return built
}

const forkTo = (id: string, run?: string) => ({
  operationId: id as OperationId,
  ...(run === undefined ? {} : { run, waiter: { workflowId: id, isLast: false } }),
  items: [{ source, url: `/chat/${id}` as EntityUrl, instanceId: id, principal }],
})

const held = 'SELECT FROM entities FOR UPDATE'

async function traces(id: string, { database } = fresh) {
  const { rows } = await database.query(sql`
    SELECT (SELECT count(*)::int FROM entities WHERE url = ${`/chat/${id}`}) AS entities, (SELECT count(*)::int FROM streams WHERE path = ${`/chat/${id}/main`}) AS streams,
           (SELECT count(*)::int FROM lineage WHERE descendant_url = ${`/chat/${id}`}) AS lineage, (SELECT count(*)::int FROM operations WHERE id = ${id}) AS outcomes`)
  return rows[0]
}
const nothing = { entities: 0, streams: 0, lineage: 0, outcomes: 0 }

describe('a fork that is given up while its transaction waits', () => {
  it.each([
    ['by the workflow whose attempt it is', 'waited', 'run-1'],
    ['and whose request made the attempt', 'hasty', undefined],
  ])('leaves nothing, and another run finds its URL free: %s', async (_, id, run) => {
    const { activities } = engine
    const operationId = id as OperationId
    let late: Promise<unknown> = Promise.resolve()

    await inTheWay(fresh.url, async (tx) => {
      await tx.query(held)
      late = activities.forkEntities(forkTo(id, run))
      late.catch(() => undefined)
      await untilWaitedFor(tx)
      await activities.dropForks({ operationId, run: 'run-1' })
    })

    await expect(late).rejects.toThrow('was given up')
    expect(await traces(id)).toEqual(nothing)
    expect(await activities.findVerdicts({ operationId })).toBeNull()
    expect(await activities.forkEntities(forkTo(id, 'run-2'))).toMatchObject({ state: 'done', verdicts: [{ outcome: 'forked' }] })
  })

  it('is answered as it was done, where it was done before', async () => {
    const { activities } = engine
    const operationId = 'done' as OperationId
    const begun = await activities.forkEntities(forkTo('done', 'run-1'))

    await activities.dropForks({ operationId, run: 'run-1' })

    expect(begun).toMatchObject({ state: 'done', verdicts: [{ outcome: 'forked', url: '/chat/done' }] })
    expect(await activities.findVerdicts({ operationId })).toMatchObject([{ outcome: 'forked', url: '/chat/done' }])
  })
})

describe('with a foreign stream server', () => {
  let foreign: ForeignStreams
  let elsewhere: FreshDatabase
  let reserving: Engine
  beforeAll(async () => {
    elsewhere = await freshDatabase()
    foreign = await startForeignStreams()
    reserving = await engineOf(elsewhere, { DURABLE_STREAMS_URL: foreign.url })
    const { activities } = reserving
    const operationId = 'first' as OperationId
    expect(await activities.createEntities({ operationId, items: [{ url: source, principal }] })).toEqual({ state: 'elsewhere' })
    await activities.activateEntities(await activities.createStreams({ operationId }))
  })
  afterAll(async () => {
    await reserving.close()
    await foreign.stop()
    await elsewhere.drop()
  })

  it('a fork that is given up while its transaction waits reserves nothing', async () => {
    const { activities } = reserving
    let late: Promise<unknown> = Promise.resolve()

    await inTheWay(elsewhere.url, async (tx) => {
      await tx.query(held)
      late = activities.forkEntities(forkTo('reserved', 'run-1'))
      late.catch(() => undefined)
      await untilWaitedFor(tx)
      await activities.dropForks({ operationId: 'reserved' as OperationId, run: 'run-1' })
    })

    await expect(late).rejects.toThrow('was given up')
    expect(await traces('reserved', elsewhere)).toEqual(nothing)
    expect(await activities.forkEntities(forkTo('reserved', 'run-2'))).toEqual({ state: 'elsewhere' })
  })
})

const waitingForTurn = sql`
  SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted`

describe('a spawn that is given up', () => {
  const spawnOf = (id: string, run?: string) => ({
    operationId: id as OperationId,
    ...(run === undefined ? {} : { run }),
    items: [{ url: `/chat/${id}` as EntityUrl, principal }],
  })

  it('while its transaction waits: it is waited for, and answered', async () => {
    const { activities } = engine
    const operationId = 'slow' as OperationId
    const settled: string[] = []
    let both: readonly Promise<unknown>[] = []

    await inTheWay(fresh.url, async (tx) => {
      await tx.query('LOCK TABLE lineage IN SHARE MODE')
      const late = activities.createEntities(spawnOf('slow', 'run-1'))
      await untilWaitedFor(tx)
      const undone = activities.dropReservations({ operationId, run: 'run-1' }).then(() => settled.push('given up'))
      both = [late, undone]
      await eventually(async () => (await fresh.database.query(waitingForTurn)).rows.length > 0)
      expect(settled).toEqual([])
    })
    await Promise.all(both)

    expect(await activities.findVerdicts({ operationId })).toMatchObject([{ outcome: 'spawned', url: '/chat/slow' }])
  })

  it('before its attempt: nothing of it comes, and another run spawns it', async () => {
    const { activities } = engine
    await activities.dropReservations({ operationId: 'never' as OperationId, run: 'run-1' })

    await expect(activities.createEntities(spawnOf('never', 'run-1'))).rejects.toThrow('was given up')
    expect(await traces('never')).toEqual(nothing)
    expect(await activities.createEntities(spawnOf('never', 'run-2'))).toMatchObject({ state: 'done', verdicts: [{ outcome: 'spawned' }] })
  })
})
