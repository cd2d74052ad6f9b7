/**
 * A house seen from outside: requests over HTTP, and SQL for what only the database can tell.
 *
 * Unless the test says how many replicas it wants, there are two, which take the requests in turn: any replica may serve any request. Where
 * streams live on the foreign test server there is one: that server loses appends that two clients send at once (spec/14 §5, D1b).
 */
import { request as rawRequest } from 'node:http'
import pg from 'pg'
import { House, type HouseOptions } from './house.js'

export interface Answer {
  readonly status: number
  readonly text: string
  readonly body: unknown
  readonly headers: Headers
}

export interface WireEvent {
  readonly type: string
  readonly key: string
  readonly value?: Readonly<Record<string, unknown>>
  readonly headers: Readonly<Record<string, unknown>>
}

export interface Ask {
  /** Principal; default: none, which is `system:dev-local`. */
  readonly as?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Which replica; default: the next in turn, or the first where the test chose their number. */
  readonly at?: string
}

export const sam = '/principal/user%3Asam'
export const refusal = (code: string, message: string, details?: unknown) => ({
  error: { code, message, ...(details === undefined ? {} : { details }) },
})

export class Wire {
  readonly house: House
  readonly #database: pg.Pool
  readonly #takesTurns: boolean
  #turn = 0

  private constructor(house: House, takesTurns: boolean) {
    this.house = house
    this.#takesTurns = takesTurns
    this.#database = new pg.Pool({ connectionString: house.databaseUrl, max: 2 })
    this.#database.on('error', () => undefined) // tests kill Postgres
  }

  /** A house with the type `chat`, which everybody of kind `user` named here may spawn. */
  static async start(options: HouseOptions = {}): Promise<Wire> {
    const wire = await Wire.startBare(options)
    await wire.register('chat')
    return wire
  }

  /** A house without any type of its own, as where nobody may register one without a principal. */
  static async startBare(options: HouseOptions = {}): Promise<Wire> {
    const replicas = options.replicas ?? (options.streams === 'http' ? 1 : 2)
    return new Wire(await House.start({ ...options, replicas }), options.replicas === undefined)
  }

  async stop(): Promise<void> {
    await this.#database.end()
    await this.house.stop()
  }

  /** Of the replica whose turn it is. */
  get url(): string {
    const { url, urls } = this.house
    if (!this.#takesTurns) return url
    this.#turn += 1
    return urls[this.#turn % urls.length] ?? url
  }

  async ask(method: string, path: string, body?: unknown, { as, headers = {}, at = this.url }: Ask = {}): Promise<Answer> {
    const response = await fetch(at + path, {
      method,
      headers: { ...headers, ...(as === undefined ? {} : { 'electric-principal': as }) },
      body: body === undefined ? null : typeof body === 'string' || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
      signal: AbortSignal.timeout(20_000), // nothing hangs
    })
    return answer(response.status, await response.text(), response.headers)
  }

  /** The path as it is, without what `fetch` would resolve. */
  async askRaw(method: string, path: string, body: string | Buffer = ''): Promise<Answer> {
    const { hostname, port } = new URL(this.url)
    return await new Promise<Answer>((resolve, reject) => {
      const headers = { 'content-length': Buffer.byteLength(body) } // Node leaves it out where a method rarely has a body
      const sent = rawRequest({ hostname, port, method, path, headers, timeout: 20_000, agent: false }, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => resolve(answer(response.statusCode ?? 0, Buffer.concat(chunks).toString('utf8'), new Headers())))
        response.on('error', reject)
      })
      sent.on('timeout', () => sent.destroy(new Error(`${method} ${path} hangs`)))
      sent.on('error', reject)
      sent.end(body)
    })
  }

  async register(name: string, more: object = {}, as?: string): Promise<Answer> {
    return expectStatus(
      201,
      await this.ask('POST', '/_electric/entity-types', { name, description: name, ...more }, as === undefined ? {} : { as }),
    )
  }

