/**
 * Postgres: one pool, transactions as explicit values.
 *
 * D1  A `Transaction` is passed to whoever writes; who calls decides what commits together.
 * D2  Every statement is a constant text with parameters (`sql`), prepared once per connection.
 * D3  A connection whose transaction failed in an unknown way is thrown away, never reused.
 * D4  `transaction` repeats its body after a serialisation failure, a deadlock, or a lost connection: bodies have no effects but their statements.
 * D5  A commit whose answer was lost is looked up by its transaction id before anything is said about it: never a blind failure, never a second effect.
 *     After a crash of Postgres an id that never became durable is given out again: there "committed" may be somebody else's, and the outcome is unknown.
 * D6  A plan never outlives what it was made for: a statement is planned for the sizes of its moment, unless it finds its rows alike at any (`keyed`).
 * D7  Statements that do not need each other's answers travel together; Postgres carries them out in the order in which they were asked.
 * D8  What a body asks for with `afterCommit` happens once, when its transaction is known to be committed; what was rolled back asks for nothing.
 * D9  A body may name its `last` statements, on whose answers its result does not depend: the commit leaves with them and saves a round trip. Never
 *     before the transaction's id is known: by it the fate of that commit is looked up (D5).
 * D10 A process that stands still, or is gone with its host, holds its locks for `standStillMs` at most: then Postgres undoes its transaction, and those
 *     of the others go on. No body waits as long for anything but Postgres.
 * D11 A connection on which Postgres has fallen silent is a broken one (silence.ts): nobody waits for a frozen database, or for one that has moved away
 *     without a word, as long as TCP would.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { types as kinds } from 'node:util'
import pg from 'pg'
import { Turns } from '../domain/turns.js'
import { ask, begin, Ending, giveBack, planning, type Statement } from './connection.js'
import { Listening, type ListeningOptions } from './listening.js'
import { FellSilent, Silence } from './silence.js'
import { Client } from './wire-bytes.js'

export type Row = Readonly<Record<string, unknown>>

/** Something that answers statements: the pool (each statement its own transaction) or one open transaction. */
export interface Queryable {
  /** Whose rows these are; every statement filters on it (spec/01 §2). */
  readonly tenant: string
  query(statement: Statement, options?: { readonly binary?: boolean }): Promise<{ readonly rows: readonly Row[]; readonly count: number }>
}

/** An open transaction. */
export interface Transaction extends Queryable {
  /** Id of this transaction as shapes report it: 32 bits (spec/13 §2). Known once a statement of it was answered (D7). */
  readonly txid: number
  /** D9. After an answer; no statement is asked in a later turn of the event loop than these, and the body does not fail after them. */
  last(statements: () => Promise<unknown>): void
  /** D8. A crash between the commit and this loses it: what must happen is written down in the transaction. */
  afterCommit(work: () => void): void
}

interface StatementText {
  readonly name: string
  readonly text: string
}

const statementTexts = new WeakMap<TemplateStringsArray, StatementText>()
let statements = 0

/** A statement whose text is constant: `sql` names it once, so that every connection prepares it once. */
export function sql(strings: TemplateStringsArray, ...values: readonly unknown[]): Statement {
  const { name, text } = named(strings)
  return { name, text, values }
}

/**
 * A statement whose plan is right at every size of the tables, and is kept (D6): it reaches each row by a key that it is given. The keys come out of
 * `unnest`, each row out of a LATERAL look-up or an EXISTS that OFFSET 0 keeps Postgres from turning around, rows to change by their `ctid`. Those the
 * transaction has locked: their `ctid` stands still. What planning took was half of what Postgres did for a wake.
 */
export function keyed(strings: TemplateStringsArray, ...values: readonly unknown[]): Statement {
  const { name, text } = named(strings)
  return { name, text, values, plan: 'kept' }
}

function named(strings: TemplateStringsArray): StatementText {
  let known = statementTexts.get(strings)
  if (known === undefined) {
    statements += 1
    known = { name: `agents_${statements}`, text: strings.reduce((text, part, index) => `${text}$${index}${part}`) }
    statementTexts.set(strings, known)
  }
  return known
}

const retryable = new Set(['40001', '40P01'])
const maxAttempts = 5
/** A batch is over by then, unless the database is far away or somebody holds what it wants. */
const turnPatienceMs = 5

/** Errors of the runtime itself may come from another realm than ours (tests run in a context of their own). */
const sqlState = (failure: unknown): string | undefined =>
  kinds.isNativeError(failure) && 'code' in failure ? String(failure.code) : undefined

const networkCodes = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN'])
/** What `pg` says, without a code, of a connection that broke or could not be made. */
const brokenConnection =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed)/

/** Connection exceptions; shutdown, crash, cannot connect now; no connection left; a transaction that stood still (D10). */
const unreachable = /^(08|57P|53300$|25P03$)/

