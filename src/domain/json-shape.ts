/** What of parsed JSON no schema expresses. */
import type { JsonObject } from './entity.js'
import { type AgentsError, errors } from './errors.js'

export interface ShapeLimits {
  /** Nesting; a scalar has depth 0. */
  readonly maxDepth: number
  /** Whether Postgres must be able to store every text: no U+0000, no lone surrogate. */
  readonly storable: boolean
}

const unstorable = 'Text must not contain U+0000 or lone surrogates'

const isStorable = (text: string): boolean => !text.includes('\0') && text.isWellFormed()

/** Why `value` (from `JSON.parse`) is refused, or null. */
export function refuseShape(value: unknown, limits: ShapeLimits): AgentsError | null {
  const problem = shapeProblem(value, limits)
  return problem === null ? null : errors.INVALID_REQUEST(problem)
}

function shapeProblem(value: unknown, limits: ShapeLimits, depth = 0): string | null {
  if (typeof value === 'string') return limits.storable && !isStorable(value) ? unstorable : null
  // `1e400` parses to Infinity, which JSON cannot express again.
  if (typeof value === 'number') return Number.isFinite(value) ? null : 'Numbers must be finite'
  if (typeof value !== 'object' || value === null) return null
  if (depth >= limits.maxDepth) return `JSON is nested deeper than ${limits.maxDepth} levels`
  return Array.isArray(value) ? itemProblem(value, limits, depth) : memberProblem(value, limits, depth)
}

function itemProblem(items: readonly unknown[], limits: ShapeLimits, depth: number): string | null {
  for (const item of items) {
    const problem = shapeProblem(item, limits, depth + 1)
    if (problem !== null) return problem
  }
  return null
}

function memberProblem(members: object, limits: ShapeLimits, depth: number): string | null {
  for (const [name, member] of Object.entries(members)) {
    if (limits.storable && !isStorable(name)) return unstorable
    const problem = shapeProblem(member, limits, depth + 1)
    if (problem !== null) return problem
  }
  return null
}

/** Of what `JSON.parse` gave. */
export const isObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value)
