/**
 * A handler held by hand: every delivery is answered 200 and nothing is done; what a runtime would do next, the test does call by call.
 *
 * Requests take turns among the replicas, as those of a `Wire` do.
 */
import { type EventuallyOptions, eventually } from './eventually.js'
import type { Wake } from './wake.js'
import { WebhookHandler } from './webhook-handler.js'
import type { Answer, Wire } from './wire.js'

export interface Said {
  readonly epoch?: unknown
  readonly wakeId?: unknown
  readonly acks?: unknown
  readonly done?: unknown
}

export const bearer = (token: string): Readonly<Record<string, string>> => ({ authorization: `Bearer ${token}` })

export class HandHeld {
  readonly wire: Wire
  readonly handler: WebhookHandler

  private constructor(wire: Wire, handler: WebhookHandler) {
    this.wire = wire
    this.handler = handler
  }

  /** Serves the entity type `name`, which is registered with `more`. */
  static async start(wire: Wire, name = 'held', more: object = {}, as?: string): Promise<HandHeld> {
    const handler = await WebhookHandler.start({ baseUrl: () => wire.url, handler: async () => undefined })
    handler.order({ kind: 'status', status: 200, body: '{"ok":true}' })
    await wire.register(name, { default_dispatch_policy: { targets: [{ type: 'webhook', url: handler.url }] }, ...more }, as)
    return new HandHeld(wire, handler)
  }

  async stop(): Promise<void> {
    await this.handler.stop()
  }

  wakesOf(url: string): readonly Wake[] {
    return this.handler.log.deliveriesTo(url).flatMap(({ wake }) => wake ?? [])
  }

  /** The `nth` wake of an entity, when it has been delivered and its lease runs. */
  async wake(url: string, nth = 1): Promise<Wake> {
    const wake = await eventually(() => this.wakesOf(url)[nth - 1])
    await eventually(async () => (await this.leaseOf(wake)) !== null)
    return wake
  }

  /** A new entity with a first message, and its first wake. */
  async woken(url: string, as?: string): Promise<Wake> {
    await this.wire.spawned(url, { initialMessage: 'first' }, as)
    return await this.wake(url)
  }

  /** The same, claimed: wake and write token. */
  async claimed(url: string): Promise<{ readonly wake: Wake; readonly writeToken: string }> {
    const wake = await this.woken(url)
    return { wake, writeToken: this.tokenIn(await this.claim(wake)) }
  }

  tokenIn({ status, body, text }: Answer): string {
    const { writeToken } = body as { readonly writeToken?: unknown }
    if (status !== 200 || typeof writeToken !== 'string') throw new Error(`no write token: ${status} ${text}`)
    return writeToken
  }

  /** Any call to the callback of a wake. */
  async say(wake: Pick<Wake, 'wakeId'>, body: unknown, headers: Readonly<Record<string, string>>): Promise<Answer> {
    return await this.wire.ask('POST', `/_electric/wake-callbacks/${wake.wakeId}`, body, { headers })
  }

  async claim(wake: Wake, token: string = wake.claimToken, at?: string): Promise<Answer> {
    const path = `/_electric/wake-callbacks/${wake.wakeId}`
    const body = { epoch: wake.epoch, wakeId: wake.wakeId }
    return await this.wire.ask('POST', path, body, { headers: bearer(token), ...(at === undefined ? {} : { at }) })
  }

  async heartbeat(wake: Wake, said: Said = {}): Promise<Answer> {
    return await this.say(wake, { epoch: wake.epoch, ...said }, bearer(wake.claimToken))
  }

  /** `offset`: default all of the stream. */
  async done(wake: Wake, offset?: string): Promise<Answer> {
    const acked = offset ?? (await this.tailOf(wake.entity.url))
    return await this.heartbeat(wake, { acks: [{ path: wake.streamPath, offset: acked }], done: true })
  }

  async append(url: string, events: unknown, token: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    const sent = { 'content-type': 'application/json', ...(token === '' ? {} : bearer(token)), ...headers }
    return await this.wire.ask('POST', `${url}/main`, events, { headers: sent })
  }

  async tailOf(url: string): Promise<string> {
    const head = await this.wire.ask('HEAD', `${url}/main`)
    return head.headers.get('stream-next-offset') ?? ''
  }

  async leaseOf({ wakeId }: Pick<Wake, 'wakeId'>): Promise<unknown> {
    const [row] = await this.wire.sql('SELECT lease_until FROM subscriptions WHERE wake_id = $1', wakeId)
    return row?.lease_until ?? null
  }

  async endLease({ wakeId }: Pick<Wake, 'wakeId'>): Promise<void> {
    await endLease(this.wire, wakeId)
  }
}

/** The lease of a wake is over now, as if its handler had been silent for all of it; returns when the server has drawn its conclusions. */
export async function endLease(wire: Wire, wakeId: string): Promise<void> {
  await eventually(async () => {
    const ended = await wire.sql(
      'UPDATE subscriptions SET lease_until = now() WHERE wake_id = $1 AND lease_until IS NOT NULL RETURNING id',
      wakeId,
    )
    return ended.length > 0
  })
  await eventually(async () => (await wire.sql('SELECT FROM subscriptions WHERE wake_id = $1', wakeId)).length === 0)
}

/** All that dispatch has written down, and the entities: what a refused call must not change. */
export async function dispatchRows(wire: Wire): Promise<unknown> {
  return await Promise.all(
    [
      'SELECT * FROM subscriptions ORDER BY id',
      'SELECT * FROM subscription_links ORDER BY path, subscription_id',
      'SELECT * FROM write_tokens ORDER BY path',
      'SELECT * FROM consumer_claims ORDER BY consumer_id, epoch',
      'SELECT * FROM entity_dispatch_state ORDER BY entity_url',
      'SELECT url, status FROM entities ORDER BY url',
      'SELECT count(*) FROM stream_entries',
    ].map(async (text) => await wire.sql(text)),
  )
}

/** Waits until no wake has left anything behind: nothing in flight, no token, no claim, nobody busy. */
export async function nothingIsLeft(wire: Wire, options: EventuallyOptions = {}): Promise<void> {
  await eventually(async () => {
    const [left = {}] = await wire.sql(`
      SELECT (SELECT count(*)::int FROM subscriptions WHERE wake_id IS NOT NULL OR lease_until IS NOT NULL OR due_at IS NOT NULL OR holder IS NOT NULL) AS wakes,
             (SELECT count(*)::int FROM write_tokens) AS tokens,
             (SELECT count(*)::int FROM consumer_claims WHERE status = 'active') AS claims,
             (SELECT count(*)::int FROM entity_dispatch_state WHERE active_consumer_id IS NOT NULL OR outstanding_wake_id IS NOT NULL) AS states,
             (SELECT count(*)::int FROM wake_notifications WHERE resolved_at IS NULL) AS notifications,
             (SELECT count(*)::int FROM entities WHERE status IN ('running', 'stopping', 'spawning')) AS busy`)
    if (Object.values(left).some((count) => count !== 0)) throw new Error(`left over: ${JSON.stringify(left)}`)
    return true
  }, options)
}
