/** A runner held by hand: it reads its wake stream and claims, call by call, what the test tells it to (spec/07 §3–4). */
import { eventually } from './eventually.js'
import { parseWake, type Wake } from './wake.js'
import { type Answer, expectStatus, type Wire } from './wire.js'

export interface Announced {
  readonly type: string
  readonly subscription_id: string
  readonly stream: string
  readonly generation: number
  readonly ts: number
}

export interface RunnerCall {
  readonly as?: string | undefined
  readonly at?: string | undefined
}

export const bearer = (token: string): Readonly<Record<string, string>> => ({ authorization: `Bearer ${token}` })

export class HandRunner {
  readonly id: string
  readonly wire: Wire
  readonly #owner: string | undefined

  private constructor(wire: Wire, id: string, owner: string | undefined) {
    this.wire = wire
    this.id = id
    this.#owner = owner
  }

  /** Registered, and not online: it never sends a heartbeat by itself. */
  static async start(wire: Wire, id: string, owner?: string): Promise<HandRunner> {
    const runner = new HandRunner(wire, id, owner)
    await runner.register()
    return runner
  }

  /** The policy of an entity that is pinned to it. */
  get policy(): { readonly dispatch_policy: object } {
    return { dispatch_policy: { targets: [{ type: 'runner', runnerId: this.id }] } }
  }

  async register(more: object = {}): Promise<Readonly<Record<string, unknown>>> {
    const body = { id: this.id, label: this.id, ...more }
    return expectStatus(201, await this.#ask('POST', '/_electric/runners', body)).body as Readonly<Record<string, unknown>>
  }

  async heartbeat(leaseMs = 60_000): Promise<void> {
    expectStatus(200, await this.#ask('POST', `/_electric/runners/${this.id}/heartbeat`, { lease_ms: leaseMs }))
  }

  async administer(action: 'enable' | 'disable'): Promise<void> {
    expectStatus(200, await this.#ask('POST', `/_electric/runners/${this.id}/${action}`))
  }

  async health(): Promise<Readonly<Record<string, Readonly<Record<string, unknown>>>>> {
    return expectStatus(200, await this.#ask('GET', `/_electric/runners/${this.id}/health`)).body as never // as its tests read it
  }

  /** All of its wake stream. */
  async announced(url?: string): Promise<readonly Announced[]> {
    const { body } = expectStatus(200, await this.#ask('GET', `/runners/${this.id}/wake?offset=-1`))
    return (body as readonly Announced[]).filter(({ stream }) => url === undefined || `/${stream}` === `${url}/main`)
  }

  /** The `nth` event about an entity, once it is there. */
  async event(url: string, nth = 1): Promise<Announced> {
    return await eventually(async () => (await this.announced(url))[nth - 1])
  }

  /** A new entity with a first message, and the event that tells of it. */
  async woken(url: string, body: object = {}): Promise<Announced> {
    await this.wire.spawned(url, { initialMessage: 'hello', ...this.policy, ...body }, this.#owner)
    return await this.event(url)
  }

  async claim(event: unknown, call: RunnerCall & { readonly id?: string } = {}): Promise<Answer> {
    return await this.#ask('POST', `/_electric/runners/${call.id ?? this.id}/claim`, event, call)
  }

  /** A claim that brings a wake. */
  async claimed(event: unknown, call: RunnerCall = {}): Promise<Wake> {
    const parsed = parseWake(expectStatus(200, await this.claim(event, call)).body)
    if ('problem' in parsed) throw new Error(parsed.problem)
    return parsed.wake
  }

  /** A call to the callback of a wake. */
  async say(
    wake: Wake,
    body: object,
    { token = wake.claimToken, ...call }: RunnerCall & { readonly token?: string } = {},
  ): Promise<Answer> {
    const headers = { 'electric-runner-id': this.id, ...bearer(token) }
    return await this.#ask('POST', `/_electric/wake-callbacks/${wake.wakeId}`, { epoch: wake.epoch, ...body }, { ...call, headers })
  }

  async writeToken(wake: Wake, call: RunnerCall = {}): Promise<string> {
    const { body } = expectStatus(200, await this.say(wake, { wakeId: wake.wakeId }, call))
    return (body as { readonly writeToken: string }).writeToken
  }

  async heartbeatOf(wake: Wake, call: RunnerCall = {}): Promise<Answer> {
    return await this.say(wake, {}, call)
  }

  /** `offset`: default all of the stream. */
  async done(wake: Wake, { offset, ...call }: RunnerCall & { readonly offset?: string } = {}): Promise<Answer> {
    const acks = [{ path: wake.streamPath, offset: offset ?? (await this.tailOf(wake.entity.url)) }]
    return await this.say(wake, { acks, done: true }, call)
  }

  async append(wake: Wake, token: string, ...events: readonly object[]): Promise<Answer> {
    const headers = { 'content-type': 'application/json', ...bearer(token) }
    return await this.#ask('POST', `${wake.entity.url}/main`, events, { headers })
  }

  async tailOf(url: string): Promise<string> {
    const { headers } = await this.#ask('HEAD', `${url}/main`)
    return headers.get('stream-next-offset') ?? ''
  }

  async #ask(
    method: string,
    path: string,
    body?: unknown,
    { as = this.#owner, at, headers = {} }: RunnerCall & { readonly headers?: Readonly<Record<string, string>> } = {},
  ): Promise<Answer> {
    return await this.wire.ask(method, path, body, {
      headers,
      ...(as === undefined ? {} : { as }),
      ...(at === undefined ? {} : { at }),
    })
  }
}

/** The lease of a wake is over now, as if its runner had been silent for all of it; returns when the server has drawn its conclusions. */
export async function endLease(wire: Wire, { wakeId }: Pick<Wake, 'wakeId'>): Promise<void> {
  await eventually(
    async () =>
      (await wire.sql('UPDATE subscriptions SET lease_until = now() WHERE wake_id = $1 AND lease_until IS NOT NULL RETURNING id', wakeId))
        .length > 0,
  )
  await eventually(async () => (await wire.sql('SELECT FROM subscriptions WHERE wake_id = $1', wakeId)).length === 0)
}

/** All outstanding wakes are due for their next announcement, as if time had passed. */
export async function timePasses(wire: Wire): Promise<void> {
  await wire.sql('UPDATE subscriptions SET due_at = now() WHERE due_at IS NOT NULL')
}

/** How the server has the one subscription of an entity. */
export async function subscriptionOf(wire: Wire, url: string): Promise<Readonly<Record<string, unknown>>> {
  return (await wire.sql('SELECT * FROM subscriptions WHERE entity_url = $1', url))[0] ?? {}
}
