/** Whoever appends or makes a stream looks up those who wait for it by index, however many wait for others. */
import pg from 'pg'
import type { StreamPath } from '../../src/domain/ids.js'
import { prefixesOf } from '../../src/domain/subscriptions.js'
import type { Transaction } from '../../src/registry/database.js'
import { linkAtTails } from '../../src/registry/subscription-editing.js'
import { forgetAcks, patternsAt } from '../../src/registry/subscriptions.js'
import { lockSubscribers } from '../../src/registry/wakes.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

const many = 10_000
let fresh: FreshDatabase

beforeAll(async () => {
  fresh = await freshDatabase()
  const client = new pg.Client({ connectionString: fresh.url })
  await client.connect()
  await client.query(
    `INSERT INTO subscriptions (tenant_id, id, type, configuration, webhook_url, lease_ttl_ms, pattern, pattern_prefix)
     SELECT 'default', 's' || n, 'webhook', '', 'http://x', 30000,
            CASE WHEN n % 2 = 0 THEN 't' || n || '/**' END, CASE WHEN n % 2 = 0 THEN '/t' || n END
       FROM generate_series(1, $1::int) AS n`,
    [many],
  )
  await client.query(
    `INSERT INTO subscription_links (tenant_id, path, subscription_id, is_explicit, is_glob, acked)
     SELECT 'default', '/t' || n || '/x/main', 's' || n, true, false, '-1' FROM generate_series(1, $1::int) AS n`,
    [many],
  )
  await client.query(
    `INSERT INTO stream_progress (tenant_id, path, processed)
     SELECT tenant, '/t' || n || '/x/main', '0000000000000000_0000000000000001'
       FROM generate_series(1, $1::int) AS n, unnest(ARRAY['default', 'other']) AS tenant`,
    [many],
  )
  await client.end()
})
afterAll(async () => await fresh.drop())

/** How Postgres would carry out what `ask` asks for, on a connection of the house. */
async function planOf(ask: (tx: Transaction) => Promise<unknown>): Promise<string> {
  const lines: string[] = []
  await fresh.database.transaction(async (tx) => {
    const explaining: Transaction = {
      tenant: tx.tenant,
      txid: 0,
      last: () => undefined,
      afterCommit: (work) => tx.afterCommit(work),
      query: async ({ name, text, values }) => {
        const { rows } = await tx.query({ name: `${name}_explained`, text: `EXPLAIN ${text}`, values })
        lines.push(...rows.map((row) => String(row['QUERY PLAN'])))
        return { rows: [], count: 0 }
      },
    }
    await ask(explaining)
  })
  return lines.join('\n')
}

describe.each(['as they were inserted', 'analysed'])('with 10,000 subscriptions, %s,', (state) => {
  beforeAll(async () => {
    if (state !== 'analysed') return
    const client = new pg.Client({ connectionString: fresh.url })
    await client.connect()
    await client.query('ANALYZE')
    await client.end()
  })

  it.each([
    ['an append', async (tx: Transaction) => await lockSubscribers(tx, ['/t7/x/main', '/none'] as StreamPath[])],
    ['a new stream', async (tx: Transaction) => await patternsAt(tx, prefixesOf('/t8/x/main'))],
  ])('%s reads no table of subscriptions from end to end', async (_what, ask) => {
    const plan = await planOf(ask)

    expect(plan).toMatch(/Index/)
    expect(plan).not.toMatch(/Seq Scan on (subscriptions|subscription_links)/)
  })

  it.each([
    ['is linked', async (tx: Transaction) => await linkAtTails(tx, 's7', ['/t7/x/main'] as StreamPath[], 'explicit')],
    ['is made on a foreign server', async (tx: Transaction) => await forgetAcks(tx, ['/t7/x/main'] as StreamPath[])],
  ])('a stream that %s is found by its whole key, and no other tenant’s with it', async (_what, ask) => {
    const plan = await planOf(ask)

    expect(plan).not.toMatch(/Seq Scan on (stream_progress|subscription_links)/)
    expect(plan).toMatch(/on stream_progress\b.*\n *Index Cond: \(\(tenant_id = .*path = /)
  })
})
