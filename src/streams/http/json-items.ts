/** The elements of a JSON array as texts, split off while its bytes arrive. What is inside an element is for `JSON.parse` to judge. */

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const opening = new Set([0x5b, 0x7b])
const closing = new Set([0x5d, 0x7d])

/** Bytes of one element; a longer one is no event of ours. */
const maxItemBytes = 128 * 1024 * 1024

export async function* jsonItems(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let depth = 0
  let inString = false
  let escaped = false
  let parts: Buffer[] = []
  let bytes = 0

  const take = (part: Buffer): void => {
    bytes += part.length
    if (bytes > maxItemBytes) throw new SyntaxError(`an item of more than ${maxItemBytes} bytes`)
    if (part.length > 0) parts.push(part)
  }
  const finish = (): string => {
    const text = Buffer.concat(parts).toString().trim()
    parts = []
    bytes = 0
    return text
  }

  for await (const chunk of chunks) {
    let from = 0
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at] as number // `at` is within the chunk
      if (inString) {
        if (escaped) escaped = false
        else if (byte === backslash) escaped = true
        else if (byte === quote) inString = false
      } else if (byte === quote) inString = true
      else if (opening.has(byte)) {
        depth += 1
        if (depth === 1) from = at + 1
      } else if (closing.has(byte) || (byte === comma && depth === 1)) {
        if (closing.has(byte)) depth -= 1
        if (depth > (byte === comma ? 1 : 0)) continue
        take(chunk.subarray(from, at))
        from = at + 1
        const text = finish()
        if (text !== '') yield text
      }
    }
    if (depth > 0) take(chunk.subarray(from))
  }
  if (depth !== 0 || inString) throw new SyntaxError('the array does not end')
}
