/**
 * The body of an append or of a create, made ready to be stored before any lock is taken.
 *
 * P1  A JSON entry is stored as it will be sent: its items without the brackets, so that a read only concatenates (spec/14 §1.3).
 * P2  State events carry `headers.offset` = the end of their entry. The place is kept while the offset is still unknown:
 *     offsets have a fixed width, so under the lock `stamp` only writes 33 bytes to each place.
 * P3  Nothing is lost on the way: member order, `\u0000` and lone surrogates survive (`JSON.stringify` escapes them).
 * P4  A large array is worked on in slices, between which others have their turn: what it takes is no shorter, but nobody waits for all of it.
 */
import { randomBytes } from 'node:crypto'
import { setImmediate as othersTurn } from 'node:timers/promises'
import { type Offset, zeroOffset } from '../../domain/ids.js'
import { isObject } from '../../domain/json-shape.js'
import { marksOf } from '../../domain/marks.js'
import type { StreamRefusal } from '../store.js'
import { itemSlices, jsonItems, largeBytes } from './json-items.js'
import type { SliceSize } from './json-slices.js'
import { emptyArray, invalidJson } from './refusals.js'

export interface Payload {
  readonly bytes: Buffer
  /** Where in `bytes` the offset belongs. */
  readonly places: readonly number[]
  /** Of an entry of JSON: what forks look for (`domain/marks.ts`). */
  readonly marks: number
}

export const isPayload = (value: Payload | StreamRefusal): value is Payload => 'places' in value

const nothing: Payload = { bytes: Buffer.alloc(0), places: [], marks: 0 }

/** As long as an offset, and nobody else's: the text that holds an offset's place. */
const placeholder = `${randomBytes(16).toString('hex')}_`
const placeholderBytes = Buffer.from(placeholder, 'latin1')
if (placeholder.length !== zeroOffset.length) throw new Error('an offset does not fit its place')

export const bytesPayload = (body: Buffer): Payload => (body.length === 0 ? nothing : { bytes: body, places: [], marks: 0 })

/** The body of a PUT: `[]` and no body make an empty stream. */
export function firstPayload(json: boolean, body: Buffer | undefined): Payload | StreamRefusal {
  if (body === undefined || body.length === 0) return nothing
  if (!json) return bytesPayload(body)
  const items = jsonItems(body)
  if (items === null) return invalidJson
  return items.length === 0 ? nothing : jsonPayload(items)
}

/** The body of a POST. */
export function appendPayload(json: boolean, body: Buffer): Payload | StreamRefusal {
  if (!json) return bytesPayload(body)
  const items = jsonItems(body)
  if (items === null) return invalidJson
  return items.length === 0 ? emptyArray : jsonPayload(items)
}

export const isLarge = (json: boolean, body: Buffer): boolean => json && body.length > largeBytes

/** The body of a POST, as `appendPayload` reads it. P4. */
export async function largeAppendPayload(body: Buffer, size?: SliceSize): Promise<Payload | StreamRefusal> {
  const bytes: Buffer[] = []
  const places: number[] = []
  let [length, marks] = [0, 0]
  for (const items of itemSlices(body, size)) {
    const payload = items === null ? invalidJson : jsonPayload(items)
    if (!isPayload(payload)) return bytes.length === 0 && isEmptyArray(body) ? emptyArray : payload
    if (bytes.length > 0) bytes.push(separator)
    length += bytes.length > 0 ? separator.length : 0
    for (const place of payload.places) places.push(length + place)
    length += payload.bytes.length
    bytes.push(payload.bytes)
    marks |= payload.marks
    await othersTurn()
  }
  return { bytes: Buffer.concat(bytes, length), places, marks }
}

/** The body of a PUT, as `firstPayload` reads it. P4. */
export async function largeFirstPayload(body: Buffer): Promise<Payload | StreamRefusal> {
  const payload = await largeAppendPayload(body)
  return payload === emptyArray ? nothing : payload
}

const separator = Buffer.from(',')
const isEmptyArray = (body: Buffer): boolean => jsonItems(body)?.length === 0

/** Writes `offset` to its places, in this very buffer: repeated attempts of a transaction simply write again. */
export function stamp(payload: Payload, offset: Offset): Buffer {
  for (const place of payload.places) payload.bytes.write(offset, place, 'latin1')
  return payload.bytes
}

/** The items of stored JSON data (P1). */
export const storedItems = (data: Buffer | string): readonly unknown[] => JSON.parse(`[${data.toString()}]`)

export function jsonPayload(items: readonly unknown[]): Payload | StreamRefusal {
  const events = items.filter(isStateEvent)
  for (const { headers } of events) headers.offset = placeholder // in place if present, else last; the items are ours
  const text = serialised(items)
  if (text === null) return invalidJson
  const bytes = Buffer.from(text, 'utf8')
  return { bytes, places: events.length === 0 ? [] : placesIn(bytes, events.length), marks: marksOf(items) }
}

/** Null where the nesting is deeper than the stack. */
function serialised(items: readonly unknown[]): string | null {
  try {
    return items.length === 1 ? JSON.stringify(items[0]) : JSON.stringify(items).slice(1, -1)
  } catch {
    return null
  }
}

function placesIn(bytes: Buffer, count: number): number[] {
  const places: number[] = []
  for (let at = bytes.indexOf(placeholderBytes); at >= 0; at = bytes.indexOf(placeholderBytes, at + placeholderBytes.length))
    places.push(at)
  if (places.length !== count) throw new Error(`${count} events have ${places.length} places for their offset`)
  return places
}

interface StateEvent {
  readonly headers: { offset?: unknown }
}

/** An item that is stamped: an object whose `headers` has a string `operation` or `control` (spec/03 §8.1). */
function isStateEvent(item: unknown): item is StateEvent {
  if (!isObject(item) || !isObject(item.headers)) return false
  return typeof item.headers.operation === 'string' || typeof item.headers.control === 'string'
}
