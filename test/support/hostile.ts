/** Requests that nobody should send: each is refused with a 4xx, and after all of them nothing has changed. */
import fc from 'fast-check'
import type { Answer, Wire } from './wire.js'

/** Segments of a path that stand for no name a client would choose; as they are sent. */
export const oddSegment = fc.oneof(
  fc.constantFrom(
    '%zz',
    '%',
    '%00',
    '%E0%A4%A',
    '%ff%fe',
    '%2F',
    '%2f..%2f',
    '%252e',
    '__proto__',
    'constructor',
    'toString',
    '*',
    "'",
    '"',
  ),
  fc.constantFrom('$(id)', '`', '{}', '[0]', '\\', '|', '^', 'null', '-1', '..;', '%ED%A0%80'),
  // The tilde keeps a drawn text from being the name of something that exists, such as "a".
  fc.string({ minLength: 1, maxLength: 12 }).map((text) => encodeURIComponent(`~${text.toWellFormed()}`)),
  fc.integer({ min: 300, max: 6_000 }).map((length) => 'o'.repeat(length)),
)

/** Bodies that no schema of an object takes. */
export const noObject = fc.oneof(
  fc.jsonValue({ maxDepth: 1 }).map((value) => (typeof value === 'object' && !Array.isArray(value) ? '7' : JSON.stringify(value))),
  fc.constantFrom('{', '[', 'nul', '{"a":1,}', '{"a":1}{}', '\u{0}', '{"value":NaN}', '\ufeff\ufeff{}'),
  fc.integer({ min: 201, max: 20_000 }).map((depth) => '['.repeat(depth) + ']'.repeat(depth)),
  fc.integer({ min: 201, max: 5_000 }).map((depth) => `${'{"value":'.repeat(depth)}1${'}'.repeat(depth)}`),
)

/** Rows, streams and tags: what a refused request must not change. */
async function everything(wire: Wire): Promise<unknown> {
  return [await wire.counts(), await wire.sql('SELECT url, tags, tags_index, sandbox, updated_at FROM entities ORDER BY url')]
}

export async function refusesAll<Drawn>(
  wire: Wire,
  drawn: fc.Arbitrary<Drawn>,
  request: (drawn: Drawn) => Promise<Answer>,
  numRuns = 80,
): Promise<void> {
  const before = await everything(wire)
  await fc.assert(
    fc.asyncProperty(drawn, async (value) => {
      const { status, text } = await request(value)
      if (status < 400 || status >= 500) throw new Error(`answered ${status}: ${text.slice(0, 300)}`)
    }),
    { numRuns },
  )
  expect(await everything(wire)).toEqual(before)
}

/** Whatever is sent, the answer is no 5xx. */
export async function neverFails<Drawn>(
  drawn: fc.Arbitrary<Drawn>,
  request: (drawn: Drawn) => Promise<Answer>,
  numRuns = 80,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(drawn, async (value) => {
      const { status, text } = await request(value)
      if (status >= 500) throw new Error(`answered ${status}: ${text.slice(0, 300)}`)
    }),
    { numRuns },
  )
}
