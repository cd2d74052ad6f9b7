/** Just enough of an agents server to try the reference handler and runner on: streams in memory, callbacks, claims, signatures. */
import { generateKeyPairSync, sign } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { StreamEvent } from '../support/wake.js'

export interface Heard {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
}

interface Given {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

interface FakeStream {
  readonly entries: { readonly items: readonly Record<string, unknown>[]; readonly offset: string }[]
  readonly producers: Map<string, { epoch: number; seq: number }>
  isClosed: boolean
}

type Override = (heard: Heard) => Given | undefined

const zero = `${'0'.repeat(16)}_${'0'.repeat(16)}`
export const offset = (position: number): string => `${'0'.repeat(16)}_${String(position).padStart(16, '0')}`

export class FakeServer {
  readonly heard: Heard[] = []
  readonly #streams = new Map<string, FakeStream>()
  readonly #waiting = new Set<() => void>()
  readonly #overrides: { readonly path: RegExp; readonly give: Override }[] = []
  readonly #keys = generateKeyPairSync('ed25519')
  #server: Server | undefined
  url = ''
  maxAgeSeconds = 300

  static async start(): Promise<FakeServer> {
    const fake = new FakeServer()
    const server = createServer((request, response) => {
      fake.#serve(request, response).catch(() => response.destroy())
    })
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
    fake.#server = server
    fake.url = `http://127.0.0.1:${address.port}`
    return fake
  }

  async stop(): Promise<void> {
    const closed = new Promise((done) => this.#server?.close(done))
    this.#server?.closeAllConnections()
    await closed
  }

  /** Answers for paths that fit; the latest counts; undefined leaves it to the ones before. */
  override(path: RegExp, give: Override): void {
    this.#overrides.unshift({ path, give })
  }

  callsTo(path: RegExp, method = 'POST'): readonly Heard[] {
    return this.heard.filter((heard) => heard.method === method && path.test(heard.path))
  }

  /** One entry; its offset is its number times ten. */
  append(path: string, ...items: readonly Record<string, unknown>[]): string {
    const { entries } = this.#stream(path)
    const at = offset((entries.length + 1) * 10)
    entries.push({ items, offset: at })
    this.#changed()
    return at
  }

  closeStream(path: string): void {
    this.#stream(path).isClosed = true
    this.#changed()
  }

  events(path: string): readonly StreamEvent[] {
    return this.#stream(path).entries.flatMap(({ items, offset: at }) => items.map((item) => stamped(item, at) as StreamEvent))
  }

  wake(url: string, from: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
    const wakeId = `w_${url.replaceAll('/', '')}_1`
    return {
      consumerId: wakeId,
      wakeId,
      epoch: 1,
      streamPath: `${url}/main`,
      streams: [{ path: `${url}/main`, offset: from }],
      callback: `${this.url}/_electric/wake-callbacks/${wakeId}`,
      claimToken: 'claim-token',
      triggerEvent: 'inbox',
      entity: { type: 'chat', status: 'idle', url, streams: { main: `${url}/main` }, tags: {}, spawnArgs: {} },
      principal: { url: '/principal/user%3Asam', key: 'user:sam', kind: 'user', id: 'sam' },
      ...more,
    }
  }

  signature(body: string, at = Math.floor(Date.now() / 1000), kid = 'ds_1'): string {
    const signed = sign(null, Buffer.from(`${at}.${body}`), this.#keys.privateKey)
    return `t=${at},kid=${kid},ed25519=${signed.toString('base64url')}`
  }

  async deliver(to: string, wake: unknown, headers: Readonly<Record<string, string>> = {}): Promise<{ status: number; body: unknown }> {
    const body = JSON.stringify(wake)
    const response = await fetch(to, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'webhook-signature': this.signature(body), ...headers },
      body,
    })
    return { status: response.status, body: await response.json() }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const text = Buffer.concat(chunks).toString('utf8')
    const url = new URL(request.url ?? '/', this.url)
    const heard: Heard = {
      method: request.method ?? '',
      path: url.pathname,
      headers: request.headers,
      body: text === '' ? undefined : JSON.parse(text),
    }
    this.heard.push(heard)
    const given = this.#overridden(heard) ?? (await this.#answer(heard, url.searchParams))
    response.writeHead(given.status, { 'content-type': 'application/json', ...given.headers })
    response.end(given.body === undefined ? undefined : JSON.stringify(given.body))
  }

