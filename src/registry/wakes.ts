/**
 * The wake in flight of each subscription: from its start to its end (spec/06 §4). How it is delivered is in `deliveries.ts`, who works on it in `claims.ts`,
 * what that means for its entity in `entity-work.ts`; these promises are all of theirs. Set-based: one statement per table for a whole batch.
 *
 * K1  A subscription has at most one wake: it starts only from idle, under the lock of its row.
 * K2  Whoever appends to a linked stream locks the subscription until the append commits, and looks at it then; whoever ends a wake locks it before it
 *     looks at the tails. So either the appender finds it idle, or the one who ends it finds the entry: no wake is lost between them.
 * K3  A delivery is begun by moving `attempts` from n to n + 1: one process carries it out, whoever else meant to.
 * K4  Every statement names the wake id that it is about: what comes late changes nothing.
 * K5  Only the server's own subscriptions, and those of bypass principals, have wakes that are about an entity.
 * K6  The wakes that are about one entity have ever higher generations, whichever subscriptions they are of, also new ones: its dispatch state, locked,
 *     says which was the last. Handlers write with them as epochs, and who comes with a former one is taken for a former one (spec/06 §4).
 */
import type { EntityStatus } from '../domain/entity.js'
import type { EntityUrl, StreamPath } from '../domain/ids.js'
import type { Mount, SubscriptionType } from '../domain/subscriptions.js'
import { keyed, type Queryable, sql, type Transaction } from './database.js'
import { type StartedWake, startedWake } from './deliveries.js'

/** A subscription that links a stream to which something was appended; its row is locked. */
export interface Subscriber {
  readonly id: string
  readonly path: StreamPath
  readonly wake_id: string | null
  readonly acked: string
  /** Whether it is the server's own, of one entity. */
  readonly is_own: boolean
  /** Of the entity whose main stream `path` is. */
  readonly entity_status: EntityStatus | null
}

/** K2. Indexes: the keys of links, subscriptions and entities. */
export async function lockSubscribers(tx: Transaction, paths: readonly StreamPath[]): Promise<Subscriber[]> {
  const { rows } = await tx.query(keyed`
    SELECT s.id, l.path, l.acked, s.wake_id, s.is_own, l.entity_status
      FROM (SELECT l.subscription_id, l.path, l.acked, e.status AS entity_status
              FROM unnest(${paths}::text[]) AS i (path)
             CROSS JOIN LATERAL (SELECT subscription_id, path, acked, CASE WHEN path LIKE '%/main' THEN left(path, -5) END COLLATE "C" AS entity_url FROM subscription_links
                                  WHERE tenant_id = ${tx.tenant} AND path = i.path COLLATE "C" OFFSET 0) l
              LEFT JOIN LATERAL (SELECT status FROM entities WHERE tenant_id = ${tx.tenant} AND url = l.entity_url OFFSET 0) e ON true
             ORDER BY l.subscription_id, l.path) l
     CROSS JOIN LATERAL (SELECT id, wake_id, entity_url IS NOT NULL AS is_own FROM subscriptions
                          WHERE tenant_id = ${tx.tenant} AND id = l.subscription_id OFFSET 0
                            FOR NO KEY UPDATE) s`)
  return rows as unknown as Subscriber[] // columns as selected above
}

export interface WakeStart {
  readonly id: string
  readonly wakeId: string
  readonly path: StreamPath
  readonly entityUrl: EntityUrl | null
}

/**
 * Starts a wake for each of these subscriptions, which are idle and locked. Whoever asks delivers within `ownedMs`, then anybody may.
 * K5: a subscription that an ordinary principal created looks on; its wakes bring no token to write with. K6.
 */
