/** Subscriptions and their links: who is to be woken by which stream (spec/06 §3). What is in flight is in `wakes.ts`. */
import type { EntityStatus } from '../domain/entity.js'
import type { EntityUrl, Offset, PrincipalUrl, StreamPath } from '../domain/ids.js'
import { defaultLeaseTtlMs, type EntitySubscription, type Mount, nothingAcked, type SubscriptionType } from '../domain/subscriptions.js'
import { BeginAgain, keyed, type Queryable, type Row, sql, type Transaction } from './database.js'
import { setIdle } from './entity-work.js'
import { asExpired, endWakes } from './wakes.js'

export interface NewLink {
  readonly subscriptionId: string
  readonly path: string
  readonly acked: string
}

/** What the server's own subscriptions are compared with: nobody confirms them by a PUT. */
const ownConfiguration = 'own'

/**
 * Makes the server's own subscriptions of these entities, each linked at `acked`. One that stands is left alone; what somebody else put at its id
 * is replaced, and its wake ended: nobody may stand between an entity and its handler. Generations go on where an earlier subscription of the entity
 * ended. Whether any was replaced; otherwise all has been asked for in one turn of the event loop.
 */
export async function insertEntitySubscriptions(
  tx: Transaction,
  wanted: readonly { readonly subscription: EntitySubscription; readonly acked: Offset }[],
): Promise<boolean> {
  if (wanted.length === 0) return false
  const links = wanted.map(({ subscription, acked }) => ({ subscriptionId: subscription.id, path: subscription.stream, acked }))
  const [changed] = await Promise.all([
    putEntitySubscriptions(
      tx,
      wanted.map(({ subscription }) => subscription),
    ),
    insertLinks(tx, links, 'explicit'),
  ])
  const taken = changed.filter(({ was_taken }) => was_taken === true)
  if (taken.length === 0) return false
  await endFormerWakes(tx, taken)
  await dropAllLinks(
    tx,
    taken.map(({ id }) => String(id)), // the streams of whoever stood there are not the entity's
  )
  await insertLinks(tx, links, 'explicit')
  return true
}

async function putEntitySubscriptions(tx: Transaction, subscriptions: readonly EntitySubscription[]): Promise<readonly Row[]> {
  const { rows } = await tx.query(keyed`
    INSERT INTO subscriptions AS s (tenant_id, id, type, configuration, webhook_url, wake_stream, lease_ttl_ms, description, entity_url, runner_id, generation)
    SELECT ${tx.tenant}, i.id, i.type, ${ownConfiguration}, i.webhook_url, coalesce(r.wake_stream, i.wake_stream), ${defaultLeaseTtlMs}, i.description, i.entity_url, i.runner_id,
           coalesce(d.last_epoch, 0)
      FROM unnest(${subscriptions.map((s) => s.id)}::text[], ${subscriptions.map((s) => s.type)}::text[], ${subscriptions.map((s) => s.webhookUrl)}::text[],
                  ${subscriptions.map((s) => s.wakeStream)}::text[], ${subscriptions.map((s) => s.description)}::text[],
                  ${subscriptions.map((s) => s.entityUrl)}::text[], ${subscriptions.map((s) => s.runnerId)}::text[])
           AS i (id, type, webhook_url, wake_stream, description, entity_url, runner_id)
      LEFT JOIN LATERAL (SELECT last_epoch FROM entity_dispatch_state
                          WHERE tenant_id = ${tx.tenant} AND entity_url = i.entity_url COLLATE "C" OFFSET 0) d ON true
      LEFT JOIN LATERAL (SELECT wake_stream FROM runners WHERE tenant_id = ${tx.tenant} AND id = i.runner_id COLLATE "C" OFFSET 0) r ON true
     ORDER BY i.id COLLATE "C"
        ON CONFLICT (tenant_id, id) DO UPDATE
       SET type = excluded.type, configuration = excluded.configuration, webhook_url = excluded.webhook_url, wake_stream = excluded.wake_stream,
           lease_ttl_ms = excluded.lease_ttl_ms, description = excluded.description, entity_url = excluded.entity_url, runner_id = excluded.runner_id,
           mount = '', pattern = NULL, pattern_prefix = NULL, created_by = NULL
     WHERE s.entity_url IS DISTINCT FROM excluded.entity_url
    RETURNING s.id, s.xmax <> 0 AS was_taken, s.wake_id, s.wake_entity_url`)
  return rows
}

