/**
 * One connection to Postgres: how statements leave on it, how they are planned, how a transaction begins and ends there. Invariants D3, D6, D7, D9 of
 * `database.ts`, which alone asks here.
 */
import { createHash } from 'node:crypto'
import type { Writable } from 'node:stream'
import type pg from 'pg'
import { type Answer, PreparedQuery } from './prepared-query.js'

type Planning = 'anew' | 'kept'

export interface Statement {
  readonly name: string
  readonly text: string
  readonly values: readonly unknown[]
  /** Whether it is planned for each execution (the default), or once for each connection (D6). */
  readonly plan?: Planning
}

/**
 * D6: a plan that Postgres keeps for a prepared statement may have been made while the tables were empty. After a burst of 10,000 spawns, and
 * until the next ANALYZE, a look-up by URL then walked all entities of the tenant: a send took 21 ms, now 4. Every join of ours has a key.
 */
export const planning = 'SET random_page_cost = 1.1; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off'
const planningOf = {
  anew: 'SET plan_cache_mode = force_custom_plan; SET enable_seqscan = on',
  kept: 'SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off',
} as const satisfies Readonly<Record<Planning, string>>

/** How each connection plans now. */
const plans = new WeakMap<pg.PoolClient, Planning>()

const corked = new WeakSet<Writable>()

/**
 * D7: what is asked from now until this turn of the event loop ends leaves in one piece, with the COMMIT that is asked for at its end. A write of its
 * own for each statement was a third of our time.
 */
function gather(client: pg.PoolClient): void {
  const { stream } = (client as unknown as { readonly connection: { readonly stream: Writable } }).connection // unknown to the types of `pg`
  if (corked.has(stream)) return
  corked.add(stream)
  stream.cork()
  const release = () => {
    corked.delete(stream)
    stream.uncork()
  }
  process.nextTick(() => process.nextTick(release)) // behind every COMMIT of this turn
}

/** D6: asks one statement, planned as it wants to be. */
export async function ask(client: pg.PoolClient, statement: Statement, options?: { readonly binary?: boolean }): Promise<Answer> {
  gather(client)
  const { plan = 'anew' } = statement
  if (plans.get(client) !== plan) {
    plans.set(client, plan)
    client.query(planningOf[plan]).catch(() => undefined) // then what follows fails too
  }
  return await client.query(new PreparedQuery(statement, options)).answer
}

/** The number by which Postgres knows an advisory lock. */
const lockKey = (name: string): bigint => createHash('sha256').update(name).digest().readBigInt64BE()

/** Begins, takes the lock of this name, and learns the transaction's id, all in one round trip. */
export async function begin(client: pg.PoolClient, lock?: string): Promise<string> {
  gather(client)
  const locking = lock === undefined ? '' : `; SELECT pg_advisory_xact_lock(${lockKey(lock)})`
  // The simple protocol answers one result per statement, which the types of `pg` do not know.
  const results = (await client.query(`BEGIN; SELECT pg_current_xact_id()::text AS xid${locking}`)) as unknown as readonly pg.QueryResult[]
  return String(results[1]?.rows[0]?.xid)
}

/** D9. The last statements of a transaction, and its COMMIT in the same piece. */
export class Ending {
  readonly statements: Promise<unknown>
  readonly committed: Promise<void>
  isSent = false

  constructor(client: pg.PoolClient, statements: () => Promise<unknown> = async () => undefined) {
    this.statements = statements()
    this.committed = new Promise((resolve, reject) => {
      process.nextTick(() => {
        this.isSent = true
        client.query('COMMIT').then(({ command }) => {
          if (command === 'COMMIT') resolve()
          else reject(new Error(`a transaction ended with ${command}`)) // one of its statements had failed unheard
        }, reject)
      })
    })
    this.statements.catch(() => undefined) // awaited by whoever ends
    this.committed.catch(() => undefined)
  }

  /** Whether the transaction is known to have been committed. */
  async commits(): Promise<boolean> {
    return await this.committed.then(
      () => true,
      () => false,
    )
  }
}

/** Rolls back and returns the connection; one that cannot roll back is thrown away (D3). */
export async function giveBack(client: pg.PoolClient): Promise<void> {
  plans.delete(client) // set in the transaction, it is undone with it
  await client.query('ROLLBACK').then(
    () => client.release(),
    () => client.release(true),
  )
}