export async function startWakes(tx: Transaction, starts: readonly WakeStart[], ownedMs: number): Promise<StartedWake[]> {
  if (starts.length === 0) return []
  const { rows } = await tx.query(keyed`
    WITH started AS (
      UPDATE subscriptions s
         SET generation = i.generation, wake_id = i.wake_id, wake_path = i.path, wake_entity_url = i.entity_url, attempts = 0, failures = 0,
             last_error = NULL, started_at = now(), due_at = clock_timestamp() + ${ownedMs} * interval '1 ms', holder = NULL, claimed_attempt = NULL, lease_until = NULL
        FROM (SELECT n.at, n.wake_id, n.path, n.entity_url,
                     greatest(max(n.generation) OVER one, coalesce(n.last_epoch, 0)) + row_number() OVER one AS generation
                FROM (SELECT k.ctid AS at, i.id, i.wake_id, i.path, k.entity_url, k.generation, d.last_epoch
                        FROM (SELECT *
                                FROM unnest(${starts.map((s) => s.id)}::text[], ${starts.map((s) => s.wakeId)}::text[], ${starts.map((s) => s.path)}::text[],
                                            ${starts.map((s) => s.entityUrl)}::text[]) AS i (id, wake_id, path, entity_url)
                               ORDER BY entity_url COLLATE "C") i
                       CROSS JOIN LATERAL (SELECT ctid, generation, CASE WHEN created_by IS NULL THEN i.entity_url END COLLATE "C" AS entity_url FROM subscriptions
                                            WHERE tenant_id = ${tx.tenant} AND id = i.id COLLATE "C" OFFSET 0) k
                        LEFT JOIN LATERAL (SELECT last_epoch FROM entity_dispatch_state
                                            WHERE tenant_id = ${tx.tenant} AND entity_url = k.entity_url OFFSET 0
                                              FOR NO KEY UPDATE) d ON true) n
              WINDOW one AS (PARTITION BY n.entity_url, CASE WHEN n.entity_url IS NULL THEN n.id END)) i
       WHERE s.ctid = i.at
      RETURNING s.id, s.type, s.generation, s.wake_id, s.wake_path, s.wake_entity_url, s.webhook_url, s.runner_id,
                coalesce((SELECT r.wake_stream FROM runners r WHERE r.tenant_id = ${tx.tenant} AND r.id = s.runner_id), s.wake_stream) AS wake_stream
    ), noted AS (
      INSERT INTO wake_notifications (tenant_id, wake_id, entity_url, target_type, target_runner_id, target_webhook_url, runner_wake_stream,
                                      delivery_status, claim_status, subscription_id, generation)
      SELECT ${tx.tenant}, wake_id, wake_entity_url, CASE type WHEN 'webhook' THEN 'webhook' WHEN 'pull-wake' THEN CASE WHEN runner_id IS NULL THEN 'worker-pool' ELSE 'runner' END END,
             runner_id, webhook_url, wake_stream, 'queued', 'unclaimed', id, generation
        FROM started
    ), stated AS (
      INSERT INTO entity_dispatch_state AS d (tenant_id, entity_url, pending_source_streams, pending_since, outstanding_wake_id, outstanding_wake_target,
                                              outstanding_wake_created_at, last_wake_id, last_epoch)
      SELECT DISTINCT ON (wake_entity_url) ${tx.tenant}::text, wake_entity_url, jsonb_build_array(wake_path), now(), wake_id,
             coalesce(runner_id, webhook_url, wake_stream), now(), wake_id, generation
        FROM started WHERE wake_entity_url IS NOT NULL
       ORDER BY wake_entity_url, generation DESC
          ON CONFLICT (tenant_id, entity_url) DO UPDATE
         SET pending_source_streams = excluded.pending_source_streams, pending_since = excluded.pending_since,
             outstanding_wake_id = excluded.outstanding_wake_id, outstanding_wake_target = excluded.outstanding_wake_target,
             outstanding_wake_created_at = excluded.outstanding_wake_created_at, last_wake_id = excluded.last_wake_id,
             last_epoch = greatest(d.last_epoch, excluded.last_epoch), updated_at = now()
    )
    SELECT id, type, generation, wake_id, webhook_url, wake_entity_url, 0 AS attempts FROM started`)
  return rows.map(startedWake)
}

/** A wake whose row is locked, and its entity before it. */
export interface LockedWake {
  readonly id: string
  readonly type: SubscriptionType
  readonly mount: Mount
  readonly generation: number
  readonly wake_id: string
  readonly wake_path: StreamPath
  readonly wake_entity_url: EntityUrl | null
  readonly runner_id: string | null
  readonly webhook_url: string | null
  readonly wake_stream: StreamPath | null
  readonly lease_ttl_ms: number
  readonly attempts: number
  readonly failures: number
  readonly holder: string | null
  /** The delivery whose token has claimed it. */
  readonly claimed_attempt: number | null
  readonly has_lease: boolean
  readonly lease_ended: boolean
  readonly lost_leases: number
  /** Since the wake began. */
  readonly age_ms: number
}

