/** Runners: processes that pull wakes (spec/07 §1, §3.1). Pure. */
import type { PrincipalUrl, StreamPath } from './ids.js'
import type { SandboxProfile } from './sandbox.js'

export const runnerKinds = ['local', 'cloud-worker', 'sandbox', 'ci', 'server'] as const
export type RunnerKind = (typeof runnerKinds)[number]

export const runnerAdminStatuses = ['enabled', 'disabled'] as const
export type RunnerAdminStatus = (typeof runnerAdminStatuses)[number]

/** A profile as a runner advertises it. */
export interface AdvertisedProfile extends SandboxProfile {
  readonly label: string
  readonly description?: string
}

export interface Runner {
  readonly id: string
  readonly owner_principal: PrincipalUrl
  readonly label: string
  readonly kind: RunnerKind
  readonly admin_status: RunnerAdminStatus
  /** Where its wakes are announced; of no other runner. */
  readonly wake_stream: StreamPath
  readonly sandbox_profiles: readonly AdvertisedProfile[]
  readonly created_at: Date
  readonly updated_at: Date
}

/** Bytes of an id as it stands in a path. */
export const maxRunnerIdBytes = 500

/**
 * Whether clients and server name one path by `id`: clients escape it with `encodeURIComponent`, others leave that to their URL parser.
 * So `:` (which would let claims of `a` reach the subscriptions of `a:b`), `/`, `@`, `+`, `%`, `?`, … are none; nor is `*`, a pattern's.
 */
export function isRunnerId(id: string): boolean {
  if (id === '' || !id.isWellFormed() || /[*\0]/.test(id)) return false
  const escaped = encodeURIComponent(id)
  return escaped.length <= maxRunnerIdBytes && survivingPath(wakeStreamBelow(id)) === wakeStreamBelow(escaped)
}

/** Where the wakes of `id` are announced unless it asks for another path; as clients spell it. */
export const defaultWakeStream = (id: string): StreamPath => wakeStreamBelow(encodeURIComponent(id)) as StreamPath

const wakeStreamBelow = (segment: string): string => `/runners/${segment}/wake`

/** What is left of `path` once a URL parser has had it. */
export function survivingPath(path: string): string | null {
  const base = 'http://runner.invalid'
  if (!URL.canParse(base + path)) return null
  const { href, pathname } = new URL(base + path)
  return href === base + pathname ? pathname : null // neither query nor fragment
}
