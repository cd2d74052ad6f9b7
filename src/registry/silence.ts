/**
 * Connections to a Postgres that has fallen silent: frozen, cut off by the network, or gone with its host. TCP does not tell: what is asked then waits
 * for a quarter of an hour, and what listens waits for ever.
 *
 * S1  A connection is given up where it was asked something, has said nothing for `silenceMs`, and Postgres, asked anew, is twice found at no work for
 *     it; all of them where nobody answers anew and none says anything meanwhile. A statement that waits for a lock, or takes its time, goes on.
 * S2  What listens is asked for a sign of life before its silence means anything.
 * S3  Once nobody answers anew, nobody else waits to find that out: who wants a connection is refused, until somebody answers.
 * S4  With a connection that is given up go those that stand idle: they are as old, and nobody should have to find out on each of them.
 *
 * What had been asked fails as on any broken connection (database.ts D3–D5). A crash of this process ends its connections.
 */
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { within } from '../domain/within.js'

/** What the types of `pg` do not tell. */
interface Inside {
  readonly connection: { readonly stream: Socket }
  readonly processID: number | null
  readonly _activeQuery: unknown
  readonly _sentQueryQueue: readonly unknown[]
}

const { DatabaseError } = pg

const inside = (client: pg.ClientBase): Inside => client as unknown as Inside

/** Whether something was asked that has not been answered. */
function isAsked(client: pg.ClientBase): boolean {
  const { _activeQuery: active, _sentQueryQueue: sent } = inside(client)
  return Boolean(active) || sent.length > 0
}

const isIdle = (client: pg.ClientBase): boolean => !isAsked(client) && client.getTransactionStatus() === 'I'

/** Of a connection that was given up. */
export class FellSilent extends Error {
  readonly code = 'ETIMEDOUT'
  /** Whether Postgres answers on new connections. */
  readonly answersAnew: boolean

  constructor(answersAnew: boolean) {
    super(`a connection to Postgres has fallen silent${answersAnew ? '' : ', and it does not answer anew'}`)
    this.answersAnew = answersAnew
  }
}

interface Seen {
  readonly listens: boolean
  bytesRead: number
  /** When it last said something, or had nothing to say. */
  since: number
  isSuspect: boolean
}

export interface SilenceOptions {
  readonly silenceMs: number
  /** A connection of its own, to ask about the others. */
  readonly connect: () => Promise<pg.ClientBase>
  /** How long its answer may take. */
  readonly answerMs: number
}

const looksInSilence = 4
const betweenTriesMs = 100

export class Silence {
  readonly #options: SilenceOptions
  readonly #watched = new Map<pg.ClientBase, Seen>()
  #timer: NodeJS.Timeout | null = null
  #isAway = false
  #isClosed = false

  constructor(options: SilenceOptions) {
    this.#options = options
  }

  /** S3. Throws `FellSilent`. */
  expectAnswers(): void {
    if (this.#isAway) throw new FellSilent(false)
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  /** From when it is connected until it ends. */
  watch(client: pg.ClientBase, { listens }: { readonly listens: boolean }): void {
    this.#watched.set(client, {
      listens,
      bytesRead: inside(client).connection.stream.bytesRead,
      since: performance.now(),
      isSuspect: false,
    })
    client.once('end', () => this.#watched.delete(client))
    this.#lookLater()
  }

  #lookLater(): void {
    if (this.#timer !== null || this.#watched.size === 0 || this.#isClosed) return
    const look = async () => {
      await this.#look()
      this.#timer = null
      this.#lookLater()
    }
    this.#timer = setTimeout(look, this.#options.silenceMs / looksInSilence).unref()
  }

  async #look(): Promise<void> {
    const silent = [...this.#watched].filter(([client, seen]) => this.#isSilent(client, seen))
    if (silent.length === 0) return
    const atWork = await this.#atWork()
    const speaking = [...this.#watched].filter(([client, seen]) => hears(client, seen))
    if (atWork === 'untold' || (atWork === null && speaking.length > 0)) return
    if (atWork === null) {
      this.#giveUp([...this.#watched.keys()], { answersAnew: false })
      return await this.#untilItAnswers()
    }
    const lost = silent.filter(([client, seen]) => isLost(client, seen, atWork)).map(([client]) => client)
    if (lost.length > 0) this.#giveUp([...lost, ...this.#idle()], { answersAnew: true })
  }

  #giveUp(clients: readonly pg.ClientBase[], { answersAnew }: { readonly answersAnew: boolean }): void {
    for (const client of clients) inside(client).connection.stream.destroy(new FellSilent(answersAnew))
  }

  /** S4. */
  #idle(): readonly pg.ClientBase[] {
    return [...this.#watched].filter(([client, { listens }]) => !listens && isIdle(client)).map(([client]) => client)
  }

  /** S3. */
  async #untilItAnswers(): Promise<void> {
    this.#isAway = true
    while (!this.#isClosed && (await this.#atWork()) === null) await delay(betweenTriesMs, undefined, { ref: false })
    this.#isAway = false
  }

  async #atWork(): Promise<AtWork> {
    const { connect, answerMs } = this.#options
    const client = await connect().catch((failure: unknown) => (failure instanceof DatabaseError ? 'untold' : null))
    if (client === null || client === 'untold') return client
    try {
      const answer = await within(answerMs, client.query<{ pid: number }>(`SELECT pid FROM pg_stat_activity WHERE state = 'active'`))
      return answer === undefined ? null : new Set(answer.rows.map(({ pid }) => pid))
    } catch {
      return null
    } finally {
      inside(client).connection.stream.destroy()
    }
  }

  #isSilent(client: pg.ClientBase, seen: Seen): boolean {
    if (hears(client, seen)) return false
    const now = performance.now()
    if (!(seen.listens || isAsked(client))) seen.since = now
    if (now - seen.since < this.#options.silenceMs) return false
    if (isAsked(client)) return true
    seen.since = now
    client.query('SELECT').catch(() => undefined) // S2
    return false
  }
}

/** Whether it has said something since it was last looked at. */
function hears(client: pg.ClientBase, seen: Seen): boolean {
  const { bytesRead } = inside(client).connection.stream
  if (bytesRead === seen.bytesRead) return false
  Object.assign(seen, { bytesRead, since: performance.now(), isSuspect: false })
  return true
}

/** The processes of Postgres that are at work for somebody; it may refuse to tell, for want of a connection; null where nobody answers. */
type AtWork = ReadonlySet<number> | 'untold' | null

/** S1. Its answer may have been on the way when Postgres was asked: only the second such look counts. */
function isLost(client: pg.ClientBase, seen: Seen, atWork: ReadonlySet<number>): boolean {
  const wasSuspect = seen.isSuspect
  seen.isSuspect = isAsked(client) && !atWork.has(inside(client).processID ?? 0)
  return seen.isSuspect && wasSuspect
}
