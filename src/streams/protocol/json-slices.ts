/**
 * A large JSON array cut between its items, so that it can be worked on piece by piece: JSON.parse of all of it at once keeps the event loop for seconds,
 * and of 64 MB of `{}` gigabytes of memory.
 *
 * K1  The array is JSON exactly if each slice, put in brackets, is JSON with an item: what is cut is not understood, only where strings and nesting end.
 * K2  A slice ends with the first item that makes it large, in bytes or in values: one item is never cut.
 */
const [quote, comma, backslash, space, openBracket, closeBracket, openBrace, closeBrace] = [...'",\\ []{}'].map((char) =>
  char.charCodeAt(0),
)

/** What makes a slice large; some ten milliseconds of work. */
export interface SliceSize {
  readonly bytes: number
  /** And arrays. */
  readonly objects: number
}
const usual: SliceSize = { bytes: 512 * 1024, objects: 20_000 }

/** Null where `body` is no array: one item, or no JSON. What shows to be no JSON ends with an empty slice. */
export function jsonSlices(body: Buffer, size = usual): Iterable<Buffer> | null {
  const from = begin(body)
  return body[from] === openBracket ? slicesFrom(body, from + 1, size) : null
}

const nothing = Buffer.alloc(0)
const isSpace = (byte: number | undefined): boolean => byte !== undefined && (byte === space || byte === 9 || byte === 10 || byte === 13)

/** Behind a byte order mark and white space. */
function begin(body: Buffer): number {
  let at = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? 3 : 0
  while (isSpace(body[at])) at += 1
  return at
}

function* slicesFrom(body: Buffer, first: number, size: SliceSize): Generator<Buffer> {
  let [from, depth, objects] = [first, 0, 0]
  for (let at = first; at < body.length; at += 1) {
    const byte = body[at]
    if (byte === quote) {
      at = stringEnd(body, at)
    } else if (byte === openBrace || byte === openBracket) {
      depth += 1
      objects += 1
    } else if (byte === closeBrace || byte === closeBracket) {
      if (depth === 0) {
        yield body.subarray(from, at)
        if (byte !== closeBracket || !isOnlySpace(body, at + 1)) yield nothing
        return
      }
      depth -= 1
    } else if (byte === comma && depth === 0 && (at - from >= size.bytes || objects >= size.objects)) {
      yield body.subarray(from, at)
      from = at + 1
      objects = 0
    }
  }
  yield nothing // it has no end
}

/** The quote that ends the string which begins at `start`; beyond all where none does. */
function stringEnd(body: Buffer, start: number): number {
  for (let at = body.indexOf(quote as number, start + 1); at >= 0; at = body.indexOf(quote as number, at + 1)) {
    let before = at - 1
    while (body[before] === backslash) before -= 1
    if ((at - before) % 2 === 1) return at
  }
  return body.length
}

function isOnlySpace(body: Buffer, from: number): boolean {
  let at = from
  while (isSpace(body[at])) at += 1
  return at === body.length
}
