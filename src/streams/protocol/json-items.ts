import { isUtf8 } from 'node:buffer'

const byteOrderMark = '\u{feff}'

/** The items of a body of JSON: an array is flattened one level, a byte order mark is no part of it (spec/14 §1.3). Null: it is no JSON. */
export function jsonItems(body: Buffer): readonly unknown[] | null {
  return isUtf8(body) ? itemsOfText(body.toString('utf8')) : null
}

export function itemsOfText(text: string): readonly unknown[] | null {
  try {
    const value: unknown = JSON.parse(text.startsWith(byteOrderMark) ? text.slice(1) : text)
    return Array.isArray(value) ? value : [value]
  } catch {
    return null
  }
}
