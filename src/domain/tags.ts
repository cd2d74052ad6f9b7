/** Tags of an entity (spec/02 §10). Any key works, `__proto__` too: they are changed as a map, never as members of an object. */
import type { Tags } from './entity.js'
import { type AgentsError, errors } from './errors.js'
import { refuseShape } from './json-shape.js'
import type { Limits } from './limits.js'

/** Stored with their keys sorted (spec/01 §5.3). */
export const sortedTags = (tags: Tags): Tags => tagsOf(Object.entries(tags))

const tagsOf = (pairs: Iterable<readonly [string, string]>): Tags => Object.fromEntries([...pairs].sort(([a], [b]) => (a < b ? -1 : 1)))

/** The value of a tag, or null where it is not set. */
export const tagOf = (tags: Tags, key: string): string | null => (Object.hasOwn(tags, key) ? (tags[key] ?? null) : null)

/** The tags with `key` set to `value`; null removes it. */
export function withTag(tags: Tags, key: string, value: string | null): Tags {
  const changed = new Map(Object.entries(tags))
  if (value === null) changed.delete(key)
  else changed.set(key, value)
  return tagsOf(changed)
}

/** The search column, a wire format that clients compute too: `[key, value]` as JSON, in string order (spec/01 §4). */
export const tagsIndex = (tags: Tags): readonly string[] =>
  Object.entries(tags)
    .map((tag) => JSON.stringify(tag))
    .sort()

/** Why these tags cannot be an entity's, or null. */
export function refuseTags(tags: Tags, limits: Limits): AgentsError | null {
  const pairs = Object.entries(tags)
  if (pairs.length > limits.maxTags) return errors.TAG_LIMIT(`${limits.maxTags} per entity`)
  for (const [key, value] of pairs) {
    const refusal = refuseTag(key, value, limits)
    if (refusal !== null) return refusal
  }
  return null
}

/** Why this tag cannot be set, or null. */
export function refuseTag(key: string, value: string, limits: Limits): AgentsError | null {
  if (key.length > limits.maxTagKeyLength) return errors.TAG_LIMIT(`keys of ${limits.maxTagKeyLength} characters`)
  if (value.length > limits.maxTagValueLength) return errors.TAG_LIMIT(`values of ${limits.maxTagValueLength} characters`)
  return refuseShape([key, value], { maxDepth: 1, storable: true })
}
