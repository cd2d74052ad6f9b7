/** Runners, and what their heartbeats say (spec/07 §1). */
import { z } from 'zod'
import type { PrincipalUrl, StreamPath } from '../domain/ids.js'
import type { Diagnostics } from '../domain/runner-health.js'
import { type AdvertisedProfile, type Runner, type RunnerAdminStatus, runnerAdminStatuses, runnerKinds } from '../domain/runners.js'
import type { SandboxProfile } from '../domain/sandbox.js'
import { keyed, type Queryable, type Row, sql, type Transaction } from './database.js'
import { type Portion, portionOf, portionsFrom } from './portions.js'

/** Checked when it was stored; not walked again on each read. */
const stored = <Value>() => z.unknown() as unknown as z.ZodType<Value>
const runnerShape = {
  id: z.string(),
  owner_principal: stored<PrincipalUrl>(),
  label: z.string(),
  kind: z.enum(runnerKinds),
  admin_status: z.enum(runnerAdminStatuses),
  wake_stream: stored<StreamPath>(),
  sandbox_profiles: stored<readonly AdvertisedProfile[]>(),
  created_at: z.date(),
  updated_at: z.date(),
}
const runnerRow: z.ZodType<Runner> = z.object(runnerShape)

const byKey = (rows: readonly Row[], keyOf: (runner: Runner) => string): ReadonlyMap<string, Runner> =>
  new Map(rows.map((row) => runnerRow.parse(row)).map((runner) => [keyOf(runner), runner]))

export async function findRunners(queryable: Queryable, ids: readonly string[]): Promise<ReadonlyMap<string, Runner>> {
  const { rows } = await queryable.query(keyed`
    SELECT r.*
      FROM unnest(${ids}::text[]) AS i (id)
     CROSS JOIN LATERAL (SELECT * FROM runners WHERE tenant_id = ${queryable.tenant} AND id = i.id COLLATE "C" OFFSET 0) r`)
  return byKey(rows, ({ id }) => id)
}

/** The runners whose wakes are announced at these paths. */
export async function findRunnersByWakeStream(queryable: Queryable, paths: readonly string[]): Promise<ReadonlyMap<string, Runner>> {
  const { rows } = await queryable.query(keyed`
    SELECT r.*
      FROM unnest(${paths}::text[]) AS i (path)
     CROSS JOIN LATERAL (SELECT * FROM runners WHERE wake_stream = i.path COLLATE "C" OFFSET 0) r
     WHERE r.tenant_id = ${queryable.tenant}`)
  return byKey(rows, ({ wake_stream }) => wake_stream)
}

/** Newest first. Index: runners_of_owner. */
export async function* listRunners(
  queryable: Queryable,
  owner: PrincipalUrl,
  { limit, maxBytes }: { readonly limit: number; readonly maxBytes: number },
): AsyncGenerator<readonly Runner[]> {
  const first = await readPortion(queryable, owner, maxBytes, null, limit)
  yield* portionsFrom(first, limit, async ({ id }, rows) => await readPortion(queryable, owner, maxBytes, id, rows))
}

/** `after`: a runner is never removed, nor born again; its place is found exactly, which its date in JavaScript does not tell. */
async function readPortion(
  queryable: Queryable,
  owner: PrincipalUrl,
  maxBytes: number,
  after: string | null,
  limit: number,
): Promise<Portion<Runner>> {
  const { rows } = await queryable.query(sql`
    SELECT *
      FROM (SELECT f.*, sum(weight) OVER (ORDER BY created_at DESC, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM (SELECT r.*, (pg_column_size(r.sandbox_profiles) + octet_length(r.label))
                                * CASE WHEN pg_column_compression(r.sandbox_profiles) IS NULL THEN 1 ELSE 100 END::float8 AS weight
                      FROM runners r
                      LEFT JOIN runners a ON a.tenant_id = r.tenant_id AND a.id = ${after}::text COLLATE "C"
                     WHERE r.tenant_id = ${queryable.tenant} AND r.owner_principal = ${owner}
                       AND (a.id IS NULL OR r.created_at < a.created_at OR (r.created_at = a.created_at AND r.id > a.id))
                     ORDER BY r.created_at DESC, r.id
                     LIMIT ${limit}) f) w
     WHERE before IS NULL OR before < ${maxBytes}::float8
     ORDER BY created_at DESC, id`)
  return portionOf(rows, maxBytes, (row) => runnerRow.parse(row))
}

