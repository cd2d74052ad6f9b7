/**
 * What a service asks for, and what it gets: spawn, fork, close and signal entities with nothing but a Temporal client.
 *
 * The verdicts are those of the HTTP routes: a refusal is thrown as `AgentsError` with code, status, message and details of the catalogue.
 */
import { randomUUID } from 'node:crypto'
import type { Client } from '@temporalio/client'
import type { DispatchPolicy, Json, JsonObject, Tags } from '../domain/entity.js'
import { errors } from '../domain/errors.js'
import type { ForkAnchor, ForkPointer } from '../domain/fork/cut.js'
import { forkAddress } from '../domain/fork/names.js'
import { type EntityUrl, operationId, parseEntityUrl } from '../domain/ids.js'
import type {
  ForkBatch,
  ForkItem,
  ForkVerdict,
  SignalBatch,
  SignalItem,
  SignalVerdict,
  SpawnBatch,
  SpawnItem,
  SpawnVerdict,
} from '../domain/operations.js'
import type { SandboxRequest } from '../domain/sandbox.js'
import { mayEnd, type Signal } from '../domain/signals.js'
import { spawnAddressRefusal } from '../domain/spawn-address.js'
import { type OperationOptions, onlyVerdict } from './operation.js'

/** spec/02 §6.1, as far as it is implemented. */
export interface SpawnRequest {
  /** `/{type}/{instanceId}`. */
  readonly url: string
  /** Who spawns: `<kind>:<id>` or a principal URL. Whoever may start workflows is trusted to name it. */
  readonly principal: string
  readonly args?: JsonObject
  readonly tags?: Tags
  /** URL of an existing entity. */
  readonly parent?: string
  readonly dispatchPolicy?: DispatchPolicy
  /** spec/02 §8. */
  readonly sandbox?: SandboxRequest
  readonly initialMessage?: { readonly payload: Json; readonly type?: string }
}

export type Spawned = Extract<SpawnVerdict, { outcome: 'spawned' }>

/** spec/04 §2, as far as it is implemented. Without `pointer` and `anchor`: at HEAD. */
export interface ForkRequest {
  /** URL of what is copied. */
  readonly source: string
  readonly principal: string
  /** Exact id of the copy; default: made of the source's. */
  readonly instanceId?: string
  /** Up to and including the `subOffset`-th item behind the entry that ends at `offset`. */
  readonly pointer?: ForkPointer
  readonly anchor?: ForkAnchor
  /** How long to wait for who is at work; default two minutes, 0: not at all. */
  readonly waitTimeoutMs?: number
  /** URL of the entity below which the copy comes. */
  readonly parent?: string
  /** Over the source's. */
  readonly tags?: Tags
  readonly initialMessage?: { readonly payload: Json }
}

export type Forked = Extract<ForkVerdict, { outcome: 'forked' }>

/** spec/05 §1.1. */
export interface SignalRequest {
  readonly url: string
  readonly principal: string
  readonly signal: Signal
  readonly reason?: string
  readonly payload?: Json
}

export interface CloseRequest extends Omit<SignalRequest, 'signal'> {
  /** Default SIGKILL. SIGTERM asks a running entity to end, which then is `stopping`. */
  readonly signal?: 'SIGKILL' | 'SIGTERM'
}

export type Signalled = Extract<SignalVerdict, { outcome: 'signalled' }>

/** Spawns one entity; it is complete and readable when this returns. Throws the refusal of spec/02 §6.2. */
export async function spawn(client: Client, request: SpawnRequest, options: OperationOptions = {}): Promise<Spawned> {
  const refusal = spawnAddressRefusal(request.url)
  if (refusal !== null) throw refusal
  const { url, parent, ...rest } = request
  const item: SpawnItem = { ...rest, url: url as EntityUrl, ...(parent ? { parent: parent as EntityUrl } : {}) } // just checked; the parent is by the rules
  const batch: SpawnBatch = { operationId: idOf('spawn', options), items: [item] }
  const grants = (verdict: SpawnVerdict): verdict is Spawned => verdict.outcome === 'spawned' && verdict.url === url
  return await onlyVerdict<SpawnBatch, SpawnVerdict, Spawned>(
    client,
    { kind: 'spawn', workflowType: 'spawnEntities', batch, grants },
    options,
  )
}

/**
 * Copies one entity with everything below it, once that is at rest; all copies are complete and readable when this returns. Throws the refusal of
 * spec/04 §3. Repeated with the same `operationId` it answers what it answered the first time.
 */
export async function fork(client: Client, request: ForkRequest, options: OperationOptions = {}): Promise<Forked> {
  const { parent, ...rest } = request
  const source = parseEntityUrl(request.source)
  if (source === null) throw errors.ENTITY_NOT_FOUND(request.source)
  const id = idOf('fork', options)
  const { instanceId } = request
  const url = typeof instanceId === 'string' || instanceId === undefined ? forkAddress(source, instanceId, id) : source // malformed: refused as such
  const item: ForkItem = { ...rest, source, url, ...(parent === undefined ? {} : { parent: parent as EntityUrl }) } // looked up by the rules
  const batch: ForkBatch = { operationId: id, items: [item] }
  const isNamed = (made: EntityUrl) => instanceId === undefined || made === url // the name that is made may be taken
  const grants = (verdict: ForkVerdict): verdict is Forked => verdict.outcome === 'forked' && isNamed(verdict.url)
  return await onlyVerdict<ForkBatch, ForkVerdict, Forked>(client, { kind: 'fork', workflowType: 'forkSubtree', batch, grants }, options)
}

/** Ends one entity: row, event and closed stream are durable when this returns. Throws the refusal of spec/05 §1.2. */
export async function close(client: Client, request: CloseRequest, options: OperationOptions = {}): Promise<Signalled> {
  return await signal(client, { signal: 'SIGKILL', ...request }, options)
}

/** Sends one signal to one entity. Throws the refusal of spec/05 §1.2. */
export async function signal(client: Client, request: SignalRequest, options: OperationOptions = {}): Promise<Signalled> {
  const url = parseEntityUrl(request.url)
  if (url === null) throw errors.ENTITY_NOT_FOUND(request.url)
  const item: SignalItem = { ...request, url, permission: 'signal' }
  const [kind, workflowType] = mayEnd(request.signal) ? (['close', 'closeEntities'] as const) : (['signal', 'signalEntities'] as const)
  const batch: SignalBatch = { operationId: idOf(kind, options), items: [item] }
  const grants = (verdict: SignalVerdict): verdict is Signalled =>
    verdict.outcome === 'signalled' && verdict.url === url && verdict.signal === request.signal
  return await onlyVerdict<SignalBatch, SignalVerdict, Signalled>(client, { kind, workflowType, batch, grants }, options)
}

const idOf = (kind: string, options: OperationOptions) => operationId(options.operationId ?? `${kind}-${randomUUID()}`)
