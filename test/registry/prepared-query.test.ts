import type { EventEmitter } from 'node:events'
import { sql } from '../../src/registry/database.js'
import { PreparedQuery } from '../../src/registry/prepared-query.js'
import { Client } from '../../src/registry/wire-bytes.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
let client: Client
let descriptions: number
beforeAll(async () => {
  fresh = await freshDatabase()
})
beforeEach(async () => {
  client = new Client({ connectionString: fresh.url, pipeline: true } as ConstructorParameters<typeof Client>[0])
  await client.connect()
  descriptions = 0
  const { connection } = client as unknown as { readonly connection: EventEmitter }
  connection.on('rowDescription', () => {
    descriptions += 1
  })
})
afterEach(async () => await client.end())
afterAll(async () => await fresh.drop())

const ask = async (...[statement, options]: ConstructorParameters<typeof PreparedQuery>) =>
  await client.query(new PreparedQuery(statement, options)).answer

const numbered = (n: number, text: string | null) =>
  sql`SELECT ${n}::int8 AS n, ${text}::text AS text, ${n}::int8 > 1 AS is_many, ${{ n }}::jsonb AS json`

describe('a prepared query', () => {
  it('Q1: is described once for each connection, and answers alike ever after', async () => {
    const answers = [await ask(numbered(1, 'a')), await ask(numbered(2, null)), await ask(numbered(3, ''))]

    expect(answers).toEqual([
      { rows: [{ n: 1, text: 'a', is_many: false, json: { n: 1 } }], count: 1 },
      { rows: [{ n: 2, text: null, is_many: true, json: { n: 2 } }], count: 1 },
      { rows: [{ n: 3, text: '', is_many: true, json: { n: 3 } }], count: 1 },
    ])
    expect(descriptions).toBe(1)
  })

  it('Q1: is described until its first answer has come, where several leave together', async () => {
    const answers = await Promise.all([ask(numbered(1, 'a')), ask(numbered(2, 'b'))])

    expect(answers.map(({ rows }) => rows[0]?.n)).toEqual([1, 2])
    expect(descriptions).toBe(2)
  })

  it('Q2: reads text behind binary, and binary behind text, on one connection', async () => {
    const bytes = Buffer.from([0, 255, 10])
    const inBinary = () => ask(sql`SELECT ${bytes}::bytea AS bytes, 7::int4 AS n`, { binary: true })
    await ask(numbered(1, 'a'))

    const answers = await Promise.all([inBinary(), ask(numbered(2, 'b')), inBinary(), ask(numbered(3, 'c'))])

    expect(answers.map(({ rows }) => rows[0])).toEqual([
      { bytes, n: 7 },
      { n: 2, text: 'b', is_many: true, json: { n: 2 } },
      { bytes, n: 7 },
      { n: 3, text: 'c', is_many: true, json: { n: 3 } },
    ])
  })

  it('counts rows that it answers, changes, or does neither with', async () => {
    await client.query('CREATE TEMP TABLE counted (n int8)')
    const insert = await ask(sql`INSERT INTO counted SELECT generate_series(1, ${12}::int8)`)
    const update = await ask(sql`UPDATE counted SET n = n + 1 WHERE n > ${10}::int8 RETURNING n`)
    const nothing = await ask(sql`SELECT n FROM counted WHERE n > ${100}::int8`)

    expect([insert, nothing]).toEqual([
      { rows: [], count: 12 },
      { rows: [], count: 0 },
    ])
    expect(update).toEqual({ rows: [{ n: 12 }, { n: 13 }], count: 2 })
  })

  it('fails alone, and is prepared anew', async () => {
    const quotient = (by: number) => sql`SELECT 10 / ${by}::int4 AS quotient`

    const answers = await Promise.allSettled([
      ask(quotient(0)),
      ask(numbered(1, 'a')),
      ask(quotient(5)),
      ask(quotient(0)),
      ask(quotient(2)),
    ])

    expect(answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.rows : String(answer.reason.code)))).toEqual([
      '22012',
      [expect.objectContaining({ n: 1 })],
      [{ quotient: 2 }],
      '22012',
      [{ quotient: 5 }],
    ])
  })

  it('Q1: fails where its columns have changed since, instead of reading them wrongly', async () => {
    const all = () => sql`SELECT * FROM widened`
    await client.query('CREATE TEMP TABLE widened (a int4)')
    await client.query('INSERT INTO widened VALUES (1)')
    const statement = all()
    expect((await ask(statement)).rows).toEqual([{ a: 1 }])

    await client.query(`ALTER TABLE widened ADD b text DEFAULT 'new'`)

    await expect(ask(statement)).rejects.toMatchObject({ code: '0A000' })
    expect((await ask(numbered(1, 'a'))).count).toBe(1)
  })
})