export interface RunnerRegistration extends Pick<Runner, 'id' | 'owner_principal' | 'label' | 'kind' | 'admin_status' | 'wake_stream'> {
  /** Absent: those of an existing runner stay. */
  readonly sandbox_profiles?: readonly AdvertisedProfile[]
}

/** Registers or updates. `admin_status` is that of a new runner only: an operator's word outlives the runner's restart (spec/07 §3.1). */
export async function upsertRunner(tx: Transaction, runner: RunnerRegistration): Promise<Runner> {
  const profiles = runner.sandbox_profiles === undefined ? null : JSON.stringify(runner.sandbox_profiles)
  const { rows } = await tx.query(sql`
    INSERT INTO runners AS r (tenant_id, id, owner_principal, label, kind, admin_status, wake_stream, sandbox_profiles)
    VALUES (${tx.tenant}, ${runner.id}, ${runner.owner_principal}, ${runner.label}, ${runner.kind}, ${runner.admin_status},
            ${runner.wake_stream}, coalesce(${profiles}::jsonb, '[]'))
        ON CONFLICT (tenant_id, id) DO UPDATE SET
           owner_principal = excluded.owner_principal, label = excluded.label, kind = excluded.kind, wake_stream = excluded.wake_stream,
           sandbox_profiles = coalesce(${profiles}::jsonb, r.sandbox_profiles), updated_at = now()
    RETURNING *`)
  return runnerRow.parse(rows[0])
}

/** Null: there is no such runner. */
export async function setRunnerAdminStatus(queryable: Queryable, id: string, status: RunnerAdminStatus): Promise<Runner | null> {
  const { rows } = await queryable.query(sql`
    UPDATE runners SET admin_status = ${status}, updated_at = now()
     WHERE tenant_id = ${queryable.tenant} AND id = ${id}
    RETURNING *`)
  return rows[0] === undefined ? null : runnerRow.parse(rows[0])
}

const offeredRow: z.ZodType<SandboxProfile> = z.object({ name: z.string(), remote: z.boolean() })

/** Every profile that some runner offers, once; remote where it is so everywhere. First come, first named. */
export async function listOfferedProfiles(queryable: Queryable): Promise<SandboxProfile[]> {
  const { rows } = await queryable.query(sql`
    SELECT p.profile ->> 'name' AS name, bool_and(coalesce((p.profile ->> 'remote')::boolean, false)) AS remote
      FROM runners r
     CROSS JOIN jsonb_array_elements(r.sandbox_profiles) WITH ORDINALITY AS p (profile, place)
     WHERE r.tenant_id = ${queryable.tenant}
     GROUP BY 1
     ORDER BY min(r.created_at), min(p.place), 1`)
  return rows.map((row) => offeredRow.parse(row))
}

export interface Heartbeat {
  readonly runner: Pick<Runner, 'id' | 'owner_principal'>
  /** From now on, or until a moment. */
  readonly lease: { readonly forMs: number } | { readonly until: Date }
  /** Longer leases are not written. */
  readonly maxLeaseMs: number
  readonly wake_stream_offset?: string
  readonly diagnostics?: Diagnostics
}

export interface Liveness {
  readonly last_seen_at: Date
  readonly liveness_lease_expires_at: Date
  /** No lease held when this heartbeat came. */
  readonly hadLapsed: boolean
}

const livenessRow = z.object({ last_seen_at: z.date(), liveness_lease_expires_at: z.date(), had_lapsed: z.boolean() })

