/**
 * `pattern` of registered schemas, bounded: whoever registers a schema must not be able to stop the server with `(a+)+$`.
 *
 * A pattern that leaves a match next to no choice (one repetition or one alternative, no repeated group) runs directly on short texts: it tries each place of
 * the text once. Bounded repetitions are choices too, and so is `?`: with twenty-five of them a match has millions of ways.
 * Everything else runs under V8's own watchdog, which interrupts a match; that costs some 50 µs and is always right, where judging patterns is not.
 */
import { createContext, Script } from 'node:vm'

/** A match that takes longer is given up. */
const maxMatchMs = 100
/** So are all that follow when those of one validation have taken so long together. */
const maxTotalMs = 1_000
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
  const choices = source.match(/[*+?|]|\{\d+,\d*\}/g) ?? []
  return choices.length <= 1 && !/\)\s*[*+?{]/.test(source) && !/\\[1-9k]/.test(source)
}

let spentMs = 0

/** One validation: what its patterns may take together begins anew. */
export function withinPatternTime<Result>(validation: () => Result): Result {
  spentMs = 0
  return validation()
}

const sandbox = createContext(Object.create(null))
const match = new Script('pattern.test(text)')

function testBounded(pattern: RegExp, text: string): boolean {
  if (spentMs >= maxTotalMs) throw new PatternTooSlow()
  const began = performance.now()
  Object.assign(sandbox, { pattern, text })
  try {
    return match.runInContext(sandbox, { timeout: maxMatchMs }) === true
  } catch {
    throw new PatternTooSlow()
  } finally {
    Object.assign(sandbox, { pattern: undefined, text: undefined })
    spentMs += performance.now() - began
  }
}

/** Throws a SyntaxError where `source` is no pattern. */
export function boundedPattern(source: string): BoundedPattern {
  const pattern = compiled(source)
  const plain = isPlain(source)
  return { test: (text) => (plain && text.length <= maxDirectLength ? pattern.test(text) : testBounded(pattern, text)) }
}
