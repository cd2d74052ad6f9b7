/** The subscription API as tests speak it, on one of its views. */
import { type Answer, type Ask, expectStatus, type Wire } from './wire.js'

export interface Subscription {
  readonly id: string
  readonly status: string
  readonly streams: readonly { readonly path: string; readonly link_type: string; readonly acked_offset: string }[]
}

export interface Claimed {
  readonly wake_id: string
  readonly generation: number
  readonly token: string
  readonly streams: readonly { readonly path: string; readonly tail_offset: string; readonly has_pending: boolean }[]
}

export class Subscriber {
  readonly wire: Wire
  readonly #prefix: string
  #fresh = 0

  constructor(wire: Wire, prefix = '') {
    this.wire = wire
    this.#prefix = prefix
  }

  /** A name that nobody has used. */
  fresh(what: string): string {
    this.#fresh += 1
    return `${what}-${this.#fresh}`
  }

  ask = async (method: string, below: string, body?: unknown, ask: Ask = {}): Promise<Answer> =>
    await this.wire.ask(method, `${this.#prefix}/__ds/subscriptions/${below}`, body, ask)

  put = async (id: string, body: unknown, ask: Ask = {}): Promise<Answer> => await this.ask('PUT', encodeURIComponent(id), body, ask)

  async made(id: string, body: unknown, ask: Ask = {}): Promise<Subscription> {
    return expectStatus(201, await this.put(id, body, ask)).body as Subscription
  }

  async get(id: string): Promise<Subscription> {
    return expectStatus(200, await this.ask('GET', encodeURIComponent(id))).body as Subscription
  }

  async ackedOf(id: string, path: string): Promise<string | undefined> {
    return (await this.get(id)).streams.find((stream) => stream.path === path)?.acked_offset
  }

  delete = async (id: string, ask: Ask = {}): Promise<Answer> => await this.ask('DELETE', encodeURIComponent(id), undefined, ask)

  claim = async (id: string, worker: string, ask: Ask = {}): Promise<Answer> => await this.ask('POST', `${id}/claim`, { worker }, ask)

  async claimed(id: string, worker: string): Promise<Claimed> {
    return expectStatus(200, await this.claim(id, worker)).body as Claimed
  }

  /** A holder's word, with its token and without a principal that counts. */
  say = async (verb: 'ack' | 'callback' | 'release', id: string, token: string, body: unknown): Promise<Answer> =>
    await this.ask('POST', `${id}/${verb}`, body, { as: 'nonsense', headers: { authorization: `Bearer ${token}` } })

  /** Makes a JSON stream; its offsets count its entries. */
  async stream(path: string, ...entries: readonly unknown[]): Promise<void> {
    expectStatus(201, await this.putStream(path))
    for (const entry of entries) await this.append(path, entry)
  }

  putStream = async (path: string): Promise<Answer> =>
    await this.wire.ask('PUT', this.#at(path), undefined, { headers: { 'content-type': 'application/json' } })

  async stands(path: string): Promise<boolean> {
    return (await this.wire.ask('HEAD', this.#at(path))).status === 200
  }

  /** Makes it with a first entry. */
  async streamWith(path: string, entry: unknown): Promise<void> {
    expectStatus(201, await this.wire.ask('PUT', this.#at(path), entry, { headers: { 'content-type': 'application/json' } }))
  }

  deleteStream = async (path: string, ask: Ask = {}): Promise<Answer> => await this.wire.ask('DELETE', this.#at(path), undefined, ask)

  /** Makes it as a fork of another one, at its tail. */
  async forked(path: string, from: string): Promise<void> {
    expectStatus(201, await this.wire.ask('PUT', this.#at(path), undefined, { headers: { 'stream-forked-from': this.#at(from) } }))
  }

  /** Where the stream ends then. */
  async append(path: string, entry: unknown): Promise<string> {
    const sent = await this.wire.ask('POST', this.#at(path), entry, { headers: { 'content-type': 'application/json' } })
    return expectStatus(204, sent).headers.get('stream-next-offset') ?? ''
  }

  async tailOf(path: string): Promise<string> {
    return expectStatus(200, await this.wire.ask('HEAD', this.#at(path))).headers.get('stream-next-offset') ?? ''
  }

  async entries(path: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return expectStatus(200, await this.wire.ask('GET', `${this.#at(path)}?offset=-1`)).body as readonly Readonly<Record<string, unknown>>[]
  }

  #at(path: string): string {
    return `${this.#prefix}/${path}`
  }
}
