/** Subscriptions as their API makes, changes and removes them (spec/06 §3). */
import { type EntityUrl, type StreamPath, zeroOffset } from '../domain/ids.js'
import type { SubscriptionRequest } from '../domain/subscription-request.js'
import { patternPrefix } from '../domain/subscriptions.js'
import { type Queryable, sql, type Transaction } from './database.js'

export interface NewSubscription {
  readonly request: SubscriptionRequest
  readonly configuration: string
  /** As it is called. */
  readonly webhookUrl: string | null
  /** Whose it is; null: a bypass principal's, whose wakes are those of a handler. */
  readonly createdBy: string | null
}

/** False: there is one with this id. */
export async function insertSubscription(
  tx: Transaction,
  { request, configuration, webhookUrl, createdBy }: NewSubscription,
): Promise<boolean> {
  const { id, mount, type, pattern, wakeStream, leaseTtlMs, description } = request
  const prefix = pattern === null ? null : patternPrefix(mount, pattern)
  const { count } = await tx.query(sql`
    INSERT INTO subscriptions (tenant_id, id, type, mount, pattern, pattern_prefix, configuration, webhook_url, wake_stream, lease_ttl_ms, description, created_by)
    VALUES (${tx.tenant}, ${id}, ${type}, ${mount}, ${pattern}, ${prefix}, ${configuration}, ${webhookUrl}, ${wakeStream}, ${leaseTtlMs}, ${description}, ${createdBy})
        ON CONFLICT DO NOTHING`)
  return count === 1
}

/** Deliveries from now on go there. */
export async function setWebhookUrl(tx: Transaction, id: string, url: string): Promise<void> {
  await tx.query(sql`UPDATE subscriptions SET webhook_url = ${url} WHERE tenant_id = ${tx.tenant} AND id = ${id}`)
}

/** A wake that waits for a handler that has failed is due now, as if for the first time; not one that is called, or worked on. */
export async function forgetFailures(tx: Transaction, id: string): Promise<void> {
  await tx.query(sql`
    UPDATE subscriptions SET due_at = clock_timestamp(), failures = 0
     WHERE tenant_id = ${tx.tenant} AND id = ${id} AND wake_id IS NOT NULL AND lease_until IS NULL
       AND coalesce(called_until <= clock_timestamp(), true)`)
}

/**
 * Links these streams, which the caller holds, at their tails; a link that stands keeps its offset (spec/06 §3.1). As in `insertLinks` no pattern links
 * where a runner's wakes are announced.
 */
export async function linkAtTails(
  tx: Transaction,
  subscriptionId: string,
  paths: readonly StreamPath[],
  by: 'explicit' | 'glob',
): Promise<void> {
  if (paths.length === 0) return
  const isExplicit = by === 'explicit'
  await tx.query(sql`
    INSERT INTO subscription_links AS l (tenant_id, path, subscription_id, is_explicit, is_glob, acked)
    SELECT ${tx.tenant}, i.path, ${subscriptionId}, ${isExplicit}, ${!isExplicit},
           coalesce((SELECT '0000000000000000_' || lpad(t.tail::text, 16, '0') FROM streams t
                      WHERE t.tenant_id = ${tx.tenant} AND t.path = i.path AND t.gone_at IS NULL),
                    (SELECT p.processed FROM stream_progress p WHERE p.tenant_id = ${tx.tenant} AND p.path = i.path), ${zeroOffset})
      FROM unnest(${paths}::text[] COLLATE "C") AS i (path)
     WHERE ${isExplicit} OR NOT EXISTS (SELECT FROM runners r WHERE r.tenant_id = ${tx.tenant} AND r.wake_stream = i.path)
     ORDER BY i.path
        ON CONFLICT (tenant_id, path, subscription_id) DO UPDATE
       SET is_explicit = l.is_explicit OR excluded.is_explicit, is_glob = l.is_glob OR excluded.is_glob`)
}

/** Takes the explicit link away; what a pattern links as well stays (spec/06 §3.1). Whether there was one. */
export async function unlinkExplicit(tx: Transaction, subscriptionId: string, path: StreamPath): Promise<boolean> {
  const { rows } = await tx.query(sql`
    WITH dropped AS (
      DELETE FROM subscription_links
       WHERE tenant_id = ${tx.tenant} AND subscription_id = ${subscriptionId} AND path = ${path} AND is_explicit AND NOT is_glob
      RETURNING path
    ), kept AS (
      UPDATE subscription_links SET is_explicit = false
       WHERE tenant_id = ${tx.tenant} AND subscription_id = ${subscriptionId} AND path = ${path} AND is_explicit AND is_glob
      RETURNING path)
    SELECT path FROM dropped UNION ALL SELECT path FROM kept`)
  return rows.length > 0
}

/** Its links go with it. The caller holds its lock. */
export async function deleteSubscription(tx: Transaction, id: string): Promise<void> {
  await tx.query(sql`DELETE FROM subscriptions WHERE tenant_id = ${tx.tenant} AND id = ${id}`)
}

/** Names that begin with `prefix`, behind `after`, in their order, at most `limit`. */
export interface Range {
  readonly prefix: string
  readonly after: string
  readonly limit: number
}

/** The end of all texts that begin with `prefix` and a slash, or are it, and of some that are neither. */
const endOf = (prefix: string): string => `${prefix}0`

/** Index: streams_by_path. */
export async function streamsIn(queryable: Queryable, { prefix, after, limit }: Range): Promise<StreamPath[]> {
  const { rows } = await queryable.query(sql`
    SELECT path FROM streams
     WHERE tenant_id = ${queryable.tenant} AND path >= ${prefix} AND path < ${endOf(prefix)} AND path > ${after}
       AND gone_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
     ORDER BY path
     LIMIT ${limit}`)
  return rows.map((row) => row.path as StreamPath)
}

/** Streams of a foreign server that the registry has heard of. */
export async function heardOfIn(queryable: Queryable, { prefix, after, limit }: Range): Promise<StreamPath[]> {
  const { rows } = await queryable.query(sql`
    SELECT path FROM stream_progress
     WHERE tenant_id = ${queryable.tenant} AND path >= ${prefix} AND path < ${endOf(prefix)} AND path > ${after}
     ORDER BY path
     LIMIT ${limit}`)
  return rows.map((row) => row.path as StreamPath)
}

/** Entities, by whose main streams nobody has drawn anything yet. */
export async function unheardEntitiesIn(queryable: Queryable, { prefix, after, limit }: Range): Promise<EntityUrl[]> {
  const { rows } = await queryable.query(sql`
    SELECT url FROM entities e
     WHERE tenant_id = ${queryable.tenant} AND url >= ${prefix} AND url < ${endOf(prefix)} AND url > ${after} AND reserved_by IS NULL
       AND NOT EXISTS (SELECT FROM stream_progress p WHERE p.tenant_id = e.tenant_id AND p.path = e.url || '/main')
     ORDER BY url
     LIMIT ${limit}`)
  return rows.map((row) => row.url as EntityUrl)
}

/** Forgets how far a stream that is no more had been read. */
export async function forgetProgress(queryable: Queryable, path: StreamPath): Promise<void> {
  await queryable.query(sql`DELETE FROM stream_progress WHERE tenant_id = ${queryable.tenant} AND path = ${path}`)
}
