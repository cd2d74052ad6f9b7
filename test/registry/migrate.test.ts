import { Database } from '../../src/registry/database.js'
import { migrate } from '../../src/registry/migrate.js'
import { emptyDatabase, type OwnDatabase } from '../support/own-database.js'

describe('migrations', () => {
  let own: OwnDatabase
  let processes: readonly Database[]
  beforeAll(async () => {
    own = await emptyDatabase()
    processes = Array.from({ length: 3 }, () => new Database({ url: own.url, tenant: 'default', poolMax: 10 }))
  })
  afterAll(async () => {
    await Promise.all(processes.map((database) => database.close()))
    await own.drop()
  })

  it('of an empty database are applied by one of the processes that start at once', async () => {
    const applied = await Promise.all(processes.map((database) => migrate(database)))

    expect(applied.filter((names) => names.length === 0)).toHaveLength(2)
    expect(applied.flat()).toContain('0001-registry.sql')
  })

  it('are applied once, however many processes start at once', async () => {
    const again = await Promise.all(processes.map((database) => migrate(database)))

    expect(again).toEqual([[], [], []])
  })
})
