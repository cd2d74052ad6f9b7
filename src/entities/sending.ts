/** Sending a message into an entity's inbox (spec/03 §2). */
import { randomUUID } from 'node:crypto'
import type { Pipeline, PipelineVerdict } from '../dispatch/pipeline.js'
import { hashOfToken, isSame } from '../dispatch/wake-tokens.js'
import { acceptsWrites, type Entity, type Json } from '../domain/entity.js'
import { errors } from '../domain/errors.js'
import { entryOf, type InboxMode, identityUpdate, inbox, type StateEvent } from '../domain/events.js'
import { mainStream, parseEntityUrl } from '../domain/ids.js'
import { refuseMessage } from '../domain/messages.js'
import { isBypass, type Principal } from '../domain/principals.js'
import { writeTokenHashes } from '../registry/claims.js'
import type { Database } from '../registry/database.js'
import { type FoundEntity, setDispatchPolicy } from '../registry/entities.js'
import type { Directory } from './directory.js'
import { entityUrlOf } from './rules.js'

/** spec/03 §2.1. */
export interface SendRequest {
  readonly payload?: Json
  readonly key?: string
  readonly type?: string
  readonly mode?: InboxMode
  readonly position?: string
  readonly afterMs?: number
  readonly from?: string
  readonly from_principal?: string
  readonly from_agent?: string
}

type EnsurePrincipal = (principal: Principal, standing?: Promise<FoundEntity | null>) => Promise<unknown>

/** Who sends. */
export interface Sender {
  readonly principal: Principal
  /** The look-up of the principal's entity, begun with that of the addressed one. */
  readonly standing: Promise<FoundEntity | null>
  readonly writeToken: string | null
}

export class Sending {
  readonly #directory: Directory
  readonly #pipeline: Pipeline
  readonly #database: Database
  readonly #ensurePrincipal: EnsurePrincipal

  constructor(parts: {
    readonly directory: Directory
    readonly pipeline: Pipeline
    readonly database: Database
    readonly ensurePrincipal: EnsurePrincipal
  }) {
    this.#directory = parts.directory
    this.#pipeline = parts.pipeline
    this.#database = parts.database
    this.#ensurePrincipal = parts.ensurePrincipal
  }

  /** Begins to look up the sender, before anything has been checked: a refusal does not wait for it. */
  sender(principal: Principal, writeToken: string | null): Sender {
    const standing = this.#directory.entity(entityUrlOf(principal))
    standing.catch(() => undefined) // heard of by `send`
    return { principal, standing, writeToken }
  }