/** A body has seen something before it held it, and something else afterwards: its transaction begins again, as after a deadlock (D4). */
export class BeginAgain extends Error {
  readonly code = '40001'
}

/** A transaction may have happened, or not: nobody may say that it did, and nobody may repeat it. */
export class CommitUnknown extends Error {
  constructor(reason: string, cause: unknown) {
    super(`the outcome of a commit is unknown: ${reason}`, { cause })
    this.name = 'CommitUnknown'
  }
}

/** Differs after every crash of Postgres: its start, and the statistics that it loses by crashing. */
const incarnationSql = `pg_postmaster_start_time()::text || ' ' || coalesce((SELECT stats_reset::text FROM pg_stat_wal), '')`

async function incarnationOf(client: pg.ClientBase): Promise<string> {
  const { rows } = await client.query(`SELECT ${incarnationSql} AS incarnation`)
  return String(rows[0]?.incarnation)
}

/** Whether a statement failed because Postgres cannot be reached (as opposed to refusing it). */
export function isConnectionFailure(failure: unknown): boolean {
  if (!kinds.isNativeError(failure)) return false
  if (failure instanceof CommitUnknown) return true
  const code = sqlState(failure)
  if (code === undefined) return brokenConnection.test(failure.message)
  return networkCodes.has(code) || unreachable.test(code)
}

export interface DatabaseOptions {
  readonly url: string
  readonly tenant: string
  /** Connections at most. */
  readonly poolMax: number
  readonly connectTimeoutMs?: number
  /** A `Client` option: `search_path` etc. for tests. */
  readonly options?: string
  /** How long a transaction is held while Postgres is away, before it fails. */
  readonly holdMs?: number
  /** How long a transaction may wait for its process, before Postgres undoes it (D10). */
  readonly standStillMs?: number
  /** How long a connection on which something was asked may be silent, before Postgres is asked about it (D11). */
  readonly silenceMs?: number
  readonly onIdleFailure?: (failure: Error) => void
}

export interface TransactionOptions {
  /** Transactions that name the same lock take turns: held from before the first statement until the end. */
  readonly lock?: string
}

export class Database implements Queryable {
  readonly tenant: string
  readonly url: string
  /** Of the group commits whose batches are transactions here. */
  readonly turns = new Turns(turnPatienceMs)
  readonly #pool: pg.Pool
  readonly #silence: Silence
  readonly #connectTimeoutMs: number
  readonly #holdMs: number
  readonly #incarnations = new WeakMap<object, string>()
  #latest: string | undefined
  #era = 0

