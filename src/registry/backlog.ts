/** What is under way in all replicas together. */
import { type Queryable, sql } from './database.js'

export async function readBacklog(queryable: Queryable): Promise<{ readonly appendIntents: number; readonly attachmentClaims: number }> {
  const { rows } = await queryable.query(sql`
    SELECT (SELECT count(*) FROM append_intents WHERE tenant_id = ${queryable.tenant}) AS intents,
           (SELECT count(*) FROM attachment_claims WHERE tenant_id = ${queryable.tenant}) AS claims`)
  const [row] = rows
  return { appendIntents: Number(row?.intents), attachmentClaims: Number(row?.claims) }
}
