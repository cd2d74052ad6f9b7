import { Deadlines } from '../../src/dispatch/deadlines.js'
import { sql } from '../../src/registry/database.js'
import type { StartedWake } from '../../src/registry/deliveries.js'
import { eventually } from '../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(async () => await fresh.drop())

async function areDue(prefix: string, count: number): Promise<void> {
  await fresh.database.query(sql`
    INSERT INTO subscriptions (tenant_id, id, type, configuration, webhook_url, lease_ttl_ms, wake_id, wake_path, due_at)
    SELECT 'default', ${prefix} || n, 'webhook', '', 'http://hangs.test/', 30000, ${prefix} || n, '/plain/due', now() FROM generate_series(1, ${count}::int) n`)
}

it('what waits at a handler that hangs does not stand before what is due (D4)', async () => {
  const taken: string[] = []
  const deliver = (wakes: readonly StartedWake[]) => taken.push(...wakes.map(({ wakeId }) => wakeId))
  const deadlines = new Deadlines({
    database: fresh.database,
    deliveries: { waiting: 100_000, deliver } as never, // nothing else of them is asked for
    expiry: { expire: async () => true } as never,
    limits: { deadlinesEveryMs: 20, wakeOwnedMs: 20 },
    warn: (failure) => {
      throw failure
    },
  })
  await areDue('waits', 600)
  deadlines.start()
  await eventually(() => taken.length >= 600)

  await areDue('new', 1)
  await eventually(() => taken.includes('new1'))

  await deadlines.stop()
  expect([taken.length, new Set(taken).size]).toEqual([601, 601])
})
