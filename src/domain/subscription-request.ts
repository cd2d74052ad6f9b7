/** What a client asks of a subscription, checked in the order of spec/06 §3.2 "PUT". Pure. */

import { errors } from './errors.js'
import { maxStreamPathBytes, type StreamPath } from './ids.js'
import { isObject } from './json-shape.js'
import {
  defaultLeaseTtlMs,
  leaseTtlRangeMs,
  type Mount,
  maxSubscriptionIdBytes,
  nameOfPath,
  pathOfName,
  type SubscriptionType,
  subscriptionTypes,
  trimmedName,
} from './subscriptions.js'

export interface SubscriptionRequest {
  readonly id: string
  readonly mount: Mount
  readonly type: SubscriptionType
  readonly pattern: string | null
  /** Sorted, each once. */
  readonly streams: readonly StreamPath[]
  /** As sent; webhooks only. */
  readonly webhookUrl: string | null
  /** Pull-wakes only. */
  readonly wakeStream: StreamPath | null
  readonly leaseTtlMs: number
  readonly description: string | null
}

/** Rows 2 to 8; the first that fails is thrown. */
export function subscriptionRequest(mount: Mount, id: string, sent: unknown): SubscriptionRequest {
  if (!isObject(sent)) throw errors.INVALID_REQUEST('Request body must be a JSON object')
  const type = subscriptionTypes.find((known) => known === sent.type)
  if (type === undefined) throw errors.INVALID_REQUEST('type must be "webhook" or "pull-wake"')
  const streams = pathsOf(mount, sent.streams ?? [], 'streams must contain only strings')
  const pattern = textOf(sent, 'pattern')
  const description = textOf(sent, 'description')
  if (pattern === null && streams.length === 0) throw errors.INVALID_REQUEST('At least one of pattern or streams is required')
  if (pattern !== null && Buffer.byteLength(pattern) > maxStreamPathBytes)
    throw errors.INVALID_REQUEST(`pattern must have at most ${maxStreamPathBytes} bytes`)
  const leaseTtlMs = leaseOf(sent.lease_ttl_ms ?? defaultLeaseTtlMs)
  const target = type === 'webhook' ? webhookOf(sent) : wakeStreamOf(mount, sent)
  refuseLongId(id)
  return { id, mount, type, pattern, streams, ...target, leaseTtlMs, description }
}

/** The `streams` of the add route: an array of names, which may be empty. */
export function streamsToAdd(mount: Mount, sent: unknown): readonly StreamPath[] {
  return pathsOf(mount, isObject(sent) ? sent.streams : undefined, 'streams must be a non-empty string array')
}

export function workerOf(sent: unknown): string {
  const worker = isObject(sent) ? sent.worker : undefined
  if (typeof worker !== 'string' || worker === '') throw errors.INVALID_REQUEST('worker must be a non-empty string')
  return worker
}

/**
 * What a repeated PUT must say again (spec/06 §3.2 row 9): all but where a webhook is called. The view belongs to it, for names are relative to it.
 */
export const configurationOf = ({ mount, type, pattern, streams, wakeStream, leaseTtlMs, description }: SubscriptionRequest): string =>
  JSON.stringify([mount, type, pattern, streams.map((path) => nameOfPath(mount, path)), wakeStream, leaseTtlMs, description])

type Members = Readonly<Record<string, unknown>>

function pathsOf(mount: Mount, sent: unknown, refusal: string): readonly StreamPath[] {
  if (!Array.isArray(sent)) throw errors.INVALID_REQUEST(refusal)
  const paths = new Set<StreamPath>()
  for (const name of sent as readonly unknown[]) {
    if (typeof name !== 'string' || trimmedName(name) === '') throw errors.INVALID_REQUEST(refusal)
    paths.add(refusedIfLong(pathOfName(mount, name)))
  }
  return [...paths].sort()
}

function refusedIfLong(path: StreamPath): StreamPath {
  if (Buffer.byteLength(path) > maxStreamPathBytes) throw errors.INVALID_REQUEST(`Stream names have at most ${maxStreamPathBytes} bytes`)
  return path
}

/** Absent, or a text that is not blank when the slashes around it are gone. */
function textOf(sent: Members, member: 'pattern' | 'description'): string | null {
  const value = sent[member] ?? null
  if (value === null) return null
  if (typeof value !== 'string') throw errors.INVALID_REQUEST(`${member} must be a string`)
  if (member === 'description') return value
  return trimmedName(value) === '' ? null : trimmedName(value)
}

function leaseOf(sent: unknown): number {
  const { least, most } = leaseTtlRangeMs
  if (typeof sent !== 'number' || !Number.isInteger(sent) || sent < least || sent > most)
    throw errors.INVALID_REQUEST(`lease_ttl_ms must be an integer from ${least} to ${most}`)
  return sent
}

function webhookOf({ webhook }: Members) {
  const url = isObject(webhook) ? webhook.url : undefined
  if (typeof url !== 'string' || url.trim() === '') throw errors.INVALID_REQUEST('webhook subscriptions require webhook.url')
  return { webhookUrl: url, wakeStream: null }
}

function wakeStreamOf(mount: Mount, { wake_stream: name }: Members) {
  if (typeof name !== 'string' || trimmedName(name) === '') throw errors.INVALID_REQUEST('pull-wake subscriptions require wake_stream')
  return { webhookUrl: null, wakeStream: refusedIfLong(pathOfName(mount, name)) }
}

function refuseLongId(id: string): void {
  if (Buffer.byteLength(id) > maxSubscriptionIdBytes)
    throw errors.INVALID_REQUEST(`Subscription ids have at most ${maxSubscriptionIdBytes} bytes`)
}
