/**
 * How much work a schema makes, so that only what may be much is watched (watchdog.ts), and what would be too much is not registered.
 *
 * W1  A value costs at most the weight of the schema for each of its parts: no keyword looks at a part more often than there are ways to it through `$ref`.
 * W2  What cannot be told is endless: a schema that leads back to itself, a reference that is no pointer into it.
 */
import type { Json, JsonObject } from './entity.js'
import { isObject } from './json-shape.js'
import { isPlain, maxPlainText } from './patterns.js'

export const holdsSchemasByName: ReadonlySet<string> = new Set(['properties', 'patternProperties', '$defs', 'definitions'])
export const holdsSchemas: ReadonlySet<string> = new Set(
  'items additionalItems contains additionalProperties propertyNames not if then else anyOf oneOf allOf'.split(' '),
)

function subschemas(schema: JsonObject): Json[] {
  return Object.entries(schema).flatMap(([keyword, held]) => {
    if (holdsSchemas.has(keyword)) return Array.isArray(held) ? held : [held]
    return holdsSchemasByName.has(keyword) && isObject(held) ? Object.values(held) : []
  })
}

/** The schema and all within it. */
export function countSchemas(schema: Json): number {
  let count = 0
  for (const pending = [schema]; pending.length > 0; count += 1) {
    const next = pending.pop() as Json // it is not empty
    if (isObject(next)) pending.push(...subschemas(next))
  }
  return count
}

export interface SchemaWork {
  /** Checks of one part of a value, in the worst case; infinite where it cannot be told (W2). */
  readonly weight: number
  readonly hasPatterns: boolean
}

export function workOf(root: JsonObject): SchemaWork {
  let hasPatterns = false
  const known = new Map<JsonObject, number>()
  const weigh = (schema: Json | undefined): number => {
    if (!isObject(schema)) return schema === undefined ? Number.POSITIVE_INFINITY : 1
    const before = known.get(schema)
    if (before !== undefined) return before
    known.set(schema, Number.POSITIVE_INFINITY) // until it is weighed: W2
    hasPatterns ||= typeof schema.pattern === 'string'
    const weight = [referred(root, schema), ...subschemas(schema)].reduce<number>(
      (sum, below) => added(sum, weigh(below)),
      ownWeight(schema, schema === root),
    )
    known.set(schema, weight)
    return weight
  }
  return { weight: weigh(root), hasPatterns }
}

/** Infinite only by W2, never by multiplying. */
const added = (one: number, other: number): number =>
  Number.isFinite(one + other) ? Math.min(one + other, Number.MAX_SAFE_INTEGER) : Number.POSITIVE_INFINITY

const plainPatternWeight = 100
const wholeValueWeight = 4

function ownWeight(schema: JsonObject, isRoot: boolean): number {
  if (!isRoot && typeof schema.$id === 'string') return Number.POSITIVE_INFINITY // its references are not ours to follow
  return 1 + names(schema.required) + wholeValues(schema) + patternWeight(schema.pattern)
}

const names = (required: Json | undefined): number => (Array.isArray(required) ? required.length : 0)

/** Keywords that write down what they compare. */
const wholeValues = ({ uniqueItems, enum: values }: JsonObject): number =>
  (uniqueItems === true ? wholeValueWeight : 0) + (values === undefined ? 0 : wholeValueWeight)

function patternWeight(pattern: Json | undefined): number {
  if (typeof pattern !== 'string') return 0
  return isPlain(pattern) ? plainPatternWeight : Number.POSITIVE_INFINITY
}

/** What `$ref` leads to: `false`, which costs nothing more, where there is none; undefined where it is no pointer into `root`. */
function referred(root: JsonObject, { $ref }: JsonObject): Json | undefined {
  if (typeof $ref !== 'string') return false
  if (!/^#(\/|$)/.test($ref)) return undefined
  try {
    const steps = decodeURIComponent($ref.slice(1)).split('/').slice(1)
    return steps.reduce<Json | undefined>((at, step) => memberOf(at, step.replaceAll('~1', '/').replaceAll('~0', '~')), root)
  } catch {
    return undefined
  }
}

const memberOf = (at: Json | undefined, name: string): Json | undefined =>
  typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? (at as JsonObject)[name] : undefined

/** How many parts of a value a text counts for, and a member's name. */
export interface PartsOf {
  readonly ofText: (text: string) => number
  readonly ofName: (name: string) => number
}

const charactersOfAPart = 64

/** A long text counts as several, and as too many where patterns look at it. */
export function partsFor({ hasPatterns }: SchemaWork): PartsOf {
  const ofText = (text: string): number =>
    hasPatterns && text.length > maxPlainText ? Number.POSITIVE_INFINITY : 1 + text.length / charactersOfAPart
  return { ofText, ofName: ofText }
}

/** Whether `value` has at most `most` parts. Looks at no more of it. */
export function hasAtMost(most: number, value: unknown, { ofText, ofName }: PartsOf): boolean {
  let parts = 0
  for (const pending = [value]; pending.length > 0; ) {
    const next = pending.pop()
    parts += typeof next === 'string' ? ofText(next) : 1
    if (Array.isArray(next)) {
      if (parts + next.length > most) return false
      pending.push(...next)
    } else if (isObject(next)) {
      for (const [name, member] of Object.entries(next)) {
        parts += ofName(name)
        pending.push(member)
      }
    }
    if (parts > most) return false
  }
  return true
}