/** Locks the entities of these wakes, in the order of their URLs. */
export async function lockWakeEntities(tx: Transaction, wakeIds: readonly string[]): Promise<ReadonlyMap<string, EntityStatus>> {
  const { rows } = await tx.query(keyed`
    SELECT e.url, e.status
      FROM (SELECT s.wake_entity_url
              FROM unnest(${wakeIds}::text[]) AS i (wake_id)
             CROSS JOIN LATERAL (SELECT wake_entity_url FROM subscriptions WHERE tenant_id = ${tx.tenant} AND wake_id = i.wake_id COLLATE "C" OFFSET 0) s
             ORDER BY s.wake_entity_url) s
     CROSS JOIN LATERAL (SELECT url, status FROM entities WHERE tenant_id = ${tx.tenant} AND url = s.wake_entity_url OFFSET 0
                            FOR NO KEY UPDATE) e`)
  return new Map(rows.map((row) => [String(row.url), row.status as EntityStatus]))
}

/**
 * Locks the subscriptions whose wakes these are, after their entities (and streams). By wake id. A runner's wakes are announced where it reads now,
 * not where it read when the subscription was made (spec/07 §6.3).
 */
export async function lockWakes(tx: Transaction, wakeIds: readonly string[]): Promise<ReadonlyMap<string, LockedWake>> {
  const { rows } = await tx.query(keyed`
    SELECT s.*
      FROM (SELECT s.id, i.wake_id
              FROM unnest(${wakeIds}::text[]) AS i (wake_id)
             CROSS JOIN LATERAL (SELECT id FROM subscriptions WHERE tenant_id = ${tx.tenant} AND wake_id = i.wake_id COLLATE "C" OFFSET 0) s
             ORDER BY s.id) i
     CROSS JOIN LATERAL (
       SELECT id, type, mount, generation, wake_id, wake_path, wake_entity_url, runner_id, webhook_url,
              coalesce((SELECT r.wake_stream FROM runners r WHERE r.tenant_id = ${tx.tenant} AND r.id = s.runner_id), wake_stream) AS wake_stream,
              lease_ttl_ms, attempts, failures, holder, claimed_attempt,
              lease_until IS NOT NULL AS has_lease, coalesce(lease_until <= clock_timestamp(), false) AS lease_ended, lost_leases,
              (extract(epoch FROM clock_timestamp() - started_at) * 1000)::int8 AS age_ms
         FROM subscriptions s
        WHERE tenant_id = ${tx.tenant} AND id = i.id AND wake_id = i.wake_id COLLATE "C" OFFSET 0
          FOR NO KEY UPDATE) s`)
  return new Map(rows.map((row) => [String(row.wake_id), row as unknown as LockedWake])) // columns as selected above
}

export type LockedSubscription = Omit<LockedWake, 'wake_id' | 'wake_path'> & {
  readonly wake_id: string | null
  readonly wake_path: StreamPath | null
  /** A webhook is being called about its wake, as far as anybody knows (entity-work.ts). */
  readonly is_called: boolean
  /** The entity that was locked before it. */
  readonly held_entity: EntityUrl | null
  /** False: its wake is about an entity that is not locked, since it began while the lock was waited for. */
  readonly holds_entity: boolean
}

/**
 * Locks the entity that the wakes of a subscription are about, as it stands: a wake may begin, about another, until the subscription is locked. `next`:
 * the one that its next wake will be about, if none has begun.
 */
export async function lockEntityOfSubscription(tx: Transaction, id: string, next: EntityUrl | null = null): Promise<EntityUrl | null> {
  const { rows } = await tx.query(sql`
    SELECT e.url FROM entities e
     WHERE e.tenant_id = ${tx.tenant}
       AND e.url IN (SELECT coalesce(wake_entity_url, ${next}::text COLLATE "C", entity_url) FROM subscriptions WHERE tenant_id = ${tx.tenant} AND id = ${id})
       FOR NO KEY UPDATE`)
  return (rows[0]?.url as EntityUrl | undefined) ?? null
}

