import { isUtf8 } from 'node:buffer'
import { jsonSlices, type SliceSize } from './json-slices.js'

const byteOrderMark = '\u{feff}'

/** The items of a body of JSON: an array is flattened one level, a byte order mark is no part of it (spec/14 §1.3). Null: it is no JSON. */
export function jsonItems(body: Buffer): readonly unknown[] | null {
  return isUtf8(body) ? itemsOfText(body.toString('utf8')) : null
}

/** Beyond it a body is worked on in slices (payload.ts P4). */
export const largeBytes = 1024 * 1024

/**
 * The items of a large body, slice by slice: between them others have their turn. A body that is no array is one slice, however large. Null, and nothing
 * behind it: the body is no JSON, or an empty array.
 */
export function* itemSlices(body: Buffer, size?: SliceSize): Generator<readonly unknown[] | null> {
  const slices = isUtf8(body) ? jsonSlices(body, size) : null
  if (slices === null) yield jsonItems(body)
  for (const slice of slices ?? []) {
    const items = itemsOfText(`[${slice.toString('utf8')}]`) ?? []
    yield items.length === 0 ? null : items // json-slices.ts K1
    if (items.length === 0) return
  }
}

export function itemsOfText(text: string): readonly unknown[] | null {
  try {
    const value: unknown = JSON.parse(text.startsWith(byteOrderMark) ? text.slice(1) : text)
    return Array.isArray(value) ? value : [value]
  } catch {
    return null
  }
}
