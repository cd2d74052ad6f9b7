/** A wake whose runner is away, and a runner that comes back: whoever is slower does not undo what the other has said (announcements.ts N2). */
import { randomUUID } from 'node:crypto'
import { sql } from '../../src/registry/database.js'
import { announceAgain, beginDeliveries, setAnnounced, setWaiting, undeliveredWake } from '../../src/registry/deliveries.js'
import { presenceOf } from '../../src/registry/runners.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

describe('an outstanding wake', () => {
  let fresh: FreshDatabase
  beforeAll(async () => {
    fresh = await freshDatabase()
  })
  afterAll(async () => await fresh.drop())

  /** One whose announcement is under way: begun `attempts` times, looked after by nobody else for a minute. */
  async function underWay(attempts = 1): Promise<string> {
    const wakeId = `w_${randomUUID()}`
    await fresh.database.query(sql`
      INSERT INTO subscriptions (tenant_id, id, type, configuration, wake_stream, lease_ttl_ms, entity_url, runner_id, generation, wake_id, wake_path,
                                 wake_entity_url, attempts, started_at, due_at)
      VALUES ('default', ${`runner:r1:${wakeId}`}, 'pull-wake', 'own', '/runners/r1/wake', 30000, ${`/chat/${wakeId}`}, 'r1', 1, ${wakeId},
              ${`/chat/${wakeId}/main`}, ${`/chat/${wakeId}`}, ${attempts}, now(), clock_timestamp() + interval '1 minute')`)
    return wakeId
  }
  const isDue = async (wakeId: string) => {
    const { rows } = await fresh.database.query(
      sql`SELECT due_at <= clock_timestamp() AS is_due FROM subscriptions WHERE wake_id = ${wakeId}`,
    )
    return rows[0]?.is_due
  }

  it.each([
    ['was put off, for its runner was away', async (wakeId: string) => await setWaiting(fresh.database, wakeId, 600_000, null)],
    [
      'stands before the offset at which its runner begins to read',
      async (wakeId: string) => await setAnnounced(fresh.database, wakeId, '1', 600_000),
    ],
  ])('that %s is announced at once all the same when the runner came back meanwhile', async (_, settle) => {
    const wakeId = await underWay(2)
    await announceAgain(fresh.database, 'r1')

    await settle(wakeId)

    expect(await isDue(wakeId)).toBe(true)
  })

  it.each([
    ['put off', async (wakeId: string) => await setWaiting(fresh.database, wakeId, 600_000, null)],
    ['announced', async (wakeId: string) => await setAnnounced(fresh.database, wakeId, '1', 600_000)],
  ])('that was %s is due when its runner comes back afterwards', async (_, settle) => {
    const wakeId = await underWay(2)
    await settle(wakeId)
    expect(await isDue(wakeId)).toBe(false)

    await announceAgain(fresh.database, 'r1')

    expect(await isDue(wakeId)).toBe(true)
  })

  it('is announced as if for the first time when its runner comes back, and still by one process', async () => {
    const wakeId = await underWay(40)
    await announceAgain(fresh.database, 'r1')
    const due = await undeliveredWake(fresh.database, wakeId)
    expect(due?.attempts).toBe(0)

    const begun = await Promise.all(
      Array.from(
        { length: 4 },
        async () => await fresh.database.transaction(async (tx) => await beginDeliveries(tx, due ? [due] : [], 60_000)),
      ),
    )

    expect(begun.filter((mine) => mine.has(wakeId))).toHaveLength(1)
    expect(await isDue(wakeId)).toBe(false)
  })

  it('that is claimed is not announced when its runner comes back', async () => {
    const wakeId = await underWay()
    await fresh.database.query(
      sql`UPDATE subscriptions SET lease_until = now() + interval '1 minute', due_at = NULL WHERE wake_id = ${wakeId}`,
    )

    await announceAgain(fresh.database, 'r1')
    await setAnnounced(fresh.database, wakeId, '1', 600_000)

    expect((await fresh.database.query(sql`SELECT due_at FROM subscriptions WHERE wake_id = ${wakeId}`)).rows).toEqual([{ due_at: null }])
  })
})

describe('a runner', () => {
  let fresh: FreshDatabase
  beforeAll(async () => {
    fresh = await freshDatabase()
  })
  afterAll(async () => await fresh.drop())

  it('is missing, away or online, by the clock of the database', async () => {
    const presence = async () => await presenceOf(fresh.database, 'r1')
    expect(await presence()).toBe('missing')

    await fresh.database.query(
      sql`INSERT INTO runners (id, owner_principal, label, wake_stream) VALUES ('r1', '/principal/user%3Asam', 'L', '/runners/r1/wake')`,
    )
    expect(await presence()).toBe('away')

    await fresh.database.query(sql`
      INSERT INTO runner_runtime_diagnostics (runner_id, owner_principal, last_seen_at, liveness_lease_expires_at, updated_at)
      VALUES ('r1', '/principal/user%3Asam', now(), now() + interval '1 minute', now())`)
    expect(await presence()).toBe('online')

    await fresh.database.query(sql`UPDATE runners SET admin_status = 'disabled'`)
    expect(await presence()).toBe('away')

    await fresh.database.query(sql`UPDATE runners SET admin_status = 'enabled'`)
    await fresh.database.query(sql`UPDATE runner_runtime_diagnostics SET liveness_lease_expires_at = now()`)
    expect(await presence()).toBe('away')
  })
})
