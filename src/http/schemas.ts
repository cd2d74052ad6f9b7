/** Pieces that several request bodies share. Literals in unions, not enums: their violations read as spec/02 §1.2 wants them. */
import { z } from 'zod'
import type { DispatchPolicy, JsonSchema, SchemaMap } from '../domain/entity.js'

/** Any JSON object; what it means is checked later. */
export const anObject = z.looseObject({})
export const jsonSchema = anObject as unknown as z.ZodType<JsonSchema> // an object out of JSON.parse is one
export const schemaMap = z.record(z.string(), anObject) as unknown as z.ZodType<SchemaMap>

const nonEmpty = z.string().min(1)

/** spec/01 §5.2: exactly one target, closed. */
export const dispatchPolicy = z.strictObject({
  targets: z
    .array(
      z.union([
        z.strictObject({ type: z.literal('webhook'), url: nonEmpty, subscription_id: nonEmpty.optional() }),
        z.strictObject({ type: z.literal('runner'), runnerId: nonEmpty, subscription_id: nonEmpty.optional() }),
      ]),
    )
    .min(1)
    .max(1),
}) as unknown as z.ZodType<DispatchPolicy> // an array of exactly one is the tuple

export const oneOf = <const Values extends readonly [string, string, ...string[]]>(...values: Values) =>
  z.union(values.map((value) => z.literal(value)) as unknown as readonly [z.ZodLiteral<Values[number]>, z.ZodLiteral<Values[number]>])
