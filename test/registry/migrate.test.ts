import { migrate } from '../../src/registry/migrate.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

describe('migrations', () => {
  let fresh: FreshDatabase
  beforeAll(async () => {
    fresh = await freshDatabase()
  })
  afterAll(async () => await fresh.drop())

  it('are applied once, however many processes start at once', async () => {
    const again = await Promise.all([migrate(fresh.database), migrate(fresh.database), migrate(fresh.database)])

    expect(again).toEqual([[], [], []])
  })
})
