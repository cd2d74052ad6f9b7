/** What a runner may say, beyond the schema of its body. Pure: throws the first refusal. */
import { errors } from '../domain/errors.js'
import { refuseShape } from '../domain/json-shape.js'
import type { Limits } from '../domain/limits.js'
import type { AdvertisedProfile } from '../domain/runners.js'

interface RunnerTexts {
  readonly label?: string
  readonly wake_stream_offset?: string | undefined
  readonly sandbox_profiles?: readonly AdvertisedProfile[]
}

export function refuseLongTexts({ label, wake_stream_offset, sandbox_profiles = [] }: RunnerTexts, limits: Limits): void {
  if (sandbox_profiles.length > limits.maxSandboxProfiles)
    throw errors.INVALID_REQUEST(`sandbox_profiles is limited to ${limits.maxSandboxProfiles} profiles`)
  const texts = [label, wake_stream_offset, ...sandbox_profiles.flatMap((profile) => [profile.name, profile.label, profile.description])]
  for (const text of texts) if (text !== undefined) refuseText(text, limits)
}

function refuseText(text: string, { maxRunnerTextLength, maxJsonDepth }: Limits): void {
  if (text.length > maxRunnerTextLength) throw errors.INVALID_REQUEST(`Texts of a runner are limited to ${maxRunnerTextLength} characters`)
  const refusal = refuseShape(text, { maxDepth: maxJsonDepth, storable: true })
  if (refusal !== null) throw refusal
}

/** With its zone: replicas may live in several. */
const isoDate = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/i

/** How long the runner says that it will be there. Whether a moment lies too far ahead is seen by the clock of the database. */
export function leaseOf(
  sent: { readonly lease_ms?: number; readonly liveness_lease_expires_at?: string },
  defaultMs: number,
  { maxRunnerLeaseMs }: Limits,
): { readonly forMs: number } | { readonly until: Date } {
  const { lease_ms = defaultMs, liveness_lease_expires_at: until } = sent
  if (!(lease_ms >= 0 && lease_ms <= maxRunnerLeaseMs)) throw errors.INVALID_REQUEST(`lease_ms must be between 0 and ${maxRunnerLeaseMs}`)
  if (until === undefined) return { forMs: lease_ms }
  const date = new Date(isoDate.test(until) ? until : Number.NaN)
  if (Number.isNaN(date.getTime()) || date.getTime() < 0)
    throw errors.INVALID_REQUEST('liveness_lease_expires_at must be an ISO 8601 date with its zone')
  return { until: date }
}
