import { Database, sql } from '../../src/registry/database.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'
import { type PostgresProxy, startPostgresProxy } from '../support/postgres-proxy.js'

let fresh: FreshDatabase
let proxy: PostgresProxy
let database: Database
beforeAll(async () => {
  fresh = await freshDatabase()
  await fresh.database.query({
    name: 'notes',
    text: 'CREATE TABLE notes (name text PRIMARY KEY, said int4 NOT NULL CHECK (said > 0))',
    values: [],
  })
  proxy = await startPostgresProxy(fresh.url)
  database = new Database({ url: proxy.url, tenant: 'default', poolMax: 3, holdMs: 20_000 })
})
afterAll(async () => {
  await database.close()
  await proxy.close()
  await fresh.drop()
})

const note = (name: string, said = 1) => sql`INSERT INTO notes (name, said) VALUES (${name}, ${said})`
async function noted(name: string): Promise<number> {
  return (await fresh.database.query(sql`SELECT FROM notes WHERE name = ${name}`)).count
}

describe('statements that travel with their commit (D9)', () => {
  it('stand when the transaction has ended, and what was asked for afterwards happens then', async () => {
    let seen = -1
    const result = await database.transaction(async (tx) => {
      await tx.query(note('first'))
      tx.last(async () => {
        await tx.query(note('last'))
        tx.afterCommit(() => {
          seen = 1
        })
      })
      return 'done'
    })

    expect([result, seen, await noted('first'), await noted('last')]).toEqual(['done', 1, 1, 1])
  })

  it('leave nothing of their transaction where one of them fails, and its connection goes on', async () => {
    let isAskedFor = false
    const failed = database.transaction(async (tx) => {
      tx.afterCommit(() => {
        isAskedFor = true
      })
      await tx.query(note('before a failure'))
      tx.last(() => Promise.all([tx.query(note('refused', 0)), tx.query(note('behind a failure'))]))
    })

    await expect(failed).rejects.toMatchObject({ code: '23514' })
    expect([isAskedFor, await noted('before a failure'), await noted('behind a failure')]).toEqual([false, 0, 0])
    await database.transaction(async (tx) => await tx.query(note('goes on')))
    expect(await noted('goes on')).toBe(1)
  })

  it('are repeated with their transaction after a deadlock', async () => {
    await database.transaction(async (tx) => await Promise.all([tx.query(note('one')), tx.query(note('other'))]))
    let attempts = 0
    let arrived = 0
    let meet: () => void = () => undefined
    const met = new Promise<void>((resolve) => {
      meet = resolve
    })
    const add = async (mine: string, theirs: string) =>
      await database.transaction(async (tx) => {
        attempts += 1
        await tx.query(sql`UPDATE notes SET said = said + 1 WHERE name = ${mine}`)
        arrived += 1
        if (arrived === 2) meet()
        await met
        tx.last(() => tx.query(sql`UPDATE notes SET said = said + 1 WHERE name = ${theirs}`))
      })

    await Promise.all([add('one', 'other'), add('other', 'one')])

    const { rows } = await fresh.database.query(sql`SELECT said FROM notes WHERE name IN ('one', 'other')`)
    expect([attempts > 2, rows.map(({ said }) => said)]).toEqual([true, [3, 3]])
  })

  it('happen once where the answer to them and to the commit is lost', async () => {
    let attempts = 0
    await database.transaction(async (tx) => {
      attempts += 1
      await tx.query(note('answer lost'))
      proxy.loseAnswersOfCommits(1)
      tx.last(() => tx.query(note('answer lost too')))
    })

    expect([attempts, await noted('answer lost'), await noted('answer lost too')]).toEqual([1, 1, 1])
  })

  it('are refused before the transaction is known by its id', async () => {
    await expect(database.transaction(async (tx) => tx.last(() => tx.query(note('too early'))))).rejects.toThrow(/after an answer/)
    expect(await noted('too early')).toBe(0)
  })

  it('refuse every later statement instead of carrying it out outside of the transaction', async () => {
    const late = database.transaction(async (tx) => {
      await tx.query(sql`SELECT`)
      tx.last(async () => {
        await tx.query(note('in time'))
        await tx.query(note('late'))
      })
    })

    await expect(late).rejects.toThrow(/failed/)
    expect([await noted('in time'), await noted('late')]).toEqual([1, 0])
  })
})