/**
 * The wakes of whoever stood there, which their rows still name: they end, and their entities are at rest, or are found by `sweep` where they are to stop.
 * Entities come before subscriptions in the order of locks, so nobody waits for one here: where one is held, the transaction begins again.
 */
async function endFormerWakes(tx: Transaction, taken: readonly Row[]): Promise<void> {
  const wakes = taken.filter(({ wake_id }) => wake_id !== null)
  if (wakes.length === 0) return
  const urls = [...new Set(wakes.flatMap(({ wake_entity_url }) => (wake_entity_url === null ? [] : [wake_entity_url as EntityUrl])))]
  if (!(await seizeEntities(tx, urls))) throw new BeginAgain()
  const ends = wakes.map(({ wake_id }) => asExpired(String(wake_id), 0))
  await Promise.all([endWakes(tx, ends), setIdle(tx, urls, Date.now())]) // in this order (database.ts D7)
}

/** Locks these entities without waiting for them. False: somebody holds one. */
async function seizeEntities(tx: Transaction, urls: readonly EntityUrl[]): Promise<boolean> {
  if (urls.length === 0) return true
  const { rows } = await tx.query(sql`
    SELECT bool_and(held.url IS NOT NULL) AS all_held
      FROM entities e
      LEFT JOIN (SELECT url FROM entities WHERE tenant_id = ${tx.tenant} AND url = ANY (${urls}) FOR NO KEY UPDATE SKIP LOCKED) held ON held.url = e.url
     WHERE e.tenant_id = ${tx.tenant} AND e.url = ANY (${urls})`)
  return rows[0]?.all_held !== false
}

async function dropAllLinks(tx: Transaction, subscriptionIds: readonly string[]): Promise<void> {
  await tx.query(sql`DELETE FROM subscription_links WHERE tenant_id = ${tx.tenant} AND subscription_id = ANY (${subscriptionIds})`)
}

/** Links that stand keep their offset (spec/06 §3.1). No pattern links where a runner's wakes are announced: each of them would be work for others. */
export async function insertLinks(tx: Transaction, links: readonly NewLink[], by: 'explicit' | 'glob'): Promise<void> {
  if (links.length === 0) return
  const isExplicit = by === 'explicit'
  await tx.query(keyed`
    INSERT INTO subscription_links AS l (tenant_id, path, subscription_id, is_explicit, is_glob, acked)
    SELECT ${tx.tenant}, i.path, i.id, ${isExplicit}, ${!isExplicit}, i.acked
      FROM unnest(${links.map((l) => l.path)}::text[], ${links.map((l) => l.subscriptionId)}::text[], ${links.map((l) => l.acked)}::text[]) AS i (path, id, acked)
     WHERE ${isExplicit} OR NOT EXISTS (SELECT FROM (SELECT tenant_id FROM runners WHERE wake_stream = i.path COLLATE "C" OFFSET 0) r
                                              WHERE r.tenant_id = ${tx.tenant} OFFSET 0)
     ORDER BY i.path COLLATE "C", i.id COLLATE "C"
        ON CONFLICT (tenant_id, path, subscription_id) DO UPDATE
       SET is_explicit = l.is_explicit OR excluded.is_explicit, is_glob = l.is_glob OR excluded.is_glob`)
}

export interface PatternSubscription {
  readonly id: string
  readonly mount: Mount
  readonly pattern: string
  /** Never linked by its own pattern: each announcement would be work of its own. */
  readonly wake_stream: StreamPath | null
}

/**
 * The lock between a new pattern and new streams: who holds it shared makes a stream, who holds it alone makes a pattern, and each sees the other. It
 * comes before every row lock: who waits for it behind somebody who waits to hold it alone must have nothing that others wait for.
 */
const patternLock = 'subscription patterns'

export async function sharePatterns(tx: Transaction): Promise<void> {
  await tx.query(keyed`SELECT pg_advisory_xact_lock_shared(hashtextextended(${`${tx.tenant} ${patternLock}`}, 0))`)
}

export async function ownPatterns(tx: Transaction): Promise<void> {
  await tx.query(sql`SELECT pg_advisory_xact_lock(hashtextextended(${`${tx.tenant} ${patternLock}`}, 0))`)
}

/**
 * Locks subscriptions in their order: these, and those that link these streams. Who holds a subscription changes its links; so whoever changes links
 * of several holds their subscriptions before.
 */
