/**
 * The events that the server itself writes to main streams (spec/01 §6–7).
 *
 * Every event has `type`, `key` and `headers` with an operation: an event without headers makes its stream unreadable for every client.
 * Keys and transaction ids derive from an operation's id, so that a repeated attempt writes the same bytes.
 */
import { createHash } from 'node:crypto'
import type { Json, JsonObject, SlashCommand } from './entity.js'
import type { EntityUrl, PrincipalUrl } from './ids.js'
import type { Principal } from './principals.js'
import type { Signal, SignalEffect } from './signals.js'

export interface StateEvent {
  readonly type: string
  readonly key: string
  readonly value?: JsonObject
  readonly headers: { readonly operation: 'insert' | 'update' | 'upsert' | 'delete'; readonly [header: string]: Json }
}

/** Who signs the server's own signal events. */
export const serverSender = '/_electric/server'

const digest = (seed: string): Buffer => createHash('sha256').update(seed).digest()

/** A UUID (version 8) that is the same for the same seed. */
export function uuidFrom(seed: string): string {
  const bytes = digest(seed).subarray(0, 16)
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

const base36Tail = (seed: string): string => digest(seed).readUIntBE(0, 6).toString(36).padStart(6, '0').slice(-6)
const hexTail = (seed: string): string => digest(seed).toString('hex').slice(0, 8)

export const iso = (atMs: number): string => new Date(atMs).toISOString()

/** spec/01 §7.11: the first event of every main stream. */
export function entityCreated(entity: {
  readonly type: string
  readonly args: JsonObject
  readonly parent: EntityUrl | null
  readonly atMs: number
}): StateEvent {
  return {
    type: 'entity_created',
    key: 'entity-created',
    value: {
      entity_type: entity.type,
      timestamp: iso(entity.atMs),
      args: entity.args,
      ...(entity.parent === null ? {} : { parent_url: entity.parent }),
    },
    headers: { operation: 'insert' },
  }
}

/** spec/01 §7.16: one per command of the type, all with the same time, in the entry of `entity_created`. */
export function slashCommand(command: SlashCommand, atMs: number): StateEvent {
  return {
    type: 'slash_command',
    key: command.name,
    value: { ...(command as unknown as JsonObject), source: 'static', updated_at: iso(atMs) }, // an interface has no index signature
    headers: { operation: 'insert' },
  }
}

export type InboxMode = 'immediate' | 'queued' | 'paused' | 'steer'

export interface InboxMessage {
  readonly key?: string
  /** A principal; for the first message of a fork below a parent, that parent (spec/04 §18). */
  readonly from: PrincipalUrl | EntityUrl
  /** Absent for the first message of a spawn (spec/02 §6.3). */
  readonly fromPrincipal?: PrincipalUrl
  readonly fromAgent?: string
  readonly payload: Json
  readonly messageType?: string
  readonly mode: InboxMode
  readonly position?: string
  readonly atMs: number
  /** Makes the generated key and the transaction id. */
  readonly seed: string
}

/** spec/03 §2.4–2.5. `txid` is the value that the caller is told and waits for. */
export function inbox(message: InboxMessage): { readonly event: StateEvent; readonly txid: string } {
  const timestamp = iso(message.atMs)
  const waits = message.mode === 'queued' || message.mode === 'paused'
  const position = message.position || (waits ? `${String(message.atMs).padStart(16, '0')}:a0` : undefined)
  const txid = uuidFrom(`txid ${message.seed}`)
  const event: StateEvent = {
    type: 'inbox',
    key: message.key ?? `msg-in-${message.atMs}-${base36Tail(message.seed)}`,
    value: {
      from: message.from,
      payload: message.payload,
      timestamp,
      mode: message.mode,
      status: waits ? 'pending' : 'processed',
      ...(message.fromPrincipal === undefined ? {} : { from_principal: message.fromPrincipal }),
      ...(message.fromAgent === undefined ? {} : { from_agent: message.fromAgent }),
      ...(message.messageType === undefined ? {} : { message_type: message.messageType }),
      ...(position === undefined ? {} : { position }),
      ...(waits ? {} : { processed_at: timestamp }),
    },
    headers: { txid, operation: 'insert' },
  }
  return { event, txid }
}

/** spec/05 §3. `txid` is that of the transaction which changed the row. */
export function signalEvent(sent: {
  readonly signal: Signal
  readonly effect: SignalEffect
  readonly previousStatus: string
  readonly reason?: string
  readonly payload?: Json
  readonly atMs: number
  readonly txid: number
  readonly seed: string
}): StateEvent {
  const timestamp = iso(sent.atMs)
  const handled = sent.effect.event !== 'unhandled' && {
    handled_at: timestamp,
    handled_by: serverSender,
    outcome: sent.effect.event.outcome,
    previous_state: sent.previousStatus,
    new_state: sent.effect.newStatus,
  }
  return {
    type: 'signal',
    key: `sig-${sent.atMs}-${hexTail(sent.seed)}`,
    value: {
      signal: sent.signal,
      status: handled ? 'handled' : 'unhandled',
      sender: serverSender,
      timestamp,
      ...(sent.reason === undefined ? {} : { reason: sent.reason }),
      ...(sent.payload === undefined ? {} : { payload: sent.payload }),
      ...(handled || {}),
    },
    headers: { operation: 'insert', timestamp, txid: String(sent.txid) },
  }
}

/** spec/01 §7.20: the identity of a principal, as its entity's stream shows it from the start. */
export function identity(principal: Principal, atMs: number): StateEvent {
  return {
    type: 'identity',
    key: 'self',
    value: { kind: principal.kind, id: principal.id, key: principal.key, url: principal.url, created_at: iso(atMs), updated_at: iso(atMs) },
    headers: { operation: 'insert' },
  }
}

/** A complete identity sent by an identity system replaces the former one (spec/03 §7). */
export function identityUpdate(value: JsonObject, txid: string): StateEvent {
  return { type: 'identity', key: 'self', value, headers: { operation: 'update', txid } }
}

/** spec/03 §4: members that change; a reader merges them into the row. */
export interface InboxEdit {
  readonly payload?: Json
  readonly position?: string
  readonly mode?: InboxMode
  readonly status?: 'pending' | 'processed' | 'cancelled'
}

export function inboxEdited(key: string, edit: InboxEdit, atMs: number, txid: string): StateEvent {
  const value = {
    ...('payload' in edit ? { payload: edit.payload ?? null } : {}),
    ...(edit.position === undefined ? {} : { position: edit.position }),
    ...(edit.mode === undefined ? {} : { mode: edit.mode }),
    ...(edit.status === undefined ? {} : { status: edit.status }),
    ...(edit.status === 'processed' ? { processed_at: iso(atMs) } : {}),
    ...(edit.status === 'cancelled' ? { cancelled_at: iso(atMs) } : {}),
  }
  return { type: 'inbox', key, value, headers: { txid, operation: 'update' } }
}

export const inboxDeleted = (key: string, txid: string): StateEvent => ({
  type: 'inbox',
  key,
  headers: { txid, operation: 'delete' },
})

/** spec/01 §7.15. `value` null: the tag is gone. */
export function tagChanged(key: string, value: string | null, existed: boolean, atMs: number): StateEvent {
  const timestamp = iso(atMs)
  if (value === null) return { type: 'tags', key, headers: { operation: 'delete', timestamp } }
  return { type: 'tags', key, value: { key, value }, headers: { operation: existed ? 'update' : 'insert', timestamp } }
}

/** spec/03 §5: a row that an external caller writes. The author in the headers is the server's word (MUST). */
export function collectionRow(row: {
  readonly type: string
  readonly key: string
  readonly operation: 'insert' | 'update' | 'delete'
  readonly value?: JsonObject
  readonly principal: Principal
  readonly atMs: number
}): StateEvent {
  const { url, kind, id } = row.principal
  return {
    type: row.type,
    key: row.key,
    headers: { operation: row.operation, timestamp: iso(row.atMs), principal: { url, kind, id } },
    ...(row.operation === 'delete' || row.value === undefined ? {} : { value: row.value }),
  }
}

/** A run whose handler was lost: closed as its handler would have closed it after a failure (spec/01 §7.1). */
export function lostRun({ key, value }: { readonly key: string; readonly value: JsonObject }, atMs: number): StateEvent {
  return {
    type: 'run',
    key,
    value: { ...value, status: 'failed', finish_reason: 'error' },
    headers: { operation: 'update', timestamp: iso(atMs) },
  }
}

/** Events that no handler could work on are given up (spec/06 §6.2). */
export function lostWake(id: string, atMs: number): StateEvent {
  return {
    type: 'error',
    key: `error-server-${id}`,
    value: {
      error_code: lostWakeCode,
      message: 'Handlers ended again and again and acknowledged nothing; what they were given is not delivered any more.',
    },
    headers: { operation: 'insert', timestamp: iso(atMs) },
  }
}

/** Whether an event says whose copy its stream is (spec/04 §16): what stands up to it is the copied past. */
export function isReconciliation(item: unknown): boolean {
  if (typeof item !== 'object' || item === null || !('headers' in item)) return false
  const { headers } = item
  return typeof headers === 'object' && headers !== null && 'forkedFrom' in headers && typeof headers.forkedFrom === 'string'
}

const lostWakeCode = 'HANDLER_LOST'

/** Whether `item` says that events were given up: nobody is to be woken by that, least of all by those whom it is about. */
export function tellsOfLostWake(item: unknown): boolean {
  if (typeof item !== 'object' || item === null || !('type' in item) || item.type !== 'error' || !('value' in item)) return false
  const { value } = item
  return typeof value === 'object' && value !== null && 'error_code' in value && value.error_code === lostWakeCode
}

/** One log entry: the JSON body of one append. */
export const entryOf = (events: readonly StateEvent[]): Buffer => Buffer.from(JSON.stringify(events))
