/** Pieces that several request bodies share. Literals in unions, not enums: their violations read as spec/02 §1.2 wants them. */
import { z } from 'zod'
import type { DispatchPolicy, JsonSchema, SchemaMap } from '../domain/entity.js'
import { maxSubscriptionScopeCharacters } from '../domain/subscriptions.js'

/** Any JSON object; what it means is checked later. */
export const anObject = z.looseObject({})
export const jsonSchema = anObject as unknown as z.ZodType<JsonSchema> // an object out of JSON.parse is one
export const schemaMap = z.record(z.string(), anObject) as unknown as z.ZodType<SchemaMap>

const nonEmpty = z.string().min(1)
/** With the hash of an entity's URL behind it, and the stream beside it, it still fits into an index. */
const subscriptionScope = nonEmpty.max(maxSubscriptionScopeCharacters)

/** spec/01 §5.2: exactly one target, closed. */
export const dispatchPolicy = z.strictObject({
  targets: z
    .array(
      z.union([
        z.strictObject({ type: z.literal('webhook'), url: nonEmpty, subscription_id: subscriptionScope.optional() }),
        z.strictObject({ type: z.literal('runner'), runnerId: nonEmpty, subscription_id: subscriptionScope.optional() }),
      ]),
    )
    .min(1)
    .max(1),
}) as unknown as z.ZodType<DispatchPolicy> // an array of exactly one is the tuple

/** `map` forgets how many values there are: hence the cast. */
export const oneOf = <const Values extends readonly [string, string, ...string[]]>(...values: Values) =>
  z.union(values.map((value) => z.literal(value)) as unknown as readonly [z.ZodLiteral<Values[number]>, z.ZodLiteral<Values[number]>])

/** The wake that a spawn or a fork asks for (spec/02 §6.1, spec/08 §3.3). */
export const requestedWake = z.looseObject({
  subscriberUrl: z.string(),
  condition: z.union([
    z.literal('runFinished'),
    z.looseObject({
      on: z.literal('change'),
      collections: z.array(z.string()).optional(),
      ops: z.array(oneOf('insert', 'update', 'delete')).optional(),
    }),
  ]),
  debounceMs: z.number().optional(),
  timeoutMs: z.number().optional(),
  includeResponse: z.boolean().optional(),
  manifestKey: z.string().optional(),
})