export async function holdSubscriptions(tx: Transaction, ids: readonly string[], paths: readonly StreamPath[]): Promise<void> {
  await tx.query(keyed`
    SELECT s.id
      FROM (SELECT w.id
              FROM (SELECT unnest(${ids}::text[]) COLLATE "C" AS id
                     UNION
                    SELECT l.subscription_id
                      FROM unnest(${paths}::text[]) AS i (path)
                     CROSS JOIN LATERAL (SELECT subscription_id FROM subscription_links
                                          WHERE tenant_id = ${tx.tenant} AND path = i.path COLLATE "C" OFFSET 0) l) w
             ORDER BY w.id) w
     CROSS JOIN LATERAL (SELECT id FROM subscriptions WHERE tenant_id = ${tx.tenant} AND id = w.id OFFSET 0
                            FOR NO KEY UPDATE) s`)
}

/** Those that could match a path with one of these prefixes; whether they do is `matches` (domain). Index: subscriptions_by_prefix. */
export async function patternsAt(tx: Queryable, prefixes: readonly string[]): Promise<PatternSubscription[]> {
  const { rows } = await tx.query(keyed`
    SELECT s.id, s.mount, s.pattern, s.wake_stream
      FROM unnest(${prefixes}::text[]) AS i (prefix)
     CROSS JOIN LATERAL (SELECT id, mount, pattern, wake_stream FROM subscriptions
                          WHERE tenant_id = ${tx.tenant} AND pattern_prefix = i.prefix COLLATE "C" OFFSET 0) s`)
  return rows as unknown as PatternSubscription[] // columns as declared in 0007-subscriptions.sql
}

/** Takes these entities out of dispatch: nothing wakes or writes for them any more (spec/06 §9 "Unlinking"). */
export async function unlinkEntities(tx: Transaction, urls: readonly EntityUrl[], mains: readonly StreamPath[]): Promise<void> {
  if (urls.length === 0) return
  await tx.query(keyed`
    WITH own AS (
      DELETE FROM subscriptions
       WHERE tenant_id = ${tx.tenant}
         AND id = ANY (ARRAY (SELECT s.id
                                FROM unnest(${urls}::text[]) AS i (url)
                               CROSS JOIN LATERAL (SELECT id FROM subscriptions
                                                    WHERE tenant_id = ${tx.tenant} AND entity_url = i.url COLLATE "C" OFFSET 0) s))
      RETURNING wake_id
    ), notified AS (
      UPDATE wake_notifications n
         SET delivery_status = CASE n.delivery_status WHEN 'queued' THEN 'superseded' ELSE n.delivery_status END, claim_status = 'expired', resolved_at = now()
       WHERE n.tenant_id = ${tx.tenant} AND n.wake_id = ANY (ARRAY (SELECT wake_id FROM own))
    ), links AS (
      DELETE FROM subscription_links WHERE tenant_id = ${tx.tenant} AND path = ANY (${mains})
    ), tokens AS (
      DELETE FROM write_tokens WHERE tenant_id = ${tx.tenant} AND path = ANY (${mains})
    ), claims AS (
      UPDATE consumer_claims SET status = 'expired', released_at = now(), updated_at = now()
       WHERE tenant_id = ${tx.tenant} AND entity_url = ANY (${urls}) AND status = 'active'
    )
    UPDATE entity_dispatch_state
       SET active_consumer_id = NULL, active_runner_id = NULL, active_epoch = NULL, active_claimed_at = NULL, active_lease_expires_at = NULL,
           outstanding_wake_id = NULL, outstanding_wake_target = NULL, outstanding_wake_created_at = NULL, last_released_at = now(), updated_at = now()
     WHERE tenant_id = ${tx.tenant} AND entity_url = ANY (${urls})`)
}

/**
 * Streams of these names begin anew on a foreign server, unless they stand there as the registry knows: whatever was acked was of former ones. The
 * caller holds the subscriptions.
 */
export async function forgetAcks(tx: Transaction, paths: readonly StreamPath[]): Promise<void> {
  await tx.query(keyed`
    UPDATE subscription_links l SET acked = ${nothingAcked}
      FROM (SELECT k.ctid AS at
              FROM unnest(${paths}::text[]) AS i (path)
             CROSS JOIN LATERAL (SELECT ctid, acked FROM subscription_links WHERE tenant_id = ${tx.tenant} AND path = i.path COLLATE "C" OFFSET 0) k
             WHERE k.acked <> ${nothingAcked}
               AND NOT EXISTS (SELECT FROM stream_progress WHERE tenant_id = ${tx.tenant} AND path = i.path COLLATE "C" OFFSET 0)) k
     WHERE l.ctid = k.at`)
}

