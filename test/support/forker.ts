/** Forks over HTTP, and what their copies look like. */

import type { HouseOptions } from './house.js'
import { RuntimeWriter } from './runtime-writer.js'
import { type Answer, type Ask, expectStatus, Wire, type WireEvent } from './wire.js'

export interface PublicEntity {
  readonly url: string
  readonly parent?: string
  readonly status: string
  readonly streams: { readonly main: string }
  readonly [member: string]: unknown
}

export interface Copies {
  readonly root: PublicEntity
  readonly entities: readonly PublicEntity[]
}

export class Forker {
  readonly wire: Wire
  readonly writer: RuntimeWriter
  #fresh = 0

  private constructor(wire: Wire) {
    this.wire = wire
    this.writer = new RuntimeWriter(wire.house)
  }

  static async start(options: HouseOptions = {}): Promise<Forker> {
    const wire = await Wire.start(options)
    for (const type of ['worker', 'other']) await wire.register(type)
    await wire.register('sams', {}, 'user:sam')
    return new Forker(wire)
  }

  async stop(): Promise<void> {
    await this.writer.close()
    await this.wire.stop()
  }

  /** An id that no other test has. */
  id(name = 'e'): string {
    this.#fresh += 1
    return `${name}-${this.#fresh}`
  }

  async root(body: object = {}, type = 'chat', as?: string): Promise<string> {
    const url = `/${type}/${this.id('root')}`
    await this.wire.spawned(url, body, as)
    return url
  }

  /** A child with the manifest row that its parent's runtime writes. */
  async child(parent: string, { type = 'worker', body = {} }: { type?: string; body?: object } = {}): Promise<string> {
    const url = `/${type}/${this.id('kid')}`
    await this.wire.spawned(url, { ...body, parent })
    const [, , id] = url.split('/')
    await this.writer.append(parent, {
      type: 'manifest',
      key: `child:${type}:${id}`,
      value: { key: `child:${type}:${id}`, kind: 'child', id, entity_type: type, entity_url: url, observed: true, wake: 'runFinished' },
      headers: { operation: 'insert' },
    })
    return url
  }

  /** An attachment of an entity whose bytes say which one it is. */
  async attach(url: string, id: string, bytes = `bytes of ${id}`): Promise<void> {
    const form = new FormData()
    form.append('file', new Blob([bytes]), id)
    for (const [field, value] of Object.entries({ id, subjectType: 'inbox', subjectKey: 'k' })) form.append(field, value)
    const answer = await fetch(`${this.wire.url}/_electric/entities${url}/attachments`, { method: 'POST', body: form })
    if (answer.status !== 201) throw new Error(`${answer.status} instead of 201: ${await answer.text()}`)
  }

  attachment = async (url: string, id: string): Promise<Answer> => await this.wire.ask('GET', `/_electric/entities${url}/attachments/${id}`)

  fork = async (url: string, body: unknown = {}, ask: Ask = {}): Promise<Answer> =>
    await this.wire.ask('POST', `/_electric/entities${url}/fork`, body, ask)

  /** A fork that succeeds. */
  async forked(url: string, body: unknown = {}, ask: Ask = {}): Promise<Copies> {
    return expectStatus(201, await this.fork(url, body, ask)).body as Copies
  }

  /** Events that the copy has besides what it inherited: from the first one that says whose copy it is. */
  async ownEvents(url: string): Promise<readonly WireEvent[]> {
    const events = await this.wire.events(url)
    const first = events.findIndex(({ headers }) => typeof headers.forkedFrom === 'string')
    return first < 0 ? [] : events.slice(first)
  }

  async inherited(url: string): Promise<readonly WireEvent[]> {
    return (await this.wire.events(url)).slice(0, -(await this.ownEvents(url)).length || undefined)
  }

  /** The rows of a main stream as a reader sees them at its end. */
  async manifest(url: string): Promise<ReadonlyMap<string, unknown>> {
    const rows = new Map<string, unknown>()
    for (const { type, key, value, headers } of await this.wire.events(url)) {
      if (type !== 'manifest') continue
      if (headers.operation === 'delete') rows.delete(key)
      else rows.set(key, value)
    }
    return rows
  }

  /** What the registry knows of an entity's manifest. */
  async projected(url: string): Promise<ReadonlyMap<string, unknown>> {
    const rows = await this.wire.sql(`SELECT key, value FROM projections WHERE entity_url = $1 AND type = 'manifest' ORDER BY key`, url)
    return new Map(rows.map(({ key, value }) => [String(key), JSON.parse(String(value))]))
  }

  /** What a fork could leave behind: rows that none but entities, operations and swept things stand for. */
  async leftovers(): Promise<Readonly<Record<string, unknown>>> {
    const [row = {}] = await this.wire.sql(`
      SELECT (SELECT count(*)::int FROM entities) AS entities, (SELECT count(*)::int FROM lineage) AS lineage,
             (SELECT count(*)::int FROM projections) AS projections, (SELECT count(*)::int FROM shared_state_links) AS links,
             (SELECT count(*)::int FROM streams WHERE path IS NOT NULL AND gone_at IS NULL) AS streams,
             (SELECT count(*)::int FROM waiters) AS waiters, (SELECT count(*)::int FROM waiter_signals) AS signals,
             (SELECT count(*)::int FROM fork_locks) AS locks, (SELECT count(*)::int FROM stream_progress) AS progress`)
    return row
  }
}
