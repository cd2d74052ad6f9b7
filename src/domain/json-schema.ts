/**
 * JSON schemas of users: creation, inbox and state schemas (spec/02 §3). Draft-07, all errors collected, nothing coerced.
 *
 * J1  A registered schema never causes a 500: what cannot compile is refused at registration, what cannot be decided at use is a violation.
 * J2  A schema is compiled alone, so its `$id`s are its own; `$schema` and `format` are annotations.
 * J3  Compiled validators are cached by content, boundedly.
 * J4  Nobody's schema and nobody's value stops the process: what may be much work is watched, and given up after `maxValidationMs`.
 */

import { Ajv, type ErrorObject, type Options, type ValidateFunction } from 'ajv'
import { LRUCache } from 'lru-cache'
import type { Json, JsonObject, JsonSchema, SchemaMap } from './entity.js'
import type { Violation } from './errors.js'
import { isObject } from './json-shape.js'
import { compiledPattern } from './patterns.js'
import { hasAtMost, holdsSchemas, holdsSchemasByName, partsFor, type SchemaWork, workOf } from './schema-work.js'
import { hasDuplicates, membership } from './unique-items.js'
import { TookTooLong, watched } from './watchdog.js'

const allowed: ReadonlySet<string> = new Set(
  `type properties required enum const minimum maximum exclusiveMinimum exclusiveMaximum minLength maxLength pattern items minItems maxItems
   $ref anyOf oneOf allOf not format title description default additionalProperties nullable $schema $id $defs definitions
   propertyNames minProperties maxProperties uniqueItems multipleOf examples deprecated readOnly writeOnly $comment contentEncoding contentMediaType`.split(
    /\s+/,
  ),
)

/** Collecting all violations of a huge value would cost more than the value; beyond this many only the first is named. */
const maxValuesForAllViolations = 20_000
const maxViolations = 100
const maxCachedValidators = 500
/** In characters of the schemas' texts; a validator takes some twenty times as much. */
const maxCachedText = 4 * 1024 * 1024

/** What is given up after that has stopped the process for so long. */
export const maxValidationMs = 2_000
/** Checks of one part of a value: some tenths of a second. */
const maxWeight = 1_000_000
/** Checks of parts that take some milliseconds together: so much is not watched. */
const maxUnwatchedWork = 20_000

const pointer = (parent: string, name: string): string => `${parent}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`

/** Keywords outside of the allowed subset, at the positions that spec/02 §3.1 names. */
export function disallowedKeywords(schema: unknown, path = ''): Violation[] {
  if (!isObject(schema)) return []
  const here = Object.keys(schema)
    .filter((keyword) => !allowed.has(keyword))
    .map((keyword) => ({ path: pointer(path, keyword), message: `Disallowed keyword: ${keyword}` }))
  return [...here, ...childSchemas(schema, path).flatMap((child) => disallowedKeywords(child.schema, child.path))]
}

function childSchemas(schema: JsonObject, path: string): { readonly schema: Json | undefined; readonly path: string }[] {
  const inMaps = ['properties', '$defs', 'definitions'].flatMap((keyword) => {
    const map = schema[keyword]
    return isObject(map) ? Object.entries(map).map(([name, child]) => ({ schema: child, path: pointer(`${path}/${keyword}`, name) })) : []
  })
  const inLists = ['anyOf', 'oneOf', 'allOf'].flatMap((keyword) => {
    const list = schema[keyword]
    return Array.isArray(list) ? list.map((child: Json, index) => ({ schema: child, path: `${path}/${keyword}/${index}` })) : []
  })
  return [...inMaps, { schema: schema.items, path: `${path}/items` }, ...inLists]
}

interface Compiled {
  readonly work: SchemaWork
  readonly accepts: ValidateFunction
  /** Compiled when a value is first refused: most never are. */
  collect: ValidateFunction | null
}

const validators = new LRUCache<string, Compiled>({
  max: maxCachedValidators,
  maxSize: maxCachedText,
  sizeCalculation: (_validator, content) => content.length,
})
const metaschema = new Ajv({ strict: false, validateFormats: false, logger: false })

const pattern = Object.assign((source: string) => compiledPattern(source), { code: 'compiledPattern' })

function compile(schema: JsonSchema, options: Options): ValidateFunction {
  const ajv = new Ajv({
    strict: false,
    validateFormats: false,
    validateSchema: false,
    meta: false,
    logger: false,
    inlineRefs: false,
    ownProperties: true, // `required: ["constructor"]` asks for a member, not for Object.prototype
    code: { regExp: pattern, optimize: false }, // optimizing takes a time that grows with the square of the schema
    ...options,
  })
  replaceComparisons(ajv)
  return ajv.compile(schema)
}

