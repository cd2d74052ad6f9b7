/**
 * A kept plan is made once, at whatever size the tables have then (database.ts D6). So every `keyed` statement of the source, and what Postgres itself asks
 * for a foreign key, must reach its rows by key in each plan that Postgres makes: while it knows nothing, of tables of any size that nobody has analysed,
 * of a handful of rows, and of a handful that is left where many were. All of a key that it is given, so that it reads no neighbours.
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
  const { rows: checks } = await client.query<{ readonly table: string; readonly name: string }>(
    `SELECT conrelid::regclass::text AS table, conname AS name FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0`,
  )
  for (const { table, name } of checks) await client.query(`ALTER TABLE ${table} DROP CONSTRAINT ${name}`) // for rows of no meaning
  await client.query('SET session_replication_role = replica')
  for (const { table, name } of unique.filter(({ primary }) => primary)) keys.set(table, columns.get(name) ?? [])
})
afterAll(async () => {
  await client.end()
  await fresh.drop()
})

/** A table that nobody analyses changes its plans as its indexes grow: each gets its levels at another size. */
const unanalysed = [50, 100, 150, 200, 300, 500, 1000, 2000]

describe.each([
  ['empty', async () => undefined],
  ...unanalysed.map((count) => [`never analysed, of ${count} rows`, async () => await fill(count)] as const),
  [
    'analysed while they were empty, of 200 rows',
    async () => await client.query(`${await truncation()}; ANALYZE; ${await insertion(1, 200)}`),
  ],
  ['analysed with a handful of rows', async () => await client.query(`${await truncation()}; ${await insertion(1, 5)}; ANALYZE`)],
  ['analysed with a handful of rows where many were', async () => await thinOut()],
] as readonly (readonly [string, () => Promise<unknown>])[])('while the tables are %s', (_state, make) => {
  beforeAll(async () => {
    await make()
  })

  it.each(statements)('$what reaches its rows by key', async ({ text }) => await expectKeys(text))

  it('foreign keys are looked up by key', async () => {
    for (const text of await foreignKeyStatements()) await expectKeys(text)
  })
})

async function expectKeys(text: string): Promise<void> {
  const { rows } = await client.query<{ readonly 'QUERY PLAN': readonly { readonly Plan: Plan }[] }>(
    `EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${text}`,
  )
  const [plan] = rows[0]?.['QUERY PLAN'] ?? []
  if (plan === undefined) throw new Error('no plan')

  expect([text, walks(plan.Plan), wades(plan.Plan)]).toEqual([text, [], []])
}

async function fill(count: number): Promise<void> {
  const { rows } = await client.query<{ readonly filled: number }>('SELECT count(*)::int AS filled FROM users')
  await client.query(await insertion((rows[0]?.filled ?? 0) + 1, count))
}

async function thinOut(): Promise<void> {
  await client.query(`${await truncation()}; ${await insertion(1, 3000)}`)
  for (const table of await tables()) {
    await client.query(`DELETE FROM ${table} WHERE ctid NOT IN (SELECT ctid FROM ${table} LIMIT 5)`)
    await client.query(`VACUUM ${table}`)
  }
  await client.query('ANALYZE')
}

async function tables(): Promise<readonly string[]> {
  const { rows } = await client.query<{ readonly name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1`,
  )
  return rows.map(({ name }) => name)
}

const truncation = async (): Promise<string> => `TRUNCATE ${(await tables()).join(', ')}`

/** Rows of every table, of no meaning, alike in their tenant and different in all texts. */
async function insertion(from: number, to: number): Promise<string> {
  const { rows } = await client.query<{ readonly table: string; readonly names: string; readonly made: string }>(`
    SELECT attrelid::regclass::text AS table, string_agg(attname, ', ') AS names,
           string_agg(CASE WHEN attname = 'tenant_id' THEN '''default'''
                           WHEN typcategory = 'S' THEN '''' || attname || '-0123456789abcdef-'' || n'
                           WHEN typcategory = 'N' THEN 'n % 30000'
                           WHEN typcategory = 'B' THEN 'false'
                           WHEN typcategory = 'D' THEN 'now()'
                           WHEN typcategory = 'A' THEN '''{}'''
                           WHEN typname = 'jsonb' THEN '''{}'''
                           ELSE '''''' END, ', ') AS made
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = attrelid
     WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped AND (attnotnull OR typcategory = 'S') AND NOT atthasdef AND attidentity = ''
     GROUP BY 1`)
  return rows
    .map(({ table, names, made }) => `INSERT INTO ${table} (${names}) SELECT ${made} FROM generate_series(${from}, ${to}) n`)
    .join(';\n')
}

/** As Postgres asks them, when a row is written that names another, and when a row is deleted that others name. */
async function foreignKeyStatements(): Promise<readonly string[]> {
  const { rows } = await client.query<{ readonly written: string; readonly deleted: string }>(`
    SELECT format('SELECT 1 FROM ONLY %s x WHERE %s FOR KEY SHARE OF x', confrelid::regclass,
                  (SELECT string_agg(format('$%s = %I', n, attname), ' AND ' ORDER BY n)
                     FROM unnest(confkey) WITH ORDINALITY AS k (key, n) JOIN pg_attribute ON attrelid = confrelid AND attnum = key)) AS written,
           format('DELETE FROM ONLY %s WHERE %s', conrelid::regclass,
                  (SELECT string_agg(format('$%s = %I', n, attname), ' AND ' ORDER BY n)
                     FROM unnest(conkey) WITH ORDINALITY AS k (key, n) JOIN pg_attribute ON attrelid = conrelid AND attnum = key)) AS deleted
      FROM pg_constraint WHERE contype = 'f' AND conrelid <> 'signing_turns'::regclass`) // that has a row for each new key: walking it is right
  return rows.flatMap(({ written, deleted }) => [written, deleted])
}

it('is asked about the statements of the source', () => {
  expect(statements.length).toBeGreaterThan(25)
})