  #overridden(heard: Heard): Given | undefined {
    for (const { path, give } of this.#overrides) {
      const given = path.test(heard.path) ? give(heard) : undefined
      if (given !== undefined) return given
    }
    return undefined
  }

  async #answer(heard: Heard, query: URLSearchParams): Promise<Given> {
    const { path, body } = heard
    if (path === '/__ds/jwks.json') {
      const { x } = this.#keys.publicKey.export({ format: 'jwk' })
      const keys = [{ kty: 'OKP', crv: 'Ed25519', x, kid: 'ds_1', use: 'sig', alg: 'EdDSA' }]
      return { status: 200, headers: { 'cache-control': `public, max-age=${this.maxAgeSeconds}` }, body: { keys } }
    }
    if (path.startsWith('/_electric/wake-callbacks/')) {
      const isClaim = typeof body === 'object' && body !== null && 'wakeId' in body
      return { status: 200, body: isClaim ? { ok: true, writeToken: 'write-token' } : { ok: true, next_wake: false } }
    }
    if (path === '/_electric/runners') return { status: 201, body: { id: 'r1', wake_stream: '/runners/r1/wake' } }
    if (path.endsWith('/heartbeat')) return { status: 200, body: {} }
    return heard.method === 'POST' ? this.#take(heard) : await this.#read(path, query)
  }

  #take({ path, headers, body }: Heard): Given {
    const stream = this.#stream(path)
    const producer = { id: String(headers['producer-id']), epoch: Number(headers['producer-epoch']), seq: Number(headers['producer-seq']) }
    const known = stream.producers.get(producer.id)
    if (known !== undefined && producer.epoch < known.epoch) return { status: 403, headers: { 'producer-epoch': String(known.epoch) } }
    if (known !== undefined && producer.epoch === known.epoch && producer.seq <= known.seq) return { status: 204 }
    stream.producers.set(producer.id, producer)
    const at = this.append(path, ...(body as readonly Record<string, unknown>[]))
    return { status: 200, headers: { 'stream-next-offset': at } }
  }

  /** As if another had written with this epoch before. */
  fence(path: string, producerId: string, epoch: number): void {
    this.#stream(path).producers.set(producerId, { epoch, seq: 0 })
  }

  async #read(path: string, query: URLSearchParams): Promise<Given> {
    const stream = this.#stream(path)
    const from = query.get('offset') ?? '-1'
    const fresh = () => stream.entries.filter(({ offset: at }) => at > from)
    if (query.get('live') === 'long-poll' && fresh().length === 0 && !stream.isClosed) await this.#change()
    const tail = stream.entries.at(-1)?.offset ?? zero
    const closed: Readonly<Record<string, string>> = stream.isClosed ? { 'stream-closed': 'true' } : {}
    const body = fresh().flatMap(({ items, offset: at }) => items.map((item) => stamped(item, at)))
    return { status: 200, headers: { 'stream-next-offset': tail, 'stream-up-to-date': 'true', 'stream-cursor': '1', ...closed }, body }
  }

  #stream(path: string): FakeStream {
    const known = this.#streams.get(path)
    if (known !== undefined) return known
    const made: FakeStream = { entries: [], producers: new Map(), isClosed: false }
    this.#streams.set(path, made)
    return made
  }

  #changed(): void {
    for (const go of this.#waiting) go()
    this.#waiting.clear()
  }

  async #change(): Promise<void> {
    await new Promise<void>((changed) => this.#waiting.add(changed))
  }
}

function stamped(item: Record<string, unknown>, at: string): Record<string, unknown> {
  const { headers } = item
  return typeof headers === 'object' && headers !== null ? { ...item, headers: { ...headers, offset: at } } : item
}