/** What is absent keeps its old value. Null: the lease would be longer than is allowed. */
export async function recordHeartbeat(queryable: Queryable, heartbeat: Heartbeat): Promise<Liveness | null> {
  const { runner, lease, wake_stream_offset = null, diagnostics } = heartbeat
  const seconds = 'forMs' in lease ? lease.forMs / 1_000 : null
  const until = 'until' in lease ? lease.until.toISOString() : null
  const told = diagnostics === undefined ? null : JSON.stringify(diagnostics)
  const { rows } = await queryable.query(sql`
    WITH former AS (
      SELECT liveness_lease_expires_at > now() AS holds
        FROM runner_runtime_diagnostics
       WHERE tenant_id = ${queryable.tenant} AND runner_id = ${runner.id}
    ), lease AS (
      SELECT coalesce(${until}::timestamptz, now() + make_interval(secs => ${seconds}::float8)) AS expires_at
    )
    INSERT INTO runner_runtime_diagnostics AS d
           (tenant_id, runner_id, owner_principal, wake_stream_offset, last_seen_at, liveness_lease_expires_at, diagnostics, updated_at)
    SELECT ${queryable.tenant}, ${runner.id}, ${runner.owner_principal}, ${wake_stream_offset}::text, now(), lease.expires_at,
           ${told}::jsonb, now()
      FROM lease
     WHERE lease.expires_at <= now() + make_interval(secs => ${heartbeat.maxLeaseMs / 1_000}::float8)
        ON CONFLICT (tenant_id, runner_id) DO UPDATE SET
           owner_principal = excluded.owner_principal, last_seen_at = excluded.last_seen_at,
           wake_stream_offset = coalesce(excluded.wake_stream_offset, d.wake_stream_offset),
           liveness_lease_expires_at = excluded.liveness_lease_expires_at,
           diagnostics = coalesce(excluded.diagnostics, d.diagnostics), updated_at = excluded.updated_at
    RETURNING d.last_seen_at, d.liveness_lease_expires_at, NOT coalesce((SELECT holds FROM former), false) AS had_lapsed`)
  if (rows[0] === undefined) return null
  const { had_lapsed, ...liveness } = livenessRow.parse(rows[0])
  return { ...liveness, hadLapsed: had_lapsed }
}

export interface RunnerRuntime {
  readonly wake_stream_offset: string | null
  readonly last_seen_at: Date
  readonly liveness_lease_expires_at: Date
  readonly diagnostics: Diagnostics | null
  /** By the clock of the database; negative once the lease is over. */
  readonly leaseLeftMs: number
}

const runtimeRow = z.object({
  wake_stream_offset: z.string().nullable(),
  last_seen_at: z.date(),
  liveness_lease_expires_at: z.date(),
  diagnostics: stored<Diagnostics | null>(),
  lease_left_ms: z.number(),
})

/** What the last heartbeat said; null: there was none. */
export async function findRunnerRuntime(queryable: Queryable, id: string): Promise<RunnerRuntime | null> {
  const { rows } = await queryable.query(sql`
    SELECT wake_stream_offset, last_seen_at, liveness_lease_expires_at, diagnostics,
           (extract(epoch FROM liveness_lease_expires_at - now()) * 1000)::float8 AS lease_left_ms
      FROM runner_runtime_diagnostics
     WHERE tenant_id = ${queryable.tenant} AND runner_id = ${id}`)
  if (rows[0] === undefined) return null
  const { lease_left_ms, ...runtime } = runtimeRow.parse(rows[0])
  return { ...runtime, leaseLeftMs: lease_left_ms }
}

/** `online`: it may take wakes now, being enabled, and its last heartbeat promised more than has passed. `missing`: nobody has registered it. */
export type RunnerPresence = 'online' | 'away' | 'missing'

export async function presenceOf(queryable: Queryable, id: string): Promise<RunnerPresence> {
  const { rows } = await queryable.query(sql`
    SELECT r.admin_status = 'enabled' AND coalesce(d.liveness_lease_expires_at > now(), false) AS is_online
      FROM runners r
      LEFT JOIN runner_runtime_diagnostics d ON d.tenant_id = r.tenant_id AND d.runner_id = r.id
     WHERE r.tenant_id = ${queryable.tenant} AND r.id = ${id}`)
  if (rows[0] === undefined) return 'missing'
  return rows[0].is_online === true ? 'online' : 'away'
}

/** Whether the wakes of a runner are announced at `path` that is another principal's than this subscription. */
export async function isReadByOthers(queryable: Queryable, subscriptionId: string, path: StreamPath): Promise<boolean> {
  const { count } = await queryable.query(sql`
    SELECT FROM subscriptions s
      JOIN runners r ON r.tenant_id = s.tenant_id AND r.owner_principal <> s.created_by
     WHERE s.tenant_id = ${queryable.tenant} AND s.id = ${subscriptionId} AND r.wake_stream = ${path}`)
  return count > 0
}