  constructor(options: DatabaseOptions) {
    this.tenant = options.tenant
    this.url = options.url
    this.#holdMs = options.holdMs ?? 5_000
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 5_000
    this.#silence = new Silence({
      silenceMs: options.silenceMs ?? 5_000,
      connect: () => this.dedicated(),
      answerMs: this.#connectTimeoutMs,
    })
    this.#pool = new pg.Pool({
      Client,
      connectionString: options.url,
      max: options.poolMax,
      connectionTimeoutMillis: this.#connectTimeoutMs,
      idleTimeoutMillis: 60_000,
      application_name: 'temporal-agents-server',
      pipeline: true, // D7; unknown to the types of `pg`
      onConnect: async (client) => {
        await client.query(`${planning}; SET idle_in_transaction_session_timeout = ${options.standStillMs ?? 15_000}`)
        this.#knows(client, await incarnationOf(client))
      },
      ...(options.options === undefined ? {} : { options: options.options }),
    })
    this.#pool.on('error', (failure) => options.onIdleFailure?.(failure))
    // A connection that breaks while it is in use says so as an event too, and an unheard 'error' event ends the process; its statement rejects.
    this.#pool.on('connect', (client) => {
      client.on('error', () => undefined)
      this.#silence.watch(client, { listens: false })
    })
  }

  /**
   * Grows before anything is answered by a Postgres that has begun anew, after a crash or in another place: where it commits without waiting for its disk
   * or its standby, what was read before may be gone, and other things stand in its place.
   */
  get era(): number {
    return this.#era
  }

  #knows(client: object, incarnation: string): void {
    this.#incarnations.set(client, incarnation)
    if (incarnation === this.#latest) return
    this.#latest = incarnation
    this.#era += 1
  }

  async #connect(): Promise<pg.PoolClient> {
    this.#silence.expectAnswers()
    return await this.#pool.connect()
  }

  async query(statement: Statement, options?: { readonly binary?: boolean }) {
    const client = await this.#connect()
    try {
      const result = await ask(client, statement, options)
      client.release()
      return result
    } catch (failure) {
      client.release(isConnectionFailure(failure)) // D3
      throw failure
    }
  }

  /** Runs `body` in one transaction (READ COMMITTED) and commits it; on any failure nothing of it remains (D4, D5). */
  async transaction<Result>(body: (tx: Transaction) => Promise<Result>, options: TransactionOptions = {}): Promise<Result> {
    let holdUntil = Date.now() + this.#holdMs
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#attempt(body, options)
      } catch (failure) {
        if (failure instanceof CommitUnknown) throw failure
        if (failure instanceof FellSilent && failure.answersAnew) holdUntil = Date.now() + this.#holdMs // that it took so long was not its fault
        if (isConnectionFailure(failure) && Date.now() < holdUntil) await delay(Math.min(50 * attempt, 500))
        else if (attempt >= maxAttempts || !retryable.has(sqlState(failure) ?? '')) throw failure
      }
    }
  }

  async #attempt<Result>(body: (tx: Transaction) => Promise<Result>, { lock }: TransactionOptions): Promise<Result> {
    const client = await this.#connect()
    const beginning = begin(client, lock === undefined ? undefined : `${this.tenant} ${lock}`)
    let begun: string | undefined
    const known = beginning.then((xid) => {
      begun = xid
      return xid
    })
    known.catch(() => undefined) // awaited below; what follows a failed BEGIN fails too
    let xid: string
    let result: Result
    let named: Ending | undefined
    const afterwards: (() => void)[] = []
    const queryable = this.#queryableOn(client)
    try {
      result = await body({
        tenant: this.tenant,
        query: async (statement, options) => {
          if (named?.isSent) throw new Error('a statement came after the last ones of its transaction') // D9
          return await queryable.query(statement, options)
        },
        last: (statements) => {
          if (named !== undefined || begun === undefined) throw new Error('a transaction has its last statements once, after an answer')
          named = new Ending(client, statements)
        },
        afterCommit: (work) => {
          afterwards.push(work)
        },
        get txid() {
          if (begun === undefined) throw new Error('the id of a transaction is known after its first statement') // D7
          return Number(BigInt(begun) & 0xffff_ffffn)
        },
      })
      xid = await known
    } catch (failure) {
      await known.catch(() => undefined)
      throw await undone(client, failure, named)
    }
    const ending = named ?? new Ending(client)
    try {
      await ending.statements
      await ending.committed
      client.release()
    } catch (failure) {
      if (!isConnectionFailure(failure)) {
        throw await undone(client, failure, ending)
      }
      client.release(true) // D3
      const incarnation = this.#incarnations.get(client)
      if (!(await this.#hasCommitted(xid, incarnation, failure))) throw failure
    }
    for (const work of afterwards) work()
    return result
  }

  /** D5. Throws `CommitUnknown` where it cannot be told. */
  async #hasCommitted(xid: string, incarnation: string | undefined, lost: unknown): Promise<boolean> {
    const deadline = Date.now() + this.#holdMs
    while (Date.now() < deadline) {
      const found = await this.#pool.query(`SELECT pg_xact_status($1::xid8) AS status, ${incarnationSql} AS incarnation`, [xid]).then(
        ({ rows }) => rows[0] as { readonly status: string | null; readonly incarnation: string },
        () => null,
      )
      if (found !== null && found.incarnation !== incarnation) {
        if (found.status !== 'committed') return false // had it been ours, it would be
        throw new CommitUnknown('Postgres crashed meanwhile', lost)
      }
      if (found?.status === 'committed') return true
      if (found?.status === 'aborted') return false
      await delay(100)
    }
    throw new CommitUnknown('Postgres does not answer', lost)
  }

  #queryableOn(client: pg.PoolClient): Queryable {
    return { tenant: this.tenant, query: async (statement, options) => await ask(client, statement, options) }
  }

  /** A connection of its own outside the pool (LISTEN, advisory locks). The caller ends it. */
  async dedicated(): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: this.url,
      application_name: 'temporal-agents-server listener',
      connectionTimeoutMillis: this.#connectTimeoutMs,
    })
    client.on('error', () => undefined) // heard, as those of the pool: its statement rejects
    await client.connect()
    return client
  }

  /** Listens to a channel, until whoever asked closes it. */
  listen(options: Omit<ListeningOptions, 'connect'>): Listening {
    const connect = async () => {
      const client = await this.dedicated()
      this.#silence.watch(client, { listens: true })
      return client
    }
    return new Listening({ ...options, connect })
  }

  async close(): Promise<void> {
    this.#silence.close()
    await this.#pool.end()
  }
}

/** Gives back the connection of a transaction that failed. What is to be thrown: D9, one that has committed all the same did not simply fail. */
async function undone(client: pg.PoolClient, failure: unknown, ending: Ending | undefined): Promise<unknown> {
  const hasCommitted = await ending?.commits()
  await giveBack(client)
  return hasCommitted ? new Error('something failed beside a commit', { cause: failure }) : failure
}
