/**
 * `pattern` of registered schemas, bounded: whoever registers a schema must not be able to stop the server with `(a+)+$`.
 *
 * A pattern that can only take time linear in the text (no repeated group, at most one unbounded repetition) runs directly on short texts.
 * Everything else runs under V8's own watchdog, which interrupts a match; that costs some 50 µs and is always right, where judging patterns is not.
 */
import { createContext, Script } from 'node:vm'

/** A match that takes longer is given up. */
const maxMatchMs = 100
const maxDirectLength = 2_000

/** A match was given up: whether the text fits is not known. */
export class PatternTooSlow extends Error {}

export interface BoundedPattern {
  test(text: string): boolean
}

/** Unicode mode as JSON Schema wants it; patterns that are only valid without it are taken as they are. */
function compiled(source: string): RegExp {
  try {
    return new RegExp(source, 'u')
  } catch {
    return new RegExp(source)
  }
}

function isPlain(source: string): boolean {
  const repetitions = source.match(/[*+]|\{\d+,\}/g) ?? []
  return repetitions.length <= 1 && !/\)\s*[*+?{]/.test(source) && !/\\[1-9k]/.test(source)
}

const sandbox = createContext(Object.create(null))
const match = new Script('pattern.test(text)')

function testBounded(pattern: RegExp, text: string): boolean {
  Object.assign(sandbox, { pattern, text })
  try {
    return match.runInContext(sandbox, { timeout: maxMatchMs }) === true
  } catch {
    throw new PatternTooSlow()
  } finally {
    Object.assign(sandbox, { pattern: undefined, text: undefined })
  }
}

/** Throws a SyntaxError where `source` is no pattern. */
export function boundedPattern(source: string): BoundedPattern {
  const pattern = compiled(source)
  const plain = isPlain(source)
  return { test: (text) => (plain && text.length <= maxDirectLength ? pattern.test(text) : testBounded(pattern, text)) }
}
