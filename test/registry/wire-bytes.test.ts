import { createHash, randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import fc from 'fast-check'
import { Database, sql } from '../../src/registry/database.js'
import { Client } from '../../src/registry/wire-bytes.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

const binary = { binary: true }

let fresh: FreshDatabase
let database: Database
beforeAll(async () => {
  fresh = await freshDatabase()
  database = new Database({ url: fresh.url, tenant: 'default', poolMax: 1 })
})
afterAll(async () => {
  await database.close()
  await fresh.drop()
})

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))

describe('a statement that asks for binary', () => {
  it('gets bytes as they are, of every size', async () => {
    const sent = [Buffer.alloc(0), everyByte, randomBytes(65_536), randomBytes(1_048_576), randomBytes(5_000_001), Buffer.alloc(3, 0xff)]

    for (const bytes of sent) {
      const { rows } = await database.query(sql`SELECT ${bytes}::bytea AS bytes, 'behind' AS text`, binary)
      expect([bytes.equals(rows[0]?.bytes as Buffer), rows[0]?.text, rows.length]).toEqual([true, 'behind', 1])
    }
  })

  it.each([0, 1, -1, 4_294_967_295, 4_294_967_296, -4_294_967_297, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER])(
    'gets the number %d as from text',
    async (number) => {
      const asked = sql`SELECT ${number}::int8 AS big, ${number % 2 ** 31}::int4 AS small`

      expect((await database.query(asked, binary)).rows).toEqual([{ big: number, small: number % 2 ** 31 }])
      expect((await database.query(asked)).rows).toEqual([{ big: number, small: number % 2 ** 31 }])
    },
  )

  it('gets text, booleans and nulls, in many rows', async () => {
    const texts = ['', 'plain', 'ü 🦊 \u{feff}', null]
    const { rows } = await database.query(
      sql`SELECT i.text, i.text IS NULL AS is_null, convert_to(i.text, 'UTF8') AS bytes
            FROM unnest(${texts}::text[]) WITH ORDINALITY AS i (text, at), generate_series(1, 500) ORDER BY at`,
      binary,
    )

    const expected = texts.map((text) => ({ text, is_null: text === null, bytes: text === null ? null : Buffer.from(text) }))
    expect(rows).toHaveLength(2_000)
    expect([0, 500, 1_000, 1_500].map((at) => rows[at])).toEqual(expected)
  })

  it('shares its connection with those that do not, in one piece', async () => {
    const answers = await database.transaction(async (tx) =>
      Promise.all([
        tx.query(sql`SELECT ${everyByte}::bytea AS bytes`, binary),
        tx.query(sql`SELECT ${everyByte}::bytea AS bytes, 7::int8 AS number`),
        tx.query(sql`SELECT 1::int8 AS number WHERE false`, binary),
        tx.query(sql`SELECT now() AS at, 'text' AS text`),
        tx.query(sql`SELECT ${everyByte}::bytea AS bytes, 7::int8 AS number`, binary),
      ]),
    )

    expect(answers.map(({ rows }) => rows)).toEqual([
      [{ bytes: everyByte }],
      [{ bytes: everyByte, number: 7 }],
      [],
      [{ at: expect.any(Date), text: 'text' }],
      [{ bytes: everyByte, number: 7 }],
    ])
  })

  it('fails by itself where a column has a type that nobody reads in binary', async () => {
    await expect(database.query(sql`SELECT now() AS at`, binary)).rejects.toThrow('columns of type 1184 are not read in binary')

    expect((await database.query(sql`SELECT true AS goes_on`, binary)).rows).toEqual([{ goes_on: true }])
  })

  it('gets its rows wherever the connection cuts them', () => {
    const values = [everyByte, Buffer.alloc(0), null, randomBytes(3_000), everyByte]
    const columns = [int32(17), int32(25), int32(20)].map((type) =>
      Buffer.concat([Buffer.from('c\0'), int32(0), int16(0), type, int16(0), int32(0), int16(1)]),
    )
    const sent = Buffer.concat([
      message('T', int16(3), ...columns),
      ...values.map((value) => message('D', int16(3), column(value), column(Buffer.from('ü')), column(Buffer.alloc(8, 0)))),
      message('C', Buffer.from('SELECT 5\0')),
    ])

    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 20 }), (sizes) => {
        const { stream, heard } = listener()
        for (let at = 0, turn = 0; at < sent.length; turn += 1) {
          const size = sizes[turn % sizes.length] as number // of at least one
          stream.emit('data', Buffer.from(sent.subarray(at, at + size)))
          at += size
        }
        expect(heard.map(({ name }) => name)).toEqual(['rowDescription', ...values.map(() => 'dataRow'), 'commandComplete'])
        expect(heard.slice(1, -1).map(({ fields }) => fields)).toEqual(values.map((value) => [value, 'ü', 0]))
      }),
    )
  })
})

describe('bytes that are sent', () => {
  it.each([0, 16_383, 16_384, 3_000_000])(
    'arrive as they are beside other values, %d of them, also twice in one statement',
    async (size) => {
      const [one, other] = [randomBytes(size), randomBytes(size)]
      const asked = sql`SELECT ${'before'}::text AS before, md5(${one}::bytea) AS one, ${[1, 2]}::int8[] = '{1,2}' AS between, md5(${other}::bytea) AS other,
                             md5(${one}::bytea) AS again, ${null}::text AS nothing, ${'behind'}::text AS behind`

      for (const options of [{}, binary]) {
        const { rows } = await database.query(asked, options)
        expect(rows).toEqual([
          { before: 'before', one: md5(one), between: true, other: md5(other), again: md5(one), nothing: null, behind: 'behind' },
        ])
      }
    },
  )
})

const md5 = (bytes: Buffer): string => createHash('md5').update(bytes).digest('hex')
const int16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff])
const int32 = (value: number): Buffer => Buffer.concat([int16(value >> 16), int16(value & 0xffff)])
const column = (value: Buffer | null): Buffer => (value === null ? Buffer.alloc(4, 0xff) : Buffer.concat([int32(value.length), value]))

/** As Postgres sends one: a letter, the length that counts itself, the rest. */
function message(code: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(code), int32(body.length + 4), body])
}

/** What a client hears of a stream, without a server behind it. */
function listener() {
  const heard: { readonly name: string; readonly fields?: readonly unknown[] }[] = []
  const { connection } = new Client() as unknown as { readonly connection: EventEmitter & { attachListeners(stream: EventEmitter): void } }
  for (const name of ['rowDescription', 'dataRow', 'commandComplete']) {
    connection.removeAllListeners(name) // nobody has asked anything
    connection.on(name, (told) => heard.push(told))
  }
  const stream = new EventEmitter()
  connection.attachListeners(stream)
  return { stream, heard }
}
