/**
 * What a service asks for, and what it gets: spawn, close and signal entities with nothing but a Temporal client.
 *
 * The verdicts are those of the HTTP routes: a refusal is thrown as `AgentsError` with code, status, message and details of the catalogue.
 */
import { randomUUID } from 'node:crypto'
import type { Client } from '@temporalio/client'
import type { DispatchPolicy, Json, JsonObject, Tags } from '../domain/entity.js'
import { errors } from '../domain/errors.js'
import { type EntityUrl, operationId, parseEntityUrl } from '../domain/ids.js'
import type { SignalBatch, SignalItem, SignalVerdict, SpawnBatch, SpawnItem, SpawnVerdict } from '../domain/operations.js'
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
  return await onlyVerdict<SpawnBatch, SpawnVerdict, Spawned>(client, { kind: 'spawn', workflowType: 'spawnEntities', batch }, options)
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
  return await onlyVerdict<SignalBatch, SignalVerdict, Signalled>(client, { kind, workflowType, batch }, options)
}

const idOf = (kind: string, options: OperationOptions) => operationId(options.operationId ?? `${kind}-${randomUUID()}`)
