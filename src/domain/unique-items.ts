import type { Json } from './entity.js'

/** One text per JSON value, whatever the order of its members. */
function canonical(value: Json): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`
}

export const hasDuplicates = (items: readonly Json[]): boolean => new Set(items.map(canonical)).size < items.length

/** Whether a value is one of these, in time that does not depend on how many they are. */
export function membership(values: readonly Json[]): (value: Json) => boolean {
  const known = new Set(values.map(canonical))
  const haveParts = values.some(hasParts)
  return (value) => (haveParts || !hasParts(value)) && known.has(canonical(value))
}

const hasParts = (value: Json): boolean => typeof value === 'object' && value !== null
