/** A transaction of a test's own that others have to wait for. */
import pg from 'pg'
import { eventually } from './eventually.js'

/** It waits for nobody longer than a moment, and commits when `body` has ended. */
export async function inTheWay(databaseUrl: string, body: (tx: pg.Client) => Promise<void>): Promise<void> {
  const tx = new pg.Client({ connectionString: databaseUrl })
  await tx.connect()
  try {
    await tx.query(`SET lock_timeout = '3s'; SET deadlock_timeout = '30s'`)
    await tx.query('BEGIN')
    await body(tx)
    await tx.query('COMMIT')
  } finally {
    await tx.end()
  }
}

/** Waits until somebody waits for `tx`: as many as `count` says. A transaction sees the sessions of its first look for ever, unless it drops that view. */
export async function untilWaitedFor(tx: pg.Client, count?: number): Promise<void> {
  await eventually(
    async () => {
      await tx.query('SELECT pg_stat_clear_snapshot()')
      const { rows } = await tx.query(`
        SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 160) AS query FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))`)
      if (count === undefined ? rows.length > 0 : rows.length === count) return true
      throw new Error(`${rows.length} wait: ${JSON.stringify(rows)}`)
    },
    { withinMs: 30_000 },
  )
}
