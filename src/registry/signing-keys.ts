/**
 * Signing keys and their turns (`domain/signing-keys.ts`). Times are the database's, read after the wait for the lock: a key counts as published
 * from when it was written down, not from when its transaction began.
 */
import { z } from 'zod'
import type { SigningKey, SigningTurn } from '../domain/signing-keys.js'
import { type Database, type Queryable, sql, type Transaction } from './database.js'

/** All turns in their order, and when that was. */
export interface SigningRows {
  readonly turns: readonly SigningTurn[]
  readonly nowMs: number
}

const turnRow = z.object({
  kid: z.string(),
  public_key: z.string(),
  private_key: z.string(),
  is_configured: z.boolean(),
  key_age_ms: z.number(),
  signs_from_ms: z.number(),
  now_ms: z.number(),
})

/**
 * Those who change turns take turns themselves. A process that freezes meanwhile loses its transaction after ten seconds: it holds up no other,
 * and what it wrote is seen right after the time that it carries, or never.
 */
export async function signingTransaction<Result>(database: Database, body: (tx: Transaction) => Promise<Result>): Promise<Result> {
  return await database.transaction(
    async (tx) => {
      await tx.query(sql`SELECT set_config('idle_in_transaction_session_timeout', '10s', true)`)
      return await body(tx)
    },
    { lock: 'signing keys' },
  )
}

export async function signingRows(queryable: Queryable): Promise<SigningRows> {
  const { rows } = await queryable.query(sql`
    SELECT k.kid, k.public_key, k.private_key, k.is_configured,
           (extract(epoch FROM statement_timestamp() - k.created_at) * 1000)::float8 AS key_age_ms,
           (extract(epoch FROM t.signs_from) * 1000)::float8 AS signs_from_ms,
           (extract(epoch FROM statement_timestamp()) * 1000)::float8 AS now_ms
      FROM signing_turns t
      JOIN signing_keys k ON k.tenant_id = t.tenant_id AND k.kid = t.kid
     WHERE t.tenant_id = ${queryable.tenant}
     ORDER BY t.number`)
  const parsed = rows.map((row) => turnRow.parse(row))
  const turns = parsed.map((row) => ({
    key: { kid: row.kid, x: row.public_key, d: row.private_key },
    isConfigured: row.is_configured,
    keyAgeMs: row.key_age_ms,
    signsFromMs: row.signs_from_ms,
  }))
  return { turns, nowMs: parsed[0]?.now_ms ?? 0 } // without turns nobody asks for the time
}

/** Gives `key` the last turn: at once if nobody had one, else when it has been published for `overlapMs`. To be called in `signingTransaction`. */
export async function addSigningTurn(
  tx: Transaction,
  { kid, x, d, isConfigured }: SigningKey & { readonly isConfigured: boolean },
  overlapMs: number,
): Promise<void> {
  await tx.query(sql`
    WITH key AS (
      INSERT INTO signing_keys (tenant_id, kid, public_key, private_key, is_configured, created_at)
      VALUES (${tx.tenant}, ${kid}, ${x}, ${d}, ${isConfigured}, statement_timestamp())
          ON CONFLICT (tenant_id, kid) DO UPDATE SET is_configured = excluded.is_configured
      RETURNING kid, created_at)
    INSERT INTO signing_turns (tenant_id, number, kid, signs_from)
    SELECT ${tx.tenant}, coalesce(max(t.number), 0) + 1, key.kid,
           CASE WHEN count(t.number) = 0 THEN statement_timestamp()
                ELSE greatest(statement_timestamp(), max(t.signs_from), key.created_at + make_interval(secs => ${overlapMs / 1_000}))
           END
      FROM key LEFT JOIN signing_turns t ON t.tenant_id = ${tx.tenant}
     GROUP BY key.kid, key.created_at`)
}

/** Forgets turns that ended longer than `overlapMs` ago, and keys without a turn. How many keys went. To be called in `signingTransaction`. */
export async function forgetRetiredKeys(tx: Transaction, overlapMs: number): Promise<number> {
  await tx.query(sql`
    DELETE FROM signing_turns t
     WHERE t.tenant_id = ${tx.tenant}
       AND EXISTS (SELECT FROM signing_turns later
                    WHERE later.tenant_id = t.tenant_id AND later.number > t.number
                      AND later.signs_from <= statement_timestamp() - make_interval(secs => ${overlapMs / 1_000}))`)
  const { count } = await tx.query(sql`
    DELETE FROM signing_keys k
     WHERE k.tenant_id = ${tx.tenant}
       AND NOT EXISTS (SELECT FROM signing_turns t WHERE t.tenant_id = k.tenant_id AND t.kid = k.kid)`)
  return count
}