  async spawn(url: string, body: unknown = {}, as?: string): Promise<Answer> {
    return await this.ask('PUT', `/_electric/entities${url}`, body, as === undefined ? {} : { as })
  }

  /** A spawn that succeeds. */
  async spawned(url: string, body: unknown = {}, as?: string): Promise<Readonly<Record<string, unknown>>> {
    return expectStatus(201, await this.spawn(url, body, as)).body as Readonly<Record<string, unknown>>
  }

  async get(url: string, as?: string): Promise<Answer> {
    return await this.ask('GET', `/_electric/entities${url}`, undefined, as === undefined ? {} : { as })
  }

  async statusOf(url: string): Promise<unknown> {
    return (expectStatus(200, await this.get(url)).body as { status: unknown }).status
  }

  async send(url: string, body: unknown, as?: string): Promise<Answer> {
    return await this.ask('POST', `/_electric/entities${url}/send`, body, as === undefined ? {} : { as })
  }

  async signal(url: string, body: unknown, as?: string): Promise<Answer> {
    return await this.ask('POST', `/_electric/entities${url}/signal`, body, as === undefined ? {} : { as })
  }

  async kill(url: string, as?: string): Promise<Answer> {
    return await this.ask('DELETE', `/_electric/entities${url}`, undefined, as === undefined ? {} : { as })
  }

  async stream(url: string): Promise<Answer> {
    return await this.ask('GET', `${url}/main?offset=-1`)
  }

  async events(url: string): Promise<readonly WireEvent[]> {
    return expectStatus(200, await this.stream(url)).body as readonly WireEvent[]
  }

  async sql(text: string, ...values: readonly unknown[]): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return (await this.#database.query(text, [...values])).rows
  }

  /** Puts an entity into a status that only a dispatch reaches. */
  async putInto(status: string, url: string): Promise<void> {
    if (status === 'stopping') await this.#seemWorkedOn(url)
    await this.sql('UPDATE entities SET status = $1 WHERE url = $2', status, url)
  }

  /** What is to stop and has nobody who works on it is stopped by the next sweep. */
  async #seemWorkedOn(url: string): Promise<void> {
    await this.sql(
      `INSERT INTO subscriptions (tenant_id, id, type, configuration, webhook_url, lease_ttl_ms, generation, wake_id, wake_path, wake_entity_url, lease_until)
       SELECT 'default', 'test:' || $1::text, 'webhook', 'test', 'http://127.0.0.1:9/', 30000, 1, 'w_test:' || $1::text, $1::text || '/main', $1::text, now() + interval '1 hour'
        WHERE NOT EXISTS (SELECT FROM subscriptions WHERE wake_entity_url = $1 AND lease_until IS NOT NULL)`,
      url,
    )
  }

  /** Rows per table: what a refused request must not change. */
  async counts(): Promise<Readonly<Record<string, unknown>>> {
    const [row = {}] = await this.sql(`
      SELECT (SELECT count(*) FROM entities) AS entities, (SELECT count(*) FROM lineage) AS lineage, (SELECT count(*) FROM users) AS users,
             (SELECT count(*) FROM streams) AS streams, (SELECT count(*) FROM stream_entries) AS entries,
             (SELECT count(*) FROM operations) AS operations, (SELECT count(*) FROM operation_payloads) AS payloads,
             (SELECT json_agg(r ORDER BY id)::text FROM runners r) AS runners,
             (SELECT json_agg(d ORDER BY runner_id)::text FROM runner_runtime_diagnostics d) AS heartbeats,
             (SELECT string_agg(url || status, ' ' ORDER BY url) FROM entities) AS statuses`)
    return row
  }
}

function answer(status: number, text: string, headers: Headers): Answer {
  return { status, text, body: parsedOrText(text), headers }
}

function parsedOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

export function expectStatus(status: number, given: Answer): Answer {
  if (given.status !== status) throw new Error(`${given.status} instead of ${status}: ${given.text.slice(0, 500)}`)
  return given
}
