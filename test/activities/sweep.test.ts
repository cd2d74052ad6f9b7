/** What a sweep cannot do keeps nothing else from being swept, and is said. */
import type { Parts } from '../../src/activities/parts.js'
import { sweepActivities } from '../../src/activities/sweep.js'
import type { EntityUrl, StreamPath } from '../../src/domain/ids.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { sql } from '../../src/registry/database.js'
import { putPayloads } from '../../src/registry/operations.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
beforeEach(async () => {
  fresh = await freshDatabase()
})
afterEach(async () => await fresh.drop())

const unless = (name: string) => {
  if (name.includes('bad')) throw new Error(`${name} is not to be had`)
}

/** Two of each kind, of which the older one cannot be swept; nor can anything that was intended. */
function brokenParts(deleted: string[], stopped: string[]): Parts {
  const streams = {
    readEvents: async (path: StreamPath) => {
      unless(path)
      return { outcome: 'missing' }
    },
    delete: async (path: StreamPath) => {
      unless(path)
      deleted.push(path)
    },
  }
  const finishStop = async (url: EntityUrl) => {
    unless(url)
    stopped.push(url)
    return true
  }
  const sweep = async () => unless('bad intent')
  const signing = { maintain: async () => unless('bad key') }
  const { database } = fresh
  return { database, streams, limits: defaultLimits, appends: { kind: 'intents', streams, sweep }, wakes: { finishStop }, signing } as never // all that is asked for
}

it('what cannot be swept keeps nothing behind it from being swept, and is said', async () => {
  const { database } = fresh
  for (const [at, name] of ['bad', 'good'].entries()) {
    const operation = `${name}-operation`
    const planned = [{ url: `/chat/${name}`, first: '[]', messages: [] }]
    await database.query(sql`
      INSERT INTO entities (url, type, status, created_at, updated_at, reserved_by)
      VALUES (${`/chat/${name}`}, 'chat', 'idle', ${at}, ${at}, ${operation}), (${`/stop/${name}`}, 'stop', 'stopping', ${at}, ${at}, NULL)`)
    await putPayloads(database, [{ id: `${operation}/streams`, payload: JSON.stringify({ items: [], streams: planned }) }])
    await database.query(sql`
      INSERT INTO attachment_claims (tenant_id, path, claimed_by, deadline)
      VALUES ('default', ${`/file/${name}`}, 'somebody', now() - ${2 - at} * interval '1 hour')`)
  }
  const deleted: string[] = []
  const stopped: string[] = []

  const sweeping = sweepActivities(brokenParts(deleted, stopped)).sweepLeftovers()

  const broken = ['bad key', 'bad intent', '/chat/bad/main', '/file/bad', '/stop/bad']
  await expect(sweeping).rejects.toThrow(`5 steps failed: ${broken.map((name) => `Error: ${name} is not to be had`).join('; ')}`)
  expect(stopped).toEqual(['/stop/good'])
  expect(deleted).toEqual(['/file/good'])
  const { rows } = await database.query(sql`
    SELECT reserved_by AS left FROM entities WHERE reserved_by IS NOT NULL UNION ALL SELECT path FROM attachment_claims`)
  expect(rows).toEqual([{ left: 'bad-operation' }, { left: '/file/bad' }])
})

it('what nobody needs any more goes at once, also where it is more than one step takes', async () => {
  const { database } = fresh
  const many = 1_200
  const old = new Date(Date.now() - 8 * 24 * 3_600_000)
  await database.query(sql`
    INSERT INTO operations (tenant_id, id, verdicts, completed_at)
    SELECT 'default', 'old' || n, '[]', ${old}::timestamptz FROM generate_series(1, ${many}::int) AS n`)
  await database.query(sql`
    INSERT INTO wake_notifications (wake_id, target_type, delivery_status, claim_status, created_at, resolved_at, subscription_id, generation)
    SELECT 'old' || n, 'webhook', 'delivered', 'completed', ${old}::timestamptz, ${old}::timestamptz, 's', n FROM generate_series(1, ${many}::int) AS n`)
  await database.query(sql`
    INSERT INTO consumer_claims (consumer_id, epoch, wake_id, stream_path, status, claimed_at, updated_at)
    SELECT 'old' || n, n, 'old' || n, '/s', 'released', ${old}::timestamptz, ${old}::timestamptz FROM generate_series(1, ${many}::int) AS n`)
  const streams = { delete: async () => undefined }
  const signing = { maintain: async () => ({ rotated: false, forgottenKeys: 0 }) }
  const parts = { database, streams, limits: defaultLimits, appends: { kind: 'transaction' }, signing } as never // all that is asked for

  const report = await sweepActivities(parts).sweepLeftovers()

  expect(report).toMatchObject({ forgottenOperations: many, forgottenWakes: 2 * many })
})
