/** Links between entities and shared state (spec/12 §9). */
import { z } from 'zod'
import type { EntityUrl, PrincipalUrl } from '../domain/ids.js'
import type { SharedStateLinkChange } from '../domain/shared-state.js'
import { type Queryable, sql, type Transaction } from './database.js'

/** A link, with what of its entity decides access. */
export interface SharedStateLink {
  readonly url: EntityUrl
  readonly manifest_key: string
  readonly created_by: PrincipalUrl | null
  /** False: the entity is gone, and the link grants nothing. */
  readonly exists: boolean
}

const text = <Text extends string>() => z.string() as unknown as z.ZodType<Text> // parsed when it was stored
const linkRow: z.ZodType<SharedStateLink> = z.object({
  url: text<EntityUrl>(),
  manifest_key: z.string(),
  created_by: text<PrincipalUrl>().nullable(),
  exists: z.boolean(),
})

/** Who is linked to `id`. Index: shared_state_links_by_id. */
export async function linksOf(queryable: Queryable, id: string): Promise<readonly SharedStateLink[]> {
  const { rows } = await queryable.query(sql`
    SELECT l.owner_url AS url, l.manifest_key, e.created_by, e.url IS NOT NULL AS exists
      FROM shared_state_links l
      LEFT JOIN entities e ON e.tenant_id = l.tenant_id AND e.url = l.owner_url AND e.reserved_by IS NULL
     WHERE l.tenant_id = ${queryable.tenant} AND l.shared_state_id = ${id}`)
  return rows.map((row) => linkRow.parse(row))
}

/** Those who bootstrap one shared state take turns until the transaction ends, also while it has no links. */
export async function lockSharedState(tx: Transaction, id: string): Promise<void> {
  await tx.query(sql`SELECT pg_advisory_xact_lock(hashtextextended(${`${tx.tenant} ${id}`}, 12))`)
}

/** At most one change per (owner, key). Rows are locked in the order of their keys. */
export async function changeLinks(tx: Transaction, changes: readonly SharedStateLinkChange[]): Promise<void> {
  const kept = changes.filter(({ id }) => id !== null)
  const removed = changes.filter(({ id }) => id === null)
  const inserted =
    kept.length > 0 &&
    tx.query(sql`
      INSERT INTO shared_state_links (tenant_id, owner_url, manifest_key, shared_state_id)
      SELECT ${tx.tenant}, i.owner_url, i.manifest_key, i.id
        FROM unnest(${kept.map((c) => c.owner_url)}::text[], ${kept.map((c) => c.manifest_key)}::text[], ${kept.map((c) => c.id)}::text[])
             AS i (owner_url, manifest_key, id)
       ORDER BY i.owner_url COLLATE "C", i.manifest_key COLLATE "C"
          ON CONFLICT (tenant_id, owner_url, manifest_key) DO UPDATE SET shared_state_id = excluded.shared_state_id`)
  const deleted =
    removed.length > 0 &&
    tx.query(sql`
      DELETE FROM shared_state_links l
       USING unnest(${removed.map((c) => c.owner_url)}::text[], ${removed.map((c) => c.manifest_key)}::text[]) AS i (owner_url, manifest_key)
       WHERE l.tenant_id = ${tx.tenant} AND l.owner_url = i.owner_url COLLATE "C" AND l.manifest_key = i.manifest_key COLLATE "C"`)
  await Promise.all([inserted, deleted])
}