/** Ajv compares every item, and every value of an enum, with each: of large ones that is a standstill. */
function replaceComparisons(ajv: Ajv): void {
  ajv.removeKeyword('uniqueItems')
  ajv.addKeyword({
    keyword: 'uniqueItems',
    type: 'array',
    schemaType: 'boolean',
    validate: (unique: boolean, items: readonly Json[]) => !unique || !hasDuplicates(items),
    error: { message: 'must NOT have duplicate items' },
  })
  ajv.removeKeyword('enum')
  ajv.addKeyword({
    keyword: 'enum',
    schemaType: 'array',
    before: 'not', // where Ajv has its own
    compile: (values: readonly Json[]) => {
      if (values.length === 0) throw new Error('enum must have non-empty array')
      return membership(values)
    },
    error: { message: 'must be equal to one of the allowed values' },
  })
}

/** J2: the schema without `$schema`, whose dialects we do not follow, and without a `nullable` that has no `type` to widen (Ajv throws on it). */
function executable(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(executable)
  if (!isObject(schema)) return schema
  const kept = Object.entries(schema).filter(
    ([keyword]) => keyword !== '$schema' && (keyword !== 'nullable' || Object.hasOwn(schema, 'type')),
  )
  return Object.fromEntries(kept.map(([keyword, value]) => [keyword, executableMember(keyword, value)]))
}

function executableMember(keyword: string, value: Json): Json {
  if (holdsSchemas.has(keyword)) return executable(value)
  if (!holdsSchemasByName.has(keyword) || !isObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, schema]) => [name, executable(schema)]))
}

/** Of schemas that are asked for again while they are at hand, as for the events of one append. */
const atHand = new WeakMap<JsonSchema, Compiled>()

function compiled(schema: JsonSchema): Compiled {
  const validator = atHand.get(schema) ?? compiledOnce(schema)
  atHand.set(schema, validator)
  return validator
}

function compiledOnce(schema: JsonSchema): Compiled {
  const content = JSON.stringify(schema)
  const known = validators.get(content)
  if (known !== undefined) return known
  const plain = executable(schema) as JsonSchema
  const fresh = { work: workOf(plain), accepts: compile(plain, {}), collect: null }
  validators.set(content, fresh)
  return fresh
}

/** Why `schema` cannot be used, or null (J1). */
export function schemaProblem(schema: JsonSchema): string | null {
  const plain = executable(schema) as JsonSchema
  if (metaschema.validateSchema(plain) !== true) return metaschema.errorsText(metaschema.errors?.slice(0, 3), { dataVar: 'schema' })
  try {
    const { accepts, work } = compiled(schema)
    if (isTooHeavy(work)) return `one value takes ${work.weight} checks: references multiply`
    together(() => accepts(null)) // parsed when it is first called, and that may be too much
    return null
  } catch (failure) {
    return failure instanceof Error ? failure.message : String(failure)
  }
}

/** A schema that leads back to itself is as heavy as its values make it. */
const isTooHeavy = ({ weight }: SchemaWork): boolean => Number.isFinite(weight) && weight > maxWeight

/** Where `value` violates `schema`; empty when it does not. */
export function validate(schema: JsonSchema, value: unknown): Violation[] {
  try {
    return violationsOf(schema, value)
  } catch (failure) {
    return [{ path: '/', message: undecidable(failure) }]
  }
}

/** J4 for several validations: what they may take together. Throws `TookTooLong`. */
export const together = <Result>(validations: () => Result, withinMs = maxValidationMs): Result => watched(withinMs, validations)

function violationsOf(schema: JsonSchema, value: unknown): Violation[] {
  const validator = compiled(schema)
  const isLittle = hasAtMost(maxUnwatchedWork / validator.work.weight, value, partsFor(validator.work))
  const decided = (judge: ValidateFunction) => (isLittle ? judge(value) : together(() => judge(value)))
  if (decided(validator.accepts)) return []
  const first = violations(validator.accepts.errors)
  return isLarge(value) ? first : (collected(validator, schema, decided) ?? first)
}

/** Null where the function that collects all is too large for the parser, though the one that finds the first is not. */
function collected(validator: Compiled, schema: JsonSchema, decided: (judge: ValidateFunction) => unknown): Violation[] | null {
  try {
    validator.collect ??= compile(executable(schema) as JsonSchema, { allErrors: true })
    decided(validator.collect)
    return violations(validator.collect.errors)
  } catch (failure) {
    if (failure instanceof RangeError) return null
    throw failure
  }
}

/** J1: a schema that refers to itself without end, work that was given up, a row from before these checks. */
function undecidable(failure: unknown): string {
  if (failure instanceof TookTooLong) return failure.message
  return failure instanceof RangeError ? 'schema recursion has no end' : 'schema is not valid'
}

const violations = (found: readonly ErrorObject[] | null | undefined): Violation[] =>
  (found ?? [])
    .slice(0, maxViolations)
    .map(({ instancePath, message }) => ({ path: instancePath || '/', message: message ?? 'is not valid' }))

const isLarge = (value: unknown): boolean => !hasAtMost(maxValuesForAllViolations, value, { ofText: () => 1, ofName: () => 0 })

/** The schema of message or event type `name`; a name like `constructor` finds nothing that was not registered. */
export const schemaOf = (map: SchemaMap, name: string): JsonSchema | null => (Object.hasOwn(map, name) ? (map[name] ?? null) : null)
