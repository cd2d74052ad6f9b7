/** How a runner does: what it says of itself (spec/07 §3.5) and what is made of it (spec/07 §3.4). Pure; leases are measured by the database. */
import type { RunnerAdminStatus } from './runners.js'

export const clientStatuses = ['stopped', 'starting', 'connecting', 'streaming', 'reconnecting', 'stopping'] as const
export const claimResults = ['claimed', 'no_work', 'error'] as const
export const diagnosticFlags = ['stream_connected', 'last_heartbeat_ok'] as const
export const diagnosticTexts = [
  'started_at',
  'stream_connected_since',
  'last_error',
  'last_error_at',
  'last_heartbeat_at',
  'last_claim_at',
  'last_dispatch_at',
] as const
export const diagnosticCounts = ['reconnect_count', 'events_received', 'claims_succeeded', 'claims_skipped', 'claims_failed'] as const

export interface Diagnostics
  extends Readonly<Partial<Record<(typeof diagnosticFlags)[number], boolean>>>,
    Readonly<Partial<Record<(typeof diagnosticTexts)[number], string | null>>>,
    Readonly<Partial<Record<(typeof diagnosticCounts)[number], number>>> {
  readonly status?: (typeof clientStatuses)[number]
  readonly last_claim_result?: (typeof claimResults)[number] | null
}

/** What is known of what a client sent; everything else is dropped (MUST: clients send more over time). Null: nothing of it is. */
export function knownDiagnostics(sent: Readonly<Record<string, unknown>>, maxTextLength: number): Diagnostics | null {
  const status = clientStatuses.find((known) => known === sent.status)
  const result = [...claimResults, null].find((known) => known === sent.last_claim_result)
  const known: Diagnostics = {
    ...(status === undefined ? {} : { status }),
    ...members(sent, diagnosticFlags, (value) => (typeof value === 'boolean' ? value : undefined)),
    ...(result === undefined ? {} : { last_claim_result: result }),
    ...members(sent, diagnosticTexts, (value) => (typeof value === 'string' ? storableText(value, maxTextLength) : nullOnly(value))),
    ...members(sent, diagnosticCounts, (value) => (isCount(value) ? value : undefined)),
  }
  return Object.keys(known).length === 0 ? null : known
}

function members<Name extends string, Value>(
  sent: Readonly<Record<string, unknown>>,
  names: readonly Name[],
  accepted: (value: unknown) => Value | undefined,
): Partial<Record<Name, Value>> {
  const found: Partial<Record<Name, Value>> = {}
  for (const name of names) {
    const value = Object.hasOwn(sent, name) ? accepted(sent[name]) : undefined
    if (value !== undefined) found[name] = value
  }
  return found
}

const isCount = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0
const nullOnly = (value: unknown): null | undefined => (value === null ? null : undefined)

/** An error text of a client is no reason to lose its heartbeat: it is made to fit into a row. */
const storableText = (text: string, maxLength: number): string => text.slice(0, maxLength).replaceAll('\0', '\u{fffd}').toWellFormed()

export const livenessStatuses = ['online', 'expired', 'offline'] as const
export type LivenessStatus = (typeof livenessStatuses)[number]

export const healthStatuses = ['healthy', 'degraded', 'unhealthy'] as const
export type HealthStatus = (typeof healthStatuses)[number]

export interface RunnerCondition {
  readonly admin_status: RunnerAdminStatus
  /** Until the end of the lease, negative behind it; null: there was no heartbeat ever. */
  readonly leaseLeftMs: number | null
  readonly diagnostics: Diagnostics | null
}

export function livenessOf({ admin_status, leaseLeftMs }: Pick<RunnerCondition, 'admin_status' | 'leaseLeftMs'>): LivenessStatus {
  if (admin_status === 'disabled' || leaseLeftMs === null) return 'offline'
  return leaseLeftMs > 0 ? 'online' : 'expired'
}

interface Issue {
  readonly level: Exclude<HealthStatus, 'healthy'>
  readonly text: string
}

const maxReconnects = 5

/** The table of spec/07 §3.4, row by row; the worst level counts. */
export function healthOf(condition: RunnerCondition): { readonly status: HealthStatus; readonly issues: readonly string[] } {
  const issues = issuesOf(condition)
  const status = issues.some(({ level }) => level === 'unhealthy') ? 'unhealthy' : issues.length > 0 ? 'degraded' : 'healthy'
  return { status, issues: issues.map(({ text }) => text) }
}

function issuesOf(condition: RunnerCondition): Issue[] {
  const { admin_status, leaseLeftMs, diagnostics } = condition
  const liveness = livenessOf(condition)
  const isDisabled = admin_status === 'disabled'
  const reconnects = diagnostics?.reconnect_count ?? 0
  const rows: readonly (readonly [boolean, Issue['level'], string])[] = [
    [isDisabled, 'unhealthy', 'Runner is disabled'],
    [liveness === 'expired', 'unhealthy', `Heartbeat lease expired ${Math.floor(-(leaseLeftMs ?? 0) / 1_000)}s ago`],
    [liveness === 'offline' && !isDisabled, 'degraded', 'Runner has never sent a heartbeat'],
    [diagnostics?.stream_connected === false, 'degraded', 'Client reports stream disconnected'],
    [diagnostics?.last_heartbeat_ok === false, 'degraded', 'Client reports last heartbeat failed'],
    [reconnects > maxReconnects, 'degraded', `Client has reconnected ${reconnects} times`],
    [diagnostics === null && leaseLeftMs !== null, 'degraded', 'No client diagnostics available'],
  ]
  return rows.flatMap(([holds, level, text]) => (holds ? [{ level, text }] : []))
}
