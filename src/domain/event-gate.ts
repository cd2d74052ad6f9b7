/** Which events of clients an entity takes (spec/03 §8.3, spec/01 §7.24). Events that the server writes are never gated. */
import type { SchemaMap } from './entity.js'
import { type AgentsError, errors } from './errors.js'
import { maxValidationMs, schemaOf, together, validate } from './json-schema.js'
import { TookTooLong } from './watchdog.js'

/**
 * Event types that mean something to the server or to every runtime (spec/01 §7). A collection that is opened to external writers has none of them: its
 * writers would link shared state, end runs, or send in somebody's name.
 */
const builtInTypes = new Set([
  'child_status',
  'context_inserted',
  'context_removed',
  'entity_created',
  'entity_stopped',
  'error',
  'identity',
  'inbox',
  'manifest',
  'reasoning',
  'reasoning_delta',
  'replay_watermark',
  'run',
  'signal',
  'slash_command',
  'step',
  'tags',
  'text',
  'text_delta',
  'tool_call',
  'wake',
])

export const isBuiltInType = (type: string): boolean => builtInTypes.has(type)

interface EventLike {
  readonly type?: unknown
  readonly value?: unknown
  readonly old_value?: unknown
  readonly headers?: { readonly operation?: unknown }
}

/** Why the first of these events that is refused is, or null. `schemas` are the effective state schemas: by event type, null where anything goes. */
export function refuseEvents(schemas: SchemaMap | null, events: readonly unknown[]): AgentsError | null {
  if (schemas === null) return null
  const [only] = events
  return events.length === 1 ? refuseEvent(schemas, only) : refuseWithin(maxValidationMs, schemas, events)
}

/** As `refuseEvents`, of the events of one append that come part by part: they have its time together. */
export function gateOf(schemas: SchemaMap | null): (events: readonly unknown[]) => AgentsError | null {
  let leftMs = maxValidationMs
  return (events) => {
    if (schemas === null) return null
    const began = performance.now()
    const refusal = refuseWithin(leftMs, schemas, events)
    leftMs -= performance.now() - began
    return refusal
  }
}

function refuseWithin(ms: number, schemas: SchemaMap, events: readonly unknown[]): AgentsError | null {
  try {
    return together(() => firstRefusal(schemas, events), Math.max(1, Math.ceil(ms)))
  } catch (failure) {
    if (failure instanceof TookTooLong) return errors.SCHEMA_VALIDATION_FAILED()
    throw failure
  }
}

function firstRefusal(schemas: SchemaMap, events: readonly unknown[]): AgentsError | null {
  for (const event of events) {
    const refusal = refuseEvent(schemas, event)
    if (refusal !== null) return refusal
  }
  return null
}

function refuseEvent(schemas: SchemaMap, item: unknown): AgentsError | null {
  if (typeof item !== 'object' || item === null) return null
  const event: EventLike = item
  if (!event.type) return null
  const type = String(event.type)
  const schema = schemaOf(schemas, type)
  if (schema === null) return errors.UNKNOWN_EVENT_TYPE(type)
  const payload = payloadOf(event)
  // Without details: clients know this refusal by its code alone.
  return payload === undefined || validate(schema, payload).length === 0 ? null : errors.SCHEMA_VALIDATION_FAILED()
}

const payloadOf = ({ value, old_value, headers }: EventLike): unknown =>
  headers?.operation === 'delete' && old_value !== undefined ? old_value : value
