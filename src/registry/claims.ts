/** Who works on a wake: claim, lease, and the token that writes to the stream of its entity (spec/06 §7, §8). Invariant K4 of `wakes.ts`. */
import { keyed, type Queryable, sql, type Transaction } from './database.js'

export interface WakeClaim {
  readonly wakeId: string
  readonly attempt: number
  readonly holder: string
  readonly runnerId: string | null
  readonly tokenHash: Buffer
}

/** Gives these locked wakes to their holders: lease, write token, claim row, dispatch state. Who claims a wake again holds it under its first name. */
export async function setClaimed(tx: Transaction, claims: readonly WakeClaim[]): Promise<void> {
  await tx.query(keyed`
    WITH claimed AS (
      UPDATE subscriptions s
         SET due_at = NULL, failures = 0, last_error = NULL, holder = coalesce(s.holder, i.holder), claimed_attempt = i.attempt,
             lease_until = clock_timestamp() + s.lease_ttl_ms * interval '1 ms'
        FROM (SELECT k.ctid AS at, i.*
                FROM unnest(${claims.map((c) => c.wakeId)}::text[], ${claims.map((c) => c.holder)}::text[], ${claims.map((c) => c.runnerId)}::text[],
                            ${claims.map((c) => c.tokenHash.toString('hex'))}::text[], ${claims.map((c) => c.attempt)}::int4[])
                     AS i (wake_id, holder, runner_id, token_hash, attempt)
               CROSS JOIN LATERAL (SELECT ctid FROM subscriptions WHERE tenant_id = ${tx.tenant} AND wake_id = i.wake_id COLLATE "C" OFFSET 0) k) i
       WHERE s.ctid = i.at
      RETURNING s.wake_id, s.generation, s.wake_path, s.wake_entity_url, s.lease_until, i.runner_id, decode(i.token_hash, 'hex') AS token_hash
    ), noted AS (
      UPDATE wake_notifications n
         SET delivery_status = 'delivered', delivered_at = coalesce(n.delivered_at, now()), claim_status = 'claimed', claimed_at = coalesce(n.claimed_at, now())
        FROM (SELECT k.ctid AS at FROM claimed
               CROSS JOIN LATERAL (SELECT ctid FROM wake_notifications WHERE tenant_id = ${tx.tenant} AND wake_id = claimed.wake_id OFFSET 0) k) c
       WHERE n.ctid = c.at
    ), tokens AS (
      INSERT INTO write_tokens (tenant_id, path, token_hash, wake_id)
      SELECT DISTINCT ON (wake_path) ${tx.tenant}::text, wake_path, token_hash, wake_id FROM claimed WHERE wake_entity_url IS NOT NULL ORDER BY wake_path
          ON CONFLICT (tenant_id, path) DO UPDATE SET token_hash = excluded.token_hash, wake_id = excluded.wake_id
    ), noticed AS (
      INSERT INTO consumer_claims (tenant_id, consumer_id, epoch, wake_id, entity_url, stream_path, runner_id, status, claimed_at, last_heartbeat_at, lease_expires_at)
      SELECT ${tx.tenant}, wake_id, generation, wake_id, wake_entity_url, wake_path, runner_id, 'active', now(), now(), lease_until FROM claimed
          ON CONFLICT (tenant_id, consumer_id, epoch) DO UPDATE
         SET status = 'active', last_heartbeat_at = now(), lease_expires_at = excluded.lease_expires_at, updated_at = now()
    )
    INSERT INTO entity_dispatch_state AS d (tenant_id, entity_url, active_consumer_id, active_runner_id, active_epoch, active_claimed_at, active_lease_expires_at,
                                            last_wake_id, last_claimed_at, last_epoch)
    SELECT DISTINCT ON (wake_entity_url) ${tx.tenant}::text, wake_entity_url, wake_id, runner_id, generation, now(), lease_until, wake_id, now(), generation
      FROM claimed WHERE wake_entity_url IS NOT NULL
     ORDER BY wake_entity_url, generation DESC
        ON CONFLICT (tenant_id, entity_url) DO UPDATE
       SET active_consumer_id = excluded.active_consumer_id, active_runner_id = excluded.active_runner_id, active_epoch = excluded.active_epoch,
           active_claimed_at = excluded.active_claimed_at, active_lease_expires_at = excluded.active_lease_expires_at, last_claimed_at = excluded.last_claimed_at,
           outstanding_wake_id = NULL, outstanding_wake_target = NULL, outstanding_wake_created_at = NULL, pending_source_streams = '[]', pending_since = NULL,
           last_epoch = greatest(d.last_epoch, excluded.last_epoch), updated_at = now()`)
}