  /** Appends the message; throws the first refusal of spec/03 §2.2 from row 2 on. The id to wait for on the stream. */
  async send(
    entity: Pick<FoundEntity, 'url' | 'type' | 'status' | 'dispatch_policy' | 'default_dispatch_policy'>,
    request: SendRequest,
    { principal, standing, writeToken }: Sender,
  ): Promise<{ readonly txid: string }> {
    await this.#refuseForeignSender(request, principal, writeToken)
    await this.#ensurePrincipal(principal, standing)
    if (request.afterMs !== undefined && request.afterMs > 0) throw errors.NOT_IMPLEMENTED('delayed sends')
    if (!acceptsWrites(entity.status)) throw errors.NOT_RUNNING()
    await this.#refuseMessage(entity, request)
    refuseIdentityUpdate(entity, request, principal)
    if (request.payload === undefined) throw errors.MISSING_PAYLOAD()
    const policy = entity.dispatch_policy ?? (await this.#backfilled(entity))
    const { events, txid } = eventsOf(entity, request, request.payload, principal)
    const verdict = await this.#pipeline.append({
      path: mainStream(entity.url),
      contentType: 'application/json',
      body: entryOf(events),
      events,
      message: { to: entity.url, resumes: request.mode !== 'paused', policy },
    })
    refuseUnlessAppended(verdict)
    return { txid }
  }

  /** spec/06 §9 "Backfill": an entity without a policy takes over that of its type. */
  async #backfilled({ url, default_dispatch_policy: policy }: Pick<FoundEntity, 'url' | 'default_dispatch_policy'>) {
    if (policy !== null) await setDispatchPolicy(this.#database, url, policy, Date.now())
    return policy
  }

  /** Rows 2–4: exact strings are compared. A handler speaks for its agent with the write token of its claim (spec/06 §8). */
  async #refuseForeignSender(request: SendRequest, principal: Principal, token: string | null): Promise<void> {
    if (request.from !== undefined && request.from !== principal.url) throw errors.FROM_MISMATCH('from')
    if (request.from_principal !== undefined && request.from_principal !== principal.url) throw errors.FROM_MISMATCH('from_principal')
    if (request.from_agent === undefined) return
    const agent = pathOf(request.from_agent)
    if (principal.kind === 'agent' && agent === `/${principal.id}`) return
    if (token === null || !(await this.#mayWrite(agent, token))) throw errors.FROM_AGENT_MISMATCH()
  }

  async #mayWrite(agent: string, token: string): Promise<boolean> {
    const url = parseEntityUrl(agent)
    if (url === null) return false
    const main = mainStream(url)
    const current = (await writeTokenHashes(this.#database, [main])).get(main)
    return current !== undefined && isSame(hashOfToken(token), current)
  }

  async #refuseMessage(entity: Pick<Entity, 'url'>, request: SendRequest): Promise<void> {
    if (!request.type) return
    const schemas = await this.#directory.schemas(entity.url)
    const refusal = refuseMessage(schemas?.inbox ?? null, request.type, request.payload)
    if (refusal !== null) throw refusal
  }
}

const pathOf = (urlOrPath: string): string => (URL.canParse(urlOrPath) ? new URL(urlOrPath).pathname : urlOrPath)

const updatesIdentity = (entity: Pick<Entity, 'type'>, request: SendRequest): boolean =>
  entity.type === 'principal' && request.type === 'update_identity'

function refuseIdentityUpdate(entity: Pick<Entity, 'type'>, request: SendRequest, principal: Principal): void {
  if (updatesIdentity(entity, request) && !isBypass(principal)) throw errors.IDENTITY_NOT_ALLOWED()
}

/** The message, and with it the identity that it sets: one entry, so that neither is there without the other. */
function eventsOf(entity: Pick<Entity, 'type'>, request: SendRequest, payload: Json, principal: Principal) {
  const { event, txid } = inbox({
    ...(request.key ? { key: request.key } : {}),
    from: principal.url,
    fromPrincipal: principal.url,
    ...(request.from_agent === undefined ? {} : { fromAgent: request.from_agent }),
    payload,
    ...(request.type ? { messageType: request.type } : {}),
    mode: request.mode ?? 'immediate',
    ...(request.position === undefined ? {} : { position: request.position }),
    atMs: Date.now(),
    seed: randomUUID(),
  })
  const events: readonly StateEvent[] = updatesIdentity(entity, request)
    ? [event, identityUpdate((payload as { identity: Readonly<Record<string, Json>> }).identity, txid)] // its schema has been checked
    : [event]
  return { events, txid }
}

/** What became of an append to an entity, in the words of its routes. */
export function refuseUnlessAppended(verdict: PipelineVerdict): void {
  switch (verdict.outcome) {
    case 'appended':
    case 'duplicate':
      return
    case 'barred':
      throw verdict.error
    case 'refused':
      if (verdict.because === 'size') throw errors.STREAM_ENTRY_TOO_LARGE()
      if (verdict.because === 'body') throw errors.STREAM_SERVICE_UNAVAILABLE().retryAfter(1) // what we have written is JSON: it was not its server that spoke
      throw verdict.because === 'closed' ? errors.ENTITY_STOPPED() : errors.ENTITY_GONE()
    default:
      verdict satisfies never
  }
}
