/** What runner routes take and answer: spec/07 §1.1, §3. */
import { z } from 'zod'
import {
  claimResults,
  clientStatuses,
  diagnosticCounts,
  diagnosticFlags,
  diagnosticTexts,
  healthStatuses,
  livenessStatuses,
} from '../../domain/runner-health.js'
import { runnerAdminStatuses, runnerKinds } from '../../domain/runners.js'
import { body } from '../body.js'
import { anObject, oneOf } from '../schemas.js'

const profile = z.object({ name: z.string(), label: z.string(), description: z.string().optional(), remote: z.boolean().optional() })

export const registrationBody = body(
  z.looseObject({
    id: z.string(),
    label: z.string(),
    owner_principal: z.string().optional(),
    kind: oneOf(...runnerKinds).optional(),
    admin_status: oneOf(...runnerAdminStatuses).optional(),
    wake_stream: z.string().optional(),
    sandbox_profiles: z.array(z.looseObject(profile.shape)).optional(),
  }),
  { intoRows: true },
)

/** Diagnostics are filtered, not refused; so is text in them that no row could hold. */
export const heartbeatBody = body(
  z.looseObject({
    lease_ms: z.number().optional(),
    wake_stream_offset: z.string().optional(),
    wakeStreamOffset: z.string().optional(),
    liveness_lease_expires_at: z.string().optional(),
    diagnostics: anObject.optional(),
  }),
)

const runnerShape = {
  id: z.string(),
  owner_principal: z.string(),
  label: z.string(),
  kind: z.enum(runnerKinds),
  admin_status: z.enum(runnerAdminStatuses),
  wake_stream: z.string(),
  sandbox_profiles: z.array(profile),
  created_at: z.string(),
  updated_at: z.string(),
}

const optional = <Name extends string, Value extends z.ZodType>(names: readonly Name[], value: Value) =>
  Object.fromEntries(names.map((name) => [name, value.optional()]))

const diagnostics = z
  .object({
    status: z.enum(clientStatuses).optional(),
    last_claim_result: z.enum(claimResults).nullable().optional(),
    ...optional(diagnosticFlags, z.boolean()),
    ...optional(diagnosticTexts, z.string().nullable()),
    ...optional(diagnosticCounts, z.number()),
  })
  .meta({ id: 'RunnerDiagnostics' })

export const runner = z.object(runnerShape).meta({ id: 'Runner' })
export const runners = z.array(runner)
export const registeredRunner = z.object({
  ...runnerShape,
  wake_stream_offset: z.string().describe('The end of the wake stream; what is outstanding is announced again behind it'),
})
export const seenRunner = z.object({
  ...runnerShape,
  last_seen_at: z.string(),
  liveness_lease_expires_at: z.string(),
  wake_stream_offset: z.string().optional(),
  diagnostics: diagnostics.optional(),
})

export const runnerHealth = z.object({
  runner: z.object({
    id: z.string(),
    admin_status: z.enum(runnerAdminStatuses),
    liveness_status: z.enum(livenessStatuses),
    lease_expires_at: z.string().nullable(),
    lease_remaining_ms: z.number().nullable(),
    wake_stream: z.string(),
    wake_stream_offset: z.string().nullable(),
    last_seen_at: z.string().nullable(),
    created_at: z.string(),
  }),
  client: diagnostics.nullable(),
  claims: z.object({
    active_count: z.int().describe('Of those that are listed'),
    active: z.array(
      z.object({
        consumer_id: z.string(),
        epoch: z.int(),
        entity_url: z.string().nullable(),
        stream_path: z.string(),
        claimed_at: z.string(),
        last_heartbeat_at: z.string().nullable(),
        lease_expires_at: z.string().nullable(),
      }),
    ),
  }),
  dispatch: z.object({
    entities_with_active_claim: z.int(),
    entities_with_outstanding_wake: z.int(),
    entities_with_pending_work: z.int(),
  }),
  health: z.object({ status: z.enum(healthStatuses), issues: z.array(z.string()) }),
})
