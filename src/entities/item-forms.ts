/**
 * The form of what a workflow was started with: over HTTP the body was checked already, a workflow's input was not.
 * A malformed item is refused like a malformed body, it never fails the activity again and again.
 */
import { z } from 'zod'
import { malformed } from '../domain/batch-form.js'
import type { AgentsError, Violation } from '../domain/errors.js'
import { forkAnchors } from '../domain/fork/cut.js'
import { refuseShape } from '../domain/json-shape.js'
import { signals } from '../domain/signals.js'
import { maxSubscriptionScopeCharacters } from '../domain/subscriptions.js'

const anObject = z.record(z.string(), z.unknown())
const nonEmpty = z.string().min(1)
const target = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('webhook'), url: nonEmpty, subscription_id: nonEmpty.max(maxSubscriptionScopeCharacters).optional() }),
  z.strictObject({
    type: z.literal('runner'),
    runnerId: nonEmpty,
    subscription_id: nonEmpty.max(maxSubscriptionScopeCharacters).optional(),
  }),
])

const spawnForm = z.looseObject({
  url: z.string(),
  principal: z.string(),
  args: anObject.optional(),
  tags: z.record(z.string(), z.string()).optional(),
  parent: z.string().optional(),
  dispatchPolicy: z.strictObject({ targets: z.array(target).length(1) }).optional(),
  sandbox: z
    .looseObject({
      profile: z.string().optional(),
      key: z.string().optional(),
      scope: z.enum(['entity', 'wake']).optional(),
      persistent: z.boolean().optional(),
      owner: z.boolean().optional(),
      inherit: z.boolean().optional(),
    })
    .optional(),
  initialMessage: z.looseObject({ payload: z.unknown(), type: z.string().optional() }).optional(),
})

const forkForm = z.looseObject({
  source: z.string(),
  principal: z.string(),
  instanceId: z.string().optional(),
  waitTimeoutMs: z.number().optional(),
  pointer: z.looseObject({ offset: z.string().nullable(), subOffset: z.number() }).optional(),
  anchor: z.enum(forkAnchors).optional(),
  parent: z.string().optional(),
  wake: anObject.optional(),
  tags: z.record(z.string(), z.string()).optional(),
  initialMessage: z.looseObject({ payload: z.unknown() }).optional(),
})

const signalForm = z.looseObject({
  url: z.string(),
  principal: z.string(),
  signal: z.enum(signals),
  reason: z.string().optional(),
  permission: z.enum(['signal', 'delete']),
})

const refusalBy =
  (form: z.ZodType) =>
  (item: unknown, maxDepth: number): AgentsError | null => {
    const parsed = form.safeParse(item)
    if (!parsed.success) return malformed(parsed.error.issues.map(violation))
    return refuseShape(item, { maxDepth, storable: false })
  }

const violation = ({ path, message }: z.core.$ZodIssue): Violation => ({ path: `/${path.map(String).join('/')}`, message })

/** Why a `SpawnItem` cannot be looked at, or null. */
export const spawnFormRefusal = refusalBy(spawnForm)
/** Why a `ForkItem` cannot be looked at, or null. */
export const forkFormRefusal = refusalBy(forkForm)
/** Why a `SignalItem` cannot be looked at, or null. */
export const signalFormRefusal = refusalBy(signalForm)