/** Cursors beyond `to` go back to it: their stream has. */
export async function lowerAcks(tx: Transaction, path: StreamPath, to: Offset): Promise<void> {
  await tx.query(sql`
    UPDATE subscription_links SET acked = ${to}
     WHERE tenant_id = ${tx.tenant} AND path = ${path} AND acked <> ${nothingAcked} AND acked > ${to} COLLATE "C"`)
}

/**
 * The stream is `owner`'s from now on: no pattern names it any more, nor does a subscription that somebody else made. Who may ask for it by name keeps it;
 * patterns are for bypass principals, whose subscriptions have no creator.
 */
export async function keepLinksOfOwner(tx: Transaction, path: StreamPath, owner: PrincipalUrl): Promise<void> {
  await Promise.all([
    holdSubscriptions(tx, [], [path]),
    tx.query(sql`
      WITH dropped AS (
        DELETE FROM subscription_links l
         WHERE tenant_id = ${tx.tenant} AND path = ${path}
           AND (is_glob AND NOT is_explicit
                OR EXISTS (SELECT FROM subscriptions s WHERE s.tenant_id = l.tenant_id AND s.id = l.subscription_id AND s.created_by <> ${owner})))
      UPDATE subscription_links SET is_glob = false WHERE tenant_id = ${tx.tenant} AND path = ${path} AND is_glob AND is_explicit`),
  ])
}

/**
 * Which of these streams anybody waits for. A name that no stream has is linked only by who holds the patterns alone: with them shared, the answer stands
 * for what is made next.
 */
export async function linkedPaths(queryable: Queryable, paths: readonly StreamPath[]): Promise<ReadonlySet<string>> {
  const { rows } = await queryable.query(keyed`
    SELECT i.path
      FROM unnest(${paths}::text[]) AS i (path)
     WHERE EXISTS (SELECT FROM subscription_links WHERE tenant_id = ${queryable.tenant} AND path = i.path COLLATE "C" OFFSET 0)`)
  return new Set(rows.map((row) => String(row.path)))
}

/** A stream is no more, and with it what waited for it. */
export async function dropLinks(tx: Transaction, path: StreamPath): Promise<void> {
  await Promise.all([
    holdSubscriptions(tx, [], [path]),
    tx.query(sql`DELETE FROM subscription_links WHERE tenant_id = ${tx.tenant} AND path = ${path}`),
  ])
}

/** Who waits for this stream. */
export async function subscribersOf(queryable: Queryable, path: StreamPath): Promise<readonly string[]> {
  const { rows } = await queryable.query(sql`
    SELECT subscription_id FROM subscription_links WHERE tenant_id = ${queryable.tenant} AND path = ${path}`)
  return rows.map(({ subscription_id }) => String(subscription_id))
}

/** These subscriptions wait for the stream no more. */
export async function dropLinksOf(tx: Transaction, path: StreamPath, subscriptionIds: readonly string[]): Promise<void> {
  await Promise.all([
    holdSubscriptions(tx, subscriptionIds, []),
    tx.query(sql`
      DELETE FROM subscription_links WHERE tenant_id = ${tx.tenant} AND path = ${path} AND subscription_id = ANY (${subscriptionIds})`),
  ])
}

/** One subscription waits for one stream no more. */
export async function dropLink(queryable: Queryable, subscriptionId: string, path: StreamPath): Promise<void> {
  await queryable.query(sql`
    DELETE FROM subscription_links WHERE tenant_id = ${queryable.tenant} AND path = ${path} AND subscription_id = ${subscriptionId}`)
}

export interface StoredSubscription {
  readonly id: string
  readonly type: SubscriptionType
  readonly mount: Mount
  readonly pattern: string | null
  readonly configuration: string
  readonly webhook_url: string | null
  readonly wake_stream: StreamPath | null
  readonly lease_ttl_ms: number
  readonly description: string | null
  readonly created_by: string | null
  readonly created_at: Date
  readonly entity_url: EntityUrl | null
  readonly runner_id: string | null
  readonly generation: number
  readonly wake_id: string | null
  readonly wake_path: StreamPath | null
  readonly wake_entity_url: EntityUrl | null
  readonly attempts: number
  readonly failures: number
  readonly holder: string | null
  readonly lease_until: Date | null
  readonly lost_leases: number
}

