/** Which messages an entity takes (spec/03 §2.3). */
import { composerInputIssues } from './composer-input.js'
import type { SchemaMap } from './entity.js'
import { type AgentsError, errors, type Violation } from './errors.js'
import { schemaOf, validate } from './json-schema.js'

/** Why a message is refused, or null. `schemas` are the effective inbox schemas; an empty type counts as none. */
export function refuseMessage(schemas: SchemaMap | null, type: string | undefined, payload: unknown): AgentsError | null {
  if (!type) return null
  if (type === 'composer_input') return invalid(composerInputIssues(payload))
  if (schemas === null) return null
  const schema = schemaOf(schemas, type)
  return schema === null ? errors.UNKNOWN_MESSAGE_TYPE(type) : invalid(validate(schema, payload))
}

const invalid = (violations: readonly Violation[]): AgentsError | null =>
  violations.length === 0 ? null : errors.SCHEMA_VALIDATION_FAILED().withDetails(violations)
