/** Claims on the paths of attachments that are being stored or removed. */
import type { StreamPath } from '../domain/ids.js'
import { type Queryable, sql, type Transaction } from './database.js'

export interface AttachmentClaim {
  readonly path: StreamPath
  readonly claimed_by: string
}

/** False where somebody else holds the path. */
export async function claimAttachment(queryable: Queryable, { path, claimed_by }: AttachmentClaim, forMs: number): Promise<boolean> {
  const { count } = await queryable.query(sql`
    INSERT INTO attachment_claims (tenant_id, path, claimed_by, deadline)
    VALUES (${queryable.tenant}, ${path}, ${claimed_by}, now() + make_interval(secs => ${forMs / 1_000}))
    ON CONFLICT DO NOTHING`)
  return count === 1
}

/** Moves the deadline; false where the claim is lost: then nobody may go on with it. */
export async function prolongClaim(queryable: Queryable, { path, claimed_by }: AttachmentClaim, forMs: number): Promise<boolean> {
  const { count } = await queryable.query(sql`
    UPDATE attachment_claims SET deadline = now() + make_interval(secs => ${forMs / 1_000})
     WHERE tenant_id = ${queryable.tenant} AND path = ${path} AND claimed_by = ${claimed_by}`)
  return count === 1
}

/** Ends a claim; false where it was lost. */
export async function endClaim(queryable: Queryable, { path, claimed_by }: AttachmentClaim): Promise<boolean> {
  const { count } = await queryable.query(sql`
    DELETE FROM attachment_claims WHERE tenant_id = ${queryable.tenant} AND path = ${path} AND claimed_by = ${claimed_by}`)
  return count === 1
}

/** Whether any of these paths is being stored or removed. */
export async function isAnyClaimed(queryable: Queryable, paths: readonly StreamPath[]): Promise<boolean> {
  if (paths.length === 0) return false
  const { rows } = await queryable.query(sql`
    SELECT FROM attachment_claims WHERE tenant_id = ${queryable.tenant} AND path = ANY (${paths}) LIMIT 1`)
  return rows.length > 0
}

/** Takes over claims whose deadline has passed, under the name `claimedBy`. Replicas take different ones. */
export async function takeLapsedClaims(tx: Transaction, claimedBy: string, forMs: number, limit: number): Promise<AttachmentClaim[]> {
  const { rows } = await tx.query(sql`
    UPDATE attachment_claims c SET claimed_by = ${claimedBy}, deadline = now() + make_interval(secs => ${forMs / 1_000})
      FROM (SELECT tenant_id, path FROM attachment_claims
             WHERE tenant_id = ${tx.tenant} AND deadline < now()
             ORDER BY deadline LIMIT ${limit} FOR UPDATE SKIP LOCKED) lapsed
     WHERE c.tenant_id = lapsed.tenant_id AND c.path = lapsed.path
    RETURNING c.path, c.claimed_by`)
  return rows as unknown as AttachmentClaim[] // columns as declared in 0006-attachments.sql
}
