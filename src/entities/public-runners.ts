/** Runners as the wire shows them (spec/07 §1.1, §3.4, §3.5). Written out: what is not named here can never leak. */
import { healthOf, livenessOf } from '../domain/runner-health.js'
import type { Runner } from '../domain/runners.js'
import type { RunnerHealth, SeenRunner } from './runners.js'

export function publicRunner(runner: Runner): object {
  return {
    id: runner.id,
    owner_principal: runner.owner_principal,
    label: runner.label,
    kind: runner.kind,
    admin_status: runner.admin_status,
    wake_stream: runner.wake_stream,
    sandbox_profiles: runner.sandbox_profiles,
    created_at: runner.created_at.toISOString(),
    updated_at: runner.updated_at.toISOString(),
  }
}

export function publicSeenRunner({ runner, last_seen_at, liveness_lease_expires_at, wake_stream_offset, diagnostics }: SeenRunner): object {
  return {
    ...publicRunner(runner),
    last_seen_at: last_seen_at.toISOString(),
    liveness_lease_expires_at: liveness_lease_expires_at.toISOString(),
    ...(wake_stream_offset === undefined ? {} : { wake_stream_offset }),
    ...(diagnostics === undefined ? {} : { diagnostics }),
  }
}

export function publicHealth({ runner, runtime, work }: RunnerHealth): object {
  const condition = {
    admin_status: runner.admin_status,
    leaseLeftMs: runtime?.leaseLeftMs ?? null,
    diagnostics: runtime?.diagnostics ?? null,
  }
  return {
    runner: {
      id: runner.id,
      admin_status: runner.admin_status,
      liveness_status: livenessOf(condition),
      lease_expires_at: runtime?.liveness_lease_expires_at.toISOString() ?? null,
      lease_remaining_ms: runtime === null ? null : Math.max(0, Math.floor(runtime.leaseLeftMs)),
      wake_stream: runner.wake_stream,
      wake_stream_offset: runtime?.wake_stream_offset ?? null,
      last_seen_at: runtime?.last_seen_at.toISOString() ?? null,
      created_at: runner.created_at.toISOString(),
    },
    client: condition.diagnostics,
    claims: {
      active_count: work.claims.length,
      active: work.claims.map((claim) => ({
        consumer_id: claim.consumer_id,
        epoch: claim.epoch,
        entity_url: claim.entity_url,
        stream_path: claim.stream_path,
        claimed_at: claim.claimed_at.toISOString(),
        last_heartbeat_at: claim.last_heartbeat_at?.toISOString() ?? null,
        lease_expires_at: claim.lease_expires_at?.toISOString() ?? null,
      })),
    },
    dispatch: work.dispatch,
    health: healthOf(condition),
  }
}
