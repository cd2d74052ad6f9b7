/**
 * A kept plan is made once, at whatever size the tables have then (database.ts D6). So every `keyed` statement of the source must reach its rows by key
 * in the plan that Postgres makes while it knows nothing, and in the one that it makes for a handful of rows: all of a key that it is given, so that it
 * reads no neighbours.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

interface Plan {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Index Name'?: string
  readonly 'Index Cond'?: string
  readonly Filter?: string
  readonly Plans?: readonly Plan[]
}

const source = fileURLToPath(new URL('../../src/', import.meta.url))

/** Every `keyed` statement in the source, its values numbered as `keyed` numbers them. */
const statements = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && file !== join('registry', 'database.ts'))
  .flatMap((file) =>
    readFileSync(join(source, file), 'utf8')
      .split('keyed`')
      .slice(1)
      .map((rest, index) => ({ what: `${file} ${index + 1}`, text: numbered(rest) })),
  )

function numbered(rest: string): string {
  let text = ''
  let values = 0
  for (let at = 0; at < rest.length; at += 1) {
    if (rest[at] === '`') return text
    if (rest[at] !== '$' || rest[at + 1] !== '{') {
      text += rest[at]
      continue
    }
    values += 1
    text += `$${values}`
    for (let depth = 1, inside = at + 2; depth > 0; inside += 1) {
      if (rest[inside] === '{') depth += 1
      if (rest[inside] === '}') depth -= 1
      at = inside
    }
  }
  throw new Error('a statement without an end')
}

/** The columns of each index, in order. */
const columns = new Map<string, readonly string[]>()

const isAsked = (column: string, condition: string): boolean => new RegExp(`\\(${column} (=|>|>=) `).test(condition)

/** An index leads to what is asked for only by columns that it begins with; by the tenant alone it leads to everything. */
function leads(index: string, condition: string): boolean {
  const [first = '', second = ''] = columns.get(index) ?? []
  return isAsked(first, condition) && (first !== 'tenant_id' || isAsked(second, condition))
}

/** Scans of a table that are not by a key. */
function walks(plan: Plan): readonly string[] {
  const { 'Node Type': type, 'Relation Name': table, 'Index Name': index, 'Index Cond': condition = '', Plans: inner = [] } = plan
  const reads = index !== undefined || (table !== undefined && !/Tid Scan|Bitmap Heap Scan|ModifyTable/.test(type))
  const own = reads && !(index !== undefined && leads(index, condition)) ? [`${type} on ${table} by ${index}: ${condition}`] : []
  return [...own, ...inner.flatMap(walks)]
}

/** The columns of each table's key. */
const keys = new Map<string, readonly string[]>()
const uniques = new Set<string>()

/** Look-ups of one row that read its neighbours too, however many there are: each of them is asked for a part of the key. */
function wades(plan: Plan): readonly string[] {
  const {
    'Relation Name': table = '',
    'Index Name': index = '',
    'Index Cond': condition = '',
    Filter: filter = '',
    Plans: inner = [],
  } = plan
  const isOneRow = uniques.has(index) && columns.get(index)?.every((column) => isAsked(column, condition))
  const beside = (keys.get(table) ?? []).filter((column) => !isOneRow && column !== 'tenant_id' && isAsked(column, filter))
  return [...beside.map((column) => `${column} of ${table} beside ${index}: ${condition}`), ...inner.flatMap(wades)]
}

let fresh: FreshDatabase
let client: pg.Client
beforeAll(async () => {
  fresh = await freshDatabase()
  client = new pg.Client({ connectionString: fresh.url })
  await client.connect()
  await client.query('SET random_page_cost = 1.1; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off')
  const { rows } = await client.query<{ readonly name: string; readonly columns: readonly string[] }>(
    `SELECT i.indexrelid::regclass::text AS name, array_agg(pg_get_indexdef(i.indexrelid, n, true) ORDER BY n) AS columns
       FROM pg_index i CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS n
      WHERE i.indrelid::regclass::text !~ '^pg_' GROUP BY 1`,
  )
  for (const row of rows) columns.set(row.name, row.columns)
  const { rows: unique } = await client.query<{ readonly table: string; readonly name: string; readonly primary: boolean }>(
    `SELECT indrelid::regclass::text AS table, indexrelid::regclass::text AS name, indisprimary AS primary
       FROM pg_index WHERE indisunique AND indrelid::regclass::text !~ '^pg_'`,
  )
  for (const { name } of unique) uniques.add(name)
  for (const { table, name } of unique.filter(({ primary }) => primary)) keys.set(table, columns.get(name) ?? [])
})
afterAll(async () => {
  await client.end()
  await fresh.drop()
})

describe.each(['empty', 'analysed with a handful of rows'])('while the tables are %s', (state) => {
  beforeAll(async () => {
    if (state === 'empty') return
    await client.query(`
      INSERT INTO entities (tenant_id, url, type, status, created_at, updated_at) SELECT 'default', '/t/e' || n, 't', 'idle', 0, 0 FROM generate_series(1, 5) n;
      INSERT INTO subscriptions (tenant_id, id, type, configuration, webhook_url, lease_ttl_ms, wake_id)
      SELECT 'default', 's' || n, 'webhook', '', 'http://x', 30000, 'w' || n FROM generate_series(1, 5) n;
      INSERT INTO subscription_links (tenant_id, path, subscription_id, is_explicit, is_glob, acked)
      SELECT 'default', '/t/e' || n || '/main', 's' || n, true, false, '-1' FROM generate_series(1, 5) n;
      ANALYZE`)
  })

  it.each(statements)('$what reaches its rows by key', async ({ text }) => {
    const { rows } = await client.query<{ readonly 'QUERY PLAN': readonly { readonly Plan: Plan }[] }>(
      `EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${text}`,
    )
    const [plan] = rows[0]?.['QUERY PLAN'] ?? []
    if (plan === undefined) throw new Error('no plan')

    expect(walks(plan.Plan)).toEqual([])
    expect(wades(plan.Plan)).toEqual([])
  })
})

it('is asked about the statements of the source', () => {
  expect(statements.length).toBeGreaterThan(25)
})