/** Locks one subscription, and before it the entity that its wakes are about, or its `next` one. Null: there is none. */
export async function lockSubscription(tx: Transaction, id: string, next: EntityUrl | null = null): Promise<LockedSubscription | null> {
  const [entity, { rows }] = await Promise.all([
    lockEntityOfSubscription(tx, id, next),
    tx.query(sql`
      SELECT id, type, mount, generation, wake_id, wake_path, wake_entity_url, runner_id, webhook_url, wake_stream, lease_ttl_ms, attempts, failures, holder, claimed_attempt,
             lease_until IS NOT NULL AS has_lease, coalesce(lease_until <= clock_timestamp(), false) AS lease_ended,
             coalesce(called_until > clock_timestamp(), false) AS is_called, lost_leases,
             coalesce(extract(epoch FROM clock_timestamp() - started_at) * 1000, 0)::int8 AS age_ms,
             EXISTS (SELECT FROM entities e WHERE e.tenant_id = s.tenant_id AND e.url = s.wake_entity_url) AS has_entity
        FROM subscriptions s WHERE tenant_id = ${tx.tenant} AND id = ${id}
         FOR NO KEY UPDATE OF s`),
  ])
  const [row] = rows
  if (row === undefined) return null
  const { has_entity, ...locked } = row
  const holds_entity = has_entity !== true || locked.wake_entity_url === entity
  return { ...locked, held_entity: entity, holds_entity } as unknown as LockedSubscription // columns as selected above
}

/** A wake as it stood a moment ago: its row is not locked. */
export async function peekWake(
  queryable: Queryable,
  wakeId: string,
): Promise<Pick<LockedWake, 'id' | 'generation' | 'wake_path' | 'wake_entity_url' | 'lost_leases' | 'runner_id'> | null> {
  const { rows } = await queryable.query(sql`
    SELECT id, generation, wake_path, wake_entity_url, lost_leases, runner_id FROM subscriptions WHERE tenant_id = ${queryable.tenant} AND wake_id = ${wakeId}`)
  return (rows[0] as unknown as LockedWake | undefined) ?? null // columns as selected above
}

export interface Ack {
  readonly subscriptionId: string
  readonly path: string
  readonly offset: string
}

/** Moves the cursors of these locked subscriptions. One that moves forward has a handler that gets on: its lost leases are forgotten. */
export async function setAcked(tx: Transaction, acks: readonly Ack[]): Promise<void> {
  if (acks.length === 0) return
  await tx.query(keyed`
    WITH wanted AS (
      SELECT id COLLATE "C" AS id, path COLLATE "C" AS path, max(acked COLLATE "C") AS acked
        FROM unnest(${acks.map((a) => a.subscriptionId)}::text[], ${acks.map((a) => a.path)}::text[], ${acks.map((a) => a.offset)}::text[]) AS i (id, path, acked)
       GROUP BY 1, 2
    ), moved AS (
      UPDATE subscription_links l SET acked = w.acked
        FROM (SELECT k.ctid AS at, w.acked
                FROM wanted w
               CROSS JOIN LATERAL (SELECT ctid, acked FROM subscription_links
                                    WHERE tenant_id = ${tx.tenant} AND path = w.path AND subscription_id = w.id OFFSET 0) k
               WHERE k.acked <> w.acked) w
       WHERE l.ctid = w.at
      RETURNING l.subscription_id)
    UPDATE subscriptions s SET lost_leases = 0
      FROM (SELECT DISTINCT k.ctid AS at
              FROM moved
             CROSS JOIN LATERAL (SELECT ctid FROM subscriptions
                                  WHERE tenant_id = ${tx.tenant} AND id = moved.subscription_id AND lost_leases > 0 OFFSET 0) k) k
     WHERE s.ctid = k.at`)
}

export interface WakeEnd {
  readonly wakeId: string
  readonly as: 'released' | 'expired'
  /** What was acked with it: path → offset. */
  readonly acked: Readonly<Record<string, string>>
  /** Wakes in a row that ended with their lease, without an ack. */
  readonly lostLeases: number
}

/** A wake that ends without its handler's word, or that nobody may work on now: its work stays pending. */
export const asExpired = (wakeId: string, lostLeases: number): WakeEnd => ({ wakeId, as: 'expired', acked: {}, lostLeases })

