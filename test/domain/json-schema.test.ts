import fc from 'fast-check'
import type { JsonSchema } from '../../src/domain/entity.js'
import { disallowedKeywords, schemaOf, schemaProblem, together, validate } from '../../src/domain/json-schema.js'
import { TookTooLong } from '../../src/domain/watchdog.js'

/** Each level asks for the next twice. */
const diamond = (levels: number, last: JsonSchema = { type: 'integer' }): JsonSchema => {
  const level = (index: number) => ({ allOf: [{ $ref: `#/$defs/l${index + 1}` }, { $ref: `#/$defs/l${index + 1}` }] })
  const defs = Array.from({ length: levels }, (_, index) => [`l${index}`, level(index)])
  return { $defs: { ...Object.fromEntries(defs), [`l${levels}`]: last }, $ref: '#/$defs/l0' }
}

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
    expect(messages({ type: 'string', pattern: '^(a+)+$' }, `${'a'.repeat(60)}!`)).toEqual(['/ could not be decided in time'])
    expect(messages({ type: 'string', pattern: 'a*a*a*a*a*a*b$' }, 'a'.repeat(5_000))).toEqual(['/ could not be decided in time'])
  })

  it.each([
    ['bounded repetitions', '^x{0,600}x{0,600}x{0,600}x{0,600}y', 'x'.repeat(1_900)],
    ['optional characters', `^${'a?'.repeat(80)}${'a'.repeat(80)}$`, 'a'.repeat(79)],
    ['alternatives', `^${'(a|a)'.repeat(40)}$`, `${'a'.repeat(39)}b`],
  ])('gives up %s that multiply', (_, pattern, text) => {
    expect(messages({ pattern }, text)).toEqual(['/ could not be decided in time'])
  })

  it('gives up many matches that are slow together', () => {
    const texts = Array.from({ length: 2_000 }, () => `${'a'.repeat(18)}!`)

    expect(messages({ items: { pattern: '^(a|a)+$' } }, texts)).toEqual(['/ could not be decided in time'])
  })

  it('gives up plain patterns that are slow over many long texts', () => {
    const texts = Array.from({ length: 40_000 }, () => 'a'.repeat(2_000))

    expect(messages({ items: { not: { pattern: 'a*b' } } }, texts)).toEqual(['/ could not be decided in time'])
  })

  it('gives up what references multiply without end', () => {
    expect(messages(diamond(60), 1)).toEqual(['/ could not be decided in time'])
  })

  it('gives up several validations together, and goes on with the next', () => {
    const slow = { pattern: '^(a|a)+$' }
    const texts = Array.from({ length: 200 }, () => `${'a'.repeat(26)}!`)

    expect(() => together(() => texts.map((text) => validate(slow, text)))).toThrow(TookTooLong)
    expect(messages(slow, 'aaa')).toEqual([])
  })

  it('looks up the values of an enum, whatever they are', () => {
    const many = Array.from({ length: 20_000 }, (_, index) => `v${index}`)
    const objects = many.map((name) => ({ name, more: [1] }))

    expect(messages({ items: { enum: many } }, Array(300_000).fill(many.at(-1)))).toEqual([])
    expect(messages({ items: { enum: objects } }, Array(100_000).fill({ more: [1.0], name: 'v19999' }))).toEqual([])
    expect(messages({ enum: [1, '1', null, { a: 1 }] }, [1])).toEqual(['/ must be equal to one of the allowed values'])
    expect(messages({ enum: ['a', 1] }, 'a')).toEqual([])
    expect(messages({ enum: ['1'] }, 1)).toEqual(['/ must be equal to one of the allowed values'])
  })

  it('tells the patterns of one schema apart', () => {
    const schema = { properties: { a: { pattern: '^a$' }, b: { pattern: '^b$' } } }

    expect(messages(schema, { a: 'a', b: 'b' })).toEqual([])
    expect(messages(schema, { a: 'b', b: 'a' })).toEqual(['/a must match pattern "^a$"', '/b must match pattern "^b$"'])
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

describe('registering a schema', () => {
  it('refuses references that multiply', () => {
    expect(schemaProblem(diamond(8))).toBeNull()
    expect(schemaProblem(diamond(60))).toMatch(/references multiply/)
    expect(schemaProblem(diamond(60, {}))).toMatch(/references multiply/) // what takes anything is asked for all of it
  })

  it('takes a schema that leads back to itself', () => {
    const tree = {
      $defs: { node: { type: 'object', properties: { children: { items: { $ref: '#/$defs/node' } } } } },
      $ref: '#/$defs/node',
    }

    expect(schemaProblem(tree)).toBeNull()
    expect(messages(tree, { children: [{ children: [1] }] })).toEqual(['/children/0/children/0 must be object'])
  })

  it('refuses what no value can be judged by: an enum of nothing, references without end, alternatives beyond the parser', () => {
    const wide = { anyOf: Array.from({ length: 5_000 }, (_, index) => ({ type: 'object', required: [`a${index}`] })) }

    expect(schemaProblem({ enum: [] })).toBe('schema/enum must NOT have fewer than 1 items')
    expect(schemaProblem({ $ref: '#' })).toBe('Maximum call stack size exceeded')
    expect(schemaProblem(wide as unknown as JsonSchema)).toBe('Maximum call stack size exceeded')
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
