/**
 * Load on a house, and the ledger of it: every request with what came back.
 *
 * L1  A caller has one request under way at a time, so what it was told is in the order in which it happened.
 * L2  Entities and messages have names of their own: whatever is found later is found once in the ledger.
 */
import { setTimeout as delay } from 'node:timers/promises'

/** `done`: acknowledged. `refused`: said to have had no effect. `unknown`: no answer, or one that says so. */
export type Outcome = 'done' | 'refused' | 'unknown'

export interface Entry {
  readonly url: string
  readonly outcome: Outcome
  /** Status and body, or the failure of the connection. */
  readonly answer: string
}

export interface Spawn extends Entry {
  readonly kind: 'spawn'
  /** Payload of the first message. */
  readonly message: string
}
export interface Send extends Entry {
  readonly kind: 'send'
  readonly message: string
}
export interface Kill extends Entry {
  readonly kind: 'kill'
}
export type Request = Spawn | Send | Kill

export interface LoadOptions {
  /** Of every replica; callers spread over them. */
  readonly urls: readonly string[]
  /** Begins the ids of all entities of this load. */
  readonly name: string
  readonly callers?: number
  /** `stops`: a caller ends with its first lost connection. `waits`: it goes on with the next entity. */
  readonly onLost: 'stops' | 'waits'
  /** What a caller waits for before it sends a message to an entity, through this server; default nothing. */
  readonly beforeSend?: (base: string, url: string) => Promise<void>
}

/** Requests longer than this are lost: the server's own deadlines are shorter. */
const requestLimitMs = 45_000
export const json = { 'content-type': 'application/json' }

export class Load {
  readonly requests: Request[] = []
  readonly #options: LoadOptions
  readonly #stopping = new AbortController()
  readonly #callers: Promise<unknown>

  private constructor(options: LoadOptions) {
    this.#options = options
    this.#callers = Promise.all(Array.from({ length: options.callers ?? 16 }, (_, caller) => this.#call(caller)))
  }

  static start(options: LoadOptions): Load {
    return new Load(options)
  }

  /** All of the load, when every caller has its last answer. */
  async stop(): Promise<readonly Request[]> {
    this.#stopping.abort()
    await this.#callers
    return this.requests
  }

  /** Waits until no caller goes on. */
  async ended(): Promise<readonly Request[]> {
    await this.#callers
    return this.requests
  }

  count(outcome: Outcome): number {
    return this.requests.filter((request) => request.outcome === outcome).length
  }

  /** Entity after entity: spawned with a first message, sent two more, every second one killed. */
  async #call(caller: number): Promise<void> {
    const base = this.#options.urls[caller % this.#options.urls.length] ?? ''
    for (let nth = 0; !this.#stopping.signal.aborted; nth += 1) {
      const url = `/chat/${this.#options.name}-${caller}-${nth}`
      if (!(await this.#entity(base, url, nth % 2 === 1))) return
    }
  }

  /** False when the caller shall end. */
  async #entity(base: string, url: string, kills: boolean): Promise<boolean> {
    const ask = async <Kind extends Request['kind']>(kind: Kind, message: string) => await this.#ask(base, kind, url, message)
    const spawned = await ask('spawn', `${url} first`)
    if (spawned.outcome !== 'done') return await this.#afterLoss(spawned)
    for (const nth of [1, 2]) {
      await this.#options.beforeSend?.(base, url)
      const sent = await ask('send', `${url} ${nth}`)
      if (sent.outcome === 'unknown') return await this.#afterLoss(sent)
    }
    const killed = kills ? await ask('kill', '') : null
    return killed?.outcome === 'unknown' ? await this.#afterLoss(killed) : true
  }

  /** A server that answers lives: on a busy machine it may have asked for patience. */
  async #afterLoss({ answer }: Entry): Promise<boolean> {
    if (this.#options.onLost === 'stops' && !isOfServer(answer)) return false
    await delay(50) // a caller that is refused at once does not spin
    return true
  }

  async #ask(base: string, kind: Request['kind'], url: string, message: string): Promise<Entry> {
    const { outcome, answer } = await asked(base, kind, url, message)
    const entry = { url, outcome, answer }
    this.requests.push(kind === 'kill' ? { kind, ...entry } : { kind, message, ...entry })
    return entry
  }
}

/** Begins with a status. */
const isOfServer = (answer: string): boolean => /^\d{3} /.test(answer)

const routes = {
  spawn: { method: 'PUT', suffix: '', body: (message: string) => ({ initialMessage: message }) },
  send: { method: 'POST', suffix: '/send', body: (message: string) => ({ payload: message }) },
  kill: { method: 'DELETE', suffix: '', body: () => undefined },
} as const

async function asked(base: string, kind: Request['kind'], url: string, message: string): Promise<Pick<Entry, 'outcome' | 'answer'>> {
  const { method, suffix, body } = routes[kind]
  const sent = body(message)
  return await outcomeOf(`${base}/_electric/entities${url}${suffix}`, {
    method,
    ...(sent === undefined ? {} : { headers: json, body: JSON.stringify(sent) }),
  })
}

/** Sends one request and says what became of it; `text` is all of the answer. */
export async function outcomeOf(url: string, init: RequestInit): Promise<Pick<Entry, 'outcome' | 'answer'> & { readonly text: string }> {
  try {
    const response = await fetch(url, { ...init, signal: AbortSignal.timeout(requestLimitMs) })
    const text = await response.text()
    const outcome = response.ok ? 'done' : response.status < 500 ? 'refused' : 'unknown'
    return { outcome, answer: `${response.status} ${text.slice(0, 300)}`, text }
  } catch (failure) {
    const answer = failure instanceof Error ? `${failure.message}: ${String(failure.cause)}` : String(failure)
    return { outcome: 'unknown', answer, text: '' }
  }
}
