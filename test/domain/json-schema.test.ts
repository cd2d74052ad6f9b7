import fc from 'fast-check'
import type { JsonSchema } from '../../src/domain/entity.js'
import { disallowedKeywords, schemaOf, schemaProblem, validate } from '../../src/domain/json-schema.js'

const messages = (schema: JsonSchema, value: unknown) => validate(schema, value).map(({ path, message }) => `${path} ${message}`)

describe('validating a value', () => {
  it('collects all violations with pointers, in the texts of Ajv', () => {
    const schema = {
      type: 'object',
      properties: { a: { type: 'string' }, b: { type: 'array', maxItems: 1 } },
      required: ['c'],
      additionalProperties: false,
    }

    expect(messages(schema, { a: 1, b: [1, 2], d: 1 })).toEqual([
      "/ must have required property 'c'",
      '/ must NOT have additional properties',
      '/a must be string',
      '/b must NOT have more than 1 items',
    ])
  })

  it('treats formats as annotations (required of us)', () => {
    expect(messages({ type: 'string', format: 'email' }, 'no address')).toEqual([])
    expect(messages({ type: 'string', format: 'made-up' }, 'x')).toEqual([])
  })

  it('may use a schema with $id as often as it likes (required of us)', () => {
    const schema = { $id: 'https://example.org/same', type: 'string' }

    expect(messages(schema, 'x')).toEqual([])
    expect(messages({ ...schema, maxLength: 3 }, 'long')).toEqual(['/ must NOT have more than 3 characters'])
    expect(messages(schema, 1)).toEqual(['/ must be string'])
  })

  it('ignores a dialect it does not know, and nullable without type (required of us)', () => {
    expect(
      schemaProblem({ $schema: 'https://json-schema.org/draft/2020-12/schema', nullable: true, properties: { x: { nullable: true } } }),
    ).toBeNull()
  })

  it('keeps properties and constants that are called like what it ignores', () => {
    const schema = { properties: { nullable: true, $schema: { type: 'string' } }, additionalProperties: false } as const

    expect(messages(schema, { nullable: 1, $schema: 's' })).toEqual([])
    expect(messages({ const: { $schema: 'x' } }, { $schema: 'x' })).toEqual([])
  })

  it('does not take members of Object.prototype for members of the value', () => {
    expect(messages({ required: ['constructor', 'toString'] }, {})).toHaveLength(2)
  })

  it('gives up a pattern that backtracks without end instead of standing still (required of us)', () => {
    const started = Date.now()

    expect(messages({ type: 'string', pattern: '^(a+)+$' }, `${'a'.repeat(60)}!`)).toEqual(['/ pattern could not be decided in time'])
    expect(messages({ type: 'string', pattern: 'a*a*a*a*a*a*b$' }, 'a'.repeat(5_000))).toEqual(['/ pattern could not be decided in time'])
    expect(Date.now() - started).toBeLessThan(2_000)
  })

  it.each([
    ['bounded repetitions', '^x{0,600}x{0,600}x{0,600}x{0,600}y', 'x'.repeat(1_900)],
    ['optional characters', `^${'a?'.repeat(40)}${'a'.repeat(40)}$`, 'a'.repeat(39)],
    ['alternatives', `^${'(a|a)'.repeat(40)}$`, `${'a'.repeat(39)}b`],
  ])('gives up %s that multiply', (_, pattern, text) => {
    expect(messages({ pattern }, text)).toEqual(['/ pattern could not be decided in time'])
  })

  it('gives up many matches that are slow together', () => {
    const texts = Array.from({ length: 2_000 }, () => `${'a'.repeat(18)}!`)

    expect(messages({ items: { pattern: '^(a|a)+$' } }, texts)).toEqual(['/ pattern could not be decided in time'])
  })

  it('decides patterns that only look dangerous', () => {
    expect(messages({ pattern: '^(ab)+$' }, 'ababab')).toEqual([])
    expect(messages({ pattern: '^[\\w-.]+$' }, 'a-b.c')).toEqual([])
    expect(messages({ pattern: '^a+$' }, 'b')).toEqual(['/ must match pattern "^a+$"'])
  })

  it('answers where a schema refers to itself without end', () => {
    expect(messages({ $ref: '#' }, 1)).toEqual(['/ schema recursion has no end'])
  })

  it('finds duplicates of a large array without comparing each with each', () => {
    const items = Array.from({ length: 100_000 }, (_, index) => ({ index }))

    expect(messages({ uniqueItems: true }, items)).toEqual([])
    expect(
      messages({ uniqueItems: true }, [
        { a: 1, b: 2 },
        { b: 2, a: 1 },
      ]),
    ).toEqual(['/ must NOT have duplicate items'])
  })

  it('names at most 100 violations', () => {
    expect(messages({ items: { type: 'string' } }, Array(1_000).fill(1))).toHaveLength(100)
    expect(messages({ items: { type: 'string' } }, Array(100_000).fill(1))).toHaveLength(1)
  })

  it('never throws, whatever was registered', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue(), (schema, value) => {
        const refused = schemaProblem(schema as JsonSchema)
        expect(Array.isArray(refused === null ? validate(schema as JsonSchema, value) : [])).toBe(true)
      }),
      { numRuns: 200 },
    )
  })
})

describe('the keyword subset', () => {
  it('is checked where the spec says, and nowhere else', () => {
    const schema = {
      properties: { x: { if: {} } },
      items: { patternProperties: {} },
      anyOf: [{ contains: {} }],
      $defs: { 'a/b': { else: {} } },
      not: { if: {} },
      additionalProperties: { if: {} },
      default: { if: {} },
    }

    expect(disallowedKeywords(schema)).toEqual([
      { path: '/properties/x/if', message: 'Disallowed keyword: if' },
      { path: '/$defs/a~1b/else', message: 'Disallowed keyword: else' },
      { path: '/items/patternProperties', message: 'Disallowed keyword: patternProperties' },
      { path: '/anyOf/0/contains', message: 'Disallowed keyword: contains' },
    ])
  })
})

describe('the schema of a type name', () => {
  it('is found only if it was registered', () => {
    expect(schemaOf({ run: { type: 'object' } }, 'run')).toEqual({ type: 'object' })
    expect(schemaOf({ run: {} }, 'constructor')).toBeNull()
    expect(schemaOf({}, '__proto__')).toBeNull()
  })
})