/** Ends these locked wakes: subscription idle, token gone, claim closed, dispatch state cleared. */
export async function endWakes(tx: Transaction, ends: readonly WakeEnd[]): Promise<void> {
  if (ends.length === 0) return
  await tx.query(keyed`
    WITH ended AS (
      UPDATE subscriptions s
         SET wake_id = NULL, wake_path = NULL, wake_entity_url = NULL, holder = NULL, claimed_attempt = NULL, lease_until = NULL, due_at = NULL, called_until = NULL, started_at = NULL,
             failures = 0, last_error = NULL, lost_leases = i.lost_leases
        FROM (SELECT k.ctid AS at, k.wake_entity_url AS entity_url, i.*
                FROM unnest(${ends.map((e) => e.wakeId)}::text[], ${ends.map((e) => e.as)}::text[], ${ends.map((e) => JSON.stringify(e.acked))}::text[],
                            ${ends.map((e) => e.lostLeases)}::int4[]) AS i (wake_id, how, acked, lost_leases)
               CROSS JOIN LATERAL (SELECT ctid, wake_entity_url FROM subscriptions
                                    WHERE tenant_id = ${tx.tenant} AND wake_id = i.wake_id COLLATE "C" OFFSET 0) k) i
       WHERE s.ctid = i.at
      RETURNING i.wake_id COLLATE "C" AS wake_id, i.entity_url, s.generation, i.how, i.acked
    ), tokens AS (
      DELETE FROM write_tokens w
       USING (SELECT k.ctid AS at FROM ended
               CROSS JOIN LATERAL (SELECT ctid, tenant_id FROM write_tokens WHERE wake_id = ended.wake_id OFFSET 0) k
               WHERE k.tenant_id = ${tx.tenant}) k
       WHERE w.ctid = k.at
    ), claims AS (
      UPDATE consumer_claims c SET status = e.how, released_at = now(), acked_streams = e.acked::jsonb, updated_at = now()
        FROM (SELECT k.ctid AS at, ended.how, ended.acked FROM ended
               CROSS JOIN LATERAL (SELECT ctid FROM consumer_claims
                                    WHERE tenant_id = ${tx.tenant} AND consumer_id = ended.wake_id AND epoch = ended.generation OFFSET 0) k) e
       WHERE c.ctid = e.at
    ), states AS (
      UPDATE entity_dispatch_state d
         SET active_consumer_id = NULL, active_runner_id = NULL, active_epoch = NULL, active_claimed_at = NULL, active_lease_expires_at = NULL,
             outstanding_wake_id = NULL, outstanding_wake_target = NULL, outstanding_wake_created_at = NULL, pending_source_streams = '[]', pending_since = NULL,
             last_released_at = now(), last_completed_at = CASE WHEN e.how = 'released' THEN now() ELSE d.last_completed_at END, updated_at = now()
        FROM (SELECT k.ctid AS at, ended.how FROM ended
               CROSS JOIN LATERAL (SELECT ctid FROM entity_dispatch_state
                                    WHERE tenant_id = ${tx.tenant} AND entity_url = ended.entity_url
                                      AND (active_consumer_id = ended.wake_id OR outstanding_wake_id = ended.wake_id) OFFSET 0) k) e
       WHERE d.ctid = e.at
    )
    UPDATE wake_notifications n
       SET claim_status = CASE WHEN e.how = 'released' THEN 'completed' ELSE 'expired' END, resolved_at = now()
      FROM (SELECT k.ctid AS at, ended.how FROM ended
             CROSS JOIN LATERAL (SELECT ctid FROM wake_notifications WHERE tenant_id = ${tx.tenant} AND wake_id = ended.wake_id OFFSET 0) k) e
     WHERE n.ctid = e.at`)
}

/** Whether a wake, in flight or past, has this id. */
export async function isWake(queryable: Queryable, wakeId: string): Promise<boolean> {
  if (wakeId.includes('\0')) return false
  const { count } = await queryable.query(sql`SELECT FROM wake_notifications WHERE tenant_id = ${queryable.tenant} AND wake_id = ${wakeId}`)
  return count > 0
}

/** Forgets what became of wakes and claims more than `keepS` seconds ago, at most `limit` of each; dead letters stay. How many went. */
export async function forgetWakes(queryable: Queryable, keepS: number, limit: number): Promise<number> {
  const wakes = await queryable.query(sql`
    DELETE FROM wake_notifications WHERE (tenant_id, wake_id) IN
      (SELECT tenant_id, wake_id FROM wake_notifications
        WHERE tenant_id = ${queryable.tenant} AND created_at < now() - make_interval(secs => ${keepS}) AND resolved_at IS NOT NULL AND delivery_status <> 'failed'
        ORDER BY created_at LIMIT ${limit})`)
  const claims = await queryable.query(sql`
    DELETE FROM consumer_claims WHERE (tenant_id, consumer_id, epoch) IN
      (SELECT tenant_id, consumer_id, epoch FROM consumer_claims
        WHERE tenant_id = ${queryable.tenant} AND status <> 'active' AND updated_at < now() - make_interval(secs => ${keepS})
        ORDER BY updated_at LIMIT ${limit})`)
  return wakes.count + claims.count
}
