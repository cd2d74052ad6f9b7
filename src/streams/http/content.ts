/** What an entry says, compared as the foreign server may have rewritten it: JSON items by value, with its own offset stamps taken off (spec/14 §1.3). */
import { type Offset, offsetOf, positionOf } from '../../domain/ids.js'
import { jsonItems } from '../protocol/json-items.js'
import { isJson } from './verdicts.js'

/** Whether `body` can be stored in a stream of `contentType` (spec/14 §2.1 row 10, §2.2 row 12). */
export const isStorable = (contentType: string, body: Buffer): boolean =>
  body.length === 0 || !isJson(contentType) || jsonItems(body) !== null

/** Whether `body` stores nothing: empty, or `[]` in JSON mode. */
export const storesNothing = (contentType: string, body: Buffer): boolean =>
  body.length === 0 || (isJson(contentType) && jsonItems(body)?.length === 0)

export const beginsWith = (contentType: string, stored: Buffer, body: Buffer): boolean => runsAt(contentType, stored, body).includes(0)

export const holds = (contentType: string, stored: Buffer, body: Buffer): boolean => runsAt(contentType, stored, body).length > 0

/** Where in `stored` the entry of `body` could be: item or byte positions. */
function runsAt(contentType: string, stored: Buffer, body: Buffer): readonly number[] {
  if (!isJson(contentType)) {
    const first = stored.indexOf(body)
    return first === -1 ? [] : [first]
  }
  const all = (jsonItems(stored) ?? []).map(plain)
  const ours = (jsonItems(body) ?? []).map(plain)
  if (ours.length === 0) return [] // it makes no entry
  return all.flatMap((_, at) => (ours.every((item, nth) => all[at + nth] === item) ? [at] : []))
}

/** The item without the stamp that reading puts on it. */
function plain(item: unknown): string {
  if (typeof item !== 'object' || item === null || !('headers' in item)) return JSON.stringify(item)
  const { headers } = item
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) return JSON.stringify(item)
  return JSON.stringify({ ...item, headers: { ...headers, offset: undefined } })
}

/** A position inside the entry that ends at `tail`: a read from there returns that whole entry (spec/14 §1.2). */
export const insideEntryEndingAt = (tail: Offset): Offset => offsetOf(Math.max(0, positionOf(tail) - 1))