/** A runner's wakes are announced where it reads now (`wakes.ts`, `lockWakes`). */
export async function findSubscription(queryable: Queryable, id: string): Promise<StoredSubscription | null> {
  const { rows } = await queryable.query(sql`
    SELECT id, type, mount, pattern, configuration, webhook_url,
           coalesce((SELECT r.wake_stream FROM runners r WHERE r.tenant_id = s.tenant_id AND r.id = s.runner_id), wake_stream) AS wake_stream,
           lease_ttl_ms, description, created_by, created_at, entity_url, runner_id,
           generation, wake_id, wake_path, wake_entity_url, attempts, failures, holder, lease_until, lost_leases
      FROM subscriptions s WHERE tenant_id = ${queryable.tenant} AND id = ${id}`)
  return (rows[0] as StoredSubscription | undefined) ?? null // columns as declared in 0007-subscriptions.sql
}

/** A link, and how its stream stands. */
export interface LinkState {
  readonly subscription_id: string
  readonly path: StreamPath
  readonly is_explicit: boolean
  readonly acked: string
  /** Null: no such stream. */
  readonly tail: Offset | null
  /** Of the entity whose main stream this is. */
  readonly entity_status: EntityStatus | null
}

/** The links of these subscriptions, in the order of their paths. */
export const linksOf = async (queryable: Queryable, subscriptionIds: readonly string[]): Promise<LinkState[]> =>
  await linksBy(queryable, { subscriptionIds })

/** The same, of the subscriptions that have these wakes in flight. */
export const linksOfWakes = async (queryable: Queryable, wakeIds: readonly string[]): Promise<LinkState[]> =>
  wakeIds.length === 0 ? [] : await linksBy(queryable, { wakeIds })

/**
 * Tails are asked for one by one, to a join Postgres brings all streams; and of the two tables, since in a union of them Postgres 18 does not find a
 * row by its whole key.
 */
async function linksBy(
  queryable: Queryable,
  { subscriptionIds = [], wakeIds = [] }: { readonly subscriptionIds?: readonly string[]; readonly wakeIds?: readonly string[] },
): Promise<LinkState[]> {
  const { rows } = await queryable.query(keyed`
    SELECT l.subscription_id, l.path, l.is_explicit, l.acked, e.status AS entity_status,
           coalesce((SELECT '0000000000000000_' || lpad(t.tail::text, 16, '0') FROM streams t
                      WHERE t.tenant_id = ${queryable.tenant} AND t.path = l.path AND t.gone_at IS NULL),
                    (SELECT p.processed FROM stream_progress p WHERE p.tenant_id = ${queryable.tenant} AND p.path = l.path)) AS tail
      FROM (SELECT unnest(${subscriptionIds}::text[]) COLLATE "C" AS id
             UNION ALL
            SELECT w.id
              FROM unnest(${wakeIds}::text[]) AS i (wake_id)
             CROSS JOIN LATERAL (SELECT id FROM subscriptions WHERE tenant_id = ${queryable.tenant} AND wake_id = i.wake_id COLLATE "C" OFFSET 0) w) s
     CROSS JOIN LATERAL (SELECT *, CASE WHEN path LIKE '%/main' THEN left(path, -5) END COLLATE "C" AS entity_url FROM subscription_links
                          WHERE tenant_id = ${queryable.tenant} AND subscription_id = s.id OFFSET 0) l
      LEFT JOIN LATERAL (SELECT status FROM entities
                          WHERE tenant_id = ${queryable.tenant} AND url = l.entity_url OFFSET 0) e ON true
     ORDER BY l.subscription_id, l.path`)
  return rows as unknown as LinkState[] // columns as selected above
}

/** Whether a stream has entries that nobody has acked. */
export const hasPending = ({ acked, tail }: Pick<LinkState, 'acked' | 'tail'>): boolean =>
  tail !== null && tail !== emptyTail && (acked === nothingAcked || tail > acked)

const emptyTail = `${'0'.repeat(16)}_${'0'.repeat(16)}`

/** A paused entity's work waits for its resumption; an ended one has none (spec/05 §4, spec/07 §3.7). */
const heldBack: ReadonlySet<EntityStatus> = new Set(['paused', 'stopping', 'stopped', 'killed'])

/** Whether new entries of this stream may start a wake. */
export const mayWake = (status: EntityStatus | null): boolean => status === null || !heldBack.has(status)
