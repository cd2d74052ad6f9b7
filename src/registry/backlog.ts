/** What is under way in all replicas together. */
import { type Queryable, sql } from './database.js'

export async function readBacklog(queryable: Queryable) {
  const { rows } = await queryable.query(sql`
    SELECT (SELECT count(*) FROM append_intents WHERE tenant_id = ${queryable.tenant}) AS intents,
           (SELECT count(*) FROM attachment_claims WHERE tenant_id = ${queryable.tenant}) AS claims,
           (SELECT count(*) FROM subscriptions WHERE tenant_id = ${queryable.tenant} AND due_at IS NOT NULL AND failures = 0) AS waiting,
           (SELECT count(*) FROM subscriptions WHERE tenant_id = ${queryable.tenant} AND due_at IS NOT NULL AND failures > 0) AS failing,
           (SELECT count(*) FROM subscriptions WHERE tenant_id = ${queryable.tenant} AND lease_until IS NOT NULL) AS claimed,
           (SELECT count(*) FROM wake_notifications WHERE tenant_id = ${queryable.tenant} AND delivery_status = 'failed') AS dead`)
  const [row] = rows
  return {
    appendIntents: Number(row?.intents),
    attachmentClaims: Number(row?.claims),
    wakes: { waiting: Number(row?.waiting), failing: Number(row?.failing), claimed: Number(row?.claimed) },
    deadLetters: Number(row?.dead),
  }
}