/** A sign of life: the leases of these locked wakes begin anew. */
export async function renewLeases(tx: Transaction, wakeIds: readonly string[]): Promise<void> {
  if (wakeIds.length === 0) return
  await tx.query(keyed`
    WITH renewed AS (
      UPDATE subscriptions s SET due_at = NULL, lease_until = clock_timestamp() + lease_ttl_ms * interval '1 ms'
        FROM (SELECT k.ctid AS at
                FROM unnest(${wakeIds}::text[]) AS i (wake_id)
               CROSS JOIN LATERAL (SELECT ctid FROM subscriptions WHERE tenant_id = ${tx.tenant} AND wake_id = i.wake_id COLLATE "C" OFFSET 0) k) i
       WHERE s.ctid = i.at
      RETURNING s.wake_id, s.wake_entity_url, s.generation, s.lease_until
    ), stated AS (
      UPDATE entity_dispatch_state d SET active_lease_expires_at = r.lease_until, updated_at = now()
        FROM (SELECT k.ctid AS at, renewed.lease_until FROM renewed
               CROSS JOIN LATERAL (SELECT ctid FROM entity_dispatch_state
                                    WHERE tenant_id = ${tx.tenant} AND entity_url = renewed.wake_entity_url AND active_consumer_id = renewed.wake_id
                                   OFFSET 0) k) r
       WHERE d.ctid = r.at
    )
    UPDATE consumer_claims c SET last_heartbeat_at = now(), lease_expires_at = r.lease_until, updated_at = now()
      FROM (SELECT k.ctid AS at, renewed.lease_until FROM renewed
             CROSS JOIN LATERAL (SELECT ctid FROM consumer_claims
                                  WHERE tenant_id = ${tx.tenant} AND consumer_id = renewed.wake_id AND epoch = renewed.generation OFFSET 0) k) r
     WHERE c.ctid = r.at`)
}

/** The leases of these locked wakes end now: whoever looks for such settles them. */
export async function endLeases(tx: Transaction, wakeIds: readonly string[]): Promise<void> {
  if (wakeIds.length === 0) return
  await tx.query(sql`
    UPDATE subscriptions SET due_at = NULL, lease_until = clock_timestamp() WHERE tenant_id = ${tx.tenant} AND wake_id = ANY (${wakeIds})`)
}

export interface EndedLeases {
  /** Of wakes that work on an entity, or of all others. */
  readonly ofEntities: boolean
  /** Wakes that are not asked for. */
  readonly besides: readonly string[]
  readonly limit: number
}

/** Wakes whose lease has ended. Index: subscriptions_by_lease. */
export async function endedLeases(queryable: Queryable, { ofEntities, besides, limit }: EndedLeases): Promise<string[]> {
  const { rows } = await queryable.query(sql`
    SELECT wake_id FROM subscriptions
     WHERE lease_until <= clock_timestamp() AND tenant_id = ${queryable.tenant} AND wake_id <> ALL (${besides})
       AND (wake_entity_url IS NOT NULL) = ${ofEntities}
     ORDER BY lease_until
     LIMIT ${limit}`)
  return rows.map((row) => String(row.wake_id))
}

/** The token that may write to each of these main streams: its hash. */
export async function writeTokenHashes(queryable: Queryable, paths: readonly string[]): Promise<ReadonlyMap<string, Buffer>> {
  const { rows } = await queryable.query(keyed`
    SELECT t.path, t.token_hash
      FROM unnest(${paths}::text[]) AS i (path)
     CROSS JOIN LATERAL (SELECT path, token_hash FROM write_tokens WHERE tenant_id = ${queryable.tenant} AND path = i.path COLLATE "C" OFFSET 0) t`)
  return new Map(rows.map((row) => [String(row.path), row.token_hash as Buffer]))
}
