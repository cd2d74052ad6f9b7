import { Database, sql } from '../../src/registry/database.js'
import { tokenSecret } from '../../src/registry/secrets.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

describe('the secret of tokens', () => {
  let fresh: FreshDatabase
  const processes: Database[] = []
  beforeAll(async () => {
    fresh = await freshDatabase()
  })
  afterAll(async () => {
    await Promise.all(processes.map(async (one) => await one.close()))
    await fresh.drop()
  })

  /** One more process: it remembers nothing. */
  function process(tenant = 'default'): Database {
    const database = new Database({ url: fresh.url, tenant, poolMax: 1 })
    processes.push(database)
    return database
  }

  it('is one for all replicas, whoever comes first', async () => {
    const secrets = await Promise.all(Array.from({ length: 12 }, async () => await tokenSecret(process())))

    expect(new Set(secrets.map((secret) => secret.toString('hex'))).size).toBe(1)
    expect(secrets[0]).toHaveLength(32)
    expect(await tokenSecret(process())).toEqual(secrets[0])
  })

  it('is another one for another tenant', async () => {
    expect(await tokenSecret(process('other'))).not.toEqual(await tokenSecret(process()))
  })

  it('is read once', async () => {
    const database = process('once')
    const secret = await tokenSecret(database)
    await fresh.database.query(sql`DELETE FROM secrets WHERE tenant_id = 'once'`)

    expect(await tokenSecret(database)).toBe(secret)
  })

  it('is asked for again after a failure', async () => {
    const database = process('failing')
    await fresh.database.query(sql`ALTER TABLE secrets RENAME TO hidden_secrets`)
    await expect(tokenSecret(database)).rejects.toThrow()
    await fresh.database.query(sql`ALTER TABLE hidden_secrets RENAME TO secrets`)

    expect(await tokenSecret(database)).toHaveLength(32)
  })
})
