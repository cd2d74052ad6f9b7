/** The database of the bench, for what no request sets up. */
import pg from 'pg'

export async function withDatabase(url: string, work: (database: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}
