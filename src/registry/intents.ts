/** Append intents: "about to append to S" on a foreign stream server (design §4). */
import { entityOfMainStream, type Offset, type OperationId, type StreamPath, zeroOffset } from '../domain/ids.js'
import { type Queryable, sql, type Transaction } from './database.js'

/** An append that is about to be written down. */
export interface NewIntent {
  /** Also the producer id of the append, which makes its repetition harmless. */
  readonly id: string
  readonly path: StreamPath
  readonly body: Buffer
  /** Whether the append closes the stream. */
  readonly closes: boolean
  readonly begun: BegunRuns | null
}

export interface AppendIntent extends NewIntent {
  /** What stood on the stream before the append was first sent reaches at least to here: an entry of it that has landed stands behind. */
  readonly landsAfter: Offset
}

/** Runs that a handler's append begins, and the token that it was taken with. */
export interface BegunRuns {
  readonly tokenHash: Buffer
  readonly runs: readonly string[]
}

/** Owned by the writing process for `ownedMs`; afterwards `sweep` may carry them out. */
export async function insertIntents(tx: Transaction, intents: readonly NewIntent[], ownedMs: number): Promise<void> {
  await tx.query(sql`
    INSERT INTO append_intents (tenant_id, id, path, body, closes, token_hash, runs, lands_after, owned_until)
    SELECT ${tx.tenant}, i.id, i.path, i.body, i.closes, i.token_hash, i.runs::jsonb,
           (SELECT processed FROM stream_progress p WHERE p.tenant_id = ${tx.tenant} AND p.path = i.path COLLATE "C"),
           now() + make_interval(secs => ${ownedMs / 1_000})
      FROM unnest(${intents.map((i) => i.id)}::text[], ${intents.map((i) => i.path)}::text[], ${intents.map((i) => i.body)}::bytea[],
                  ${intents.map((i) => i.closes)}::boolean[], ${intents.map((i) => i.begun?.tokenHash ?? null)}::bytea[],
                  ${intents.map((i) => (i.begun === null ? null : JSON.stringify(i.begun.runs)))}::text[])
           AS i (id, path, body, closes, token_hash, runs)
     ORDER BY i.id COLLATE "C"`)
}

/**
 * The intents of an operation (their ids begin with its own), and those of other operations that come before them on the same streams:
 * who lands its own lands these first, so that events stand in the order of the row changes that they tell of.
 */
export async function intentsUpTo(queryable: Queryable, id: OperationId): Promise<AppendIntent[]> {
  const { rows } = await queryable.query(sql`
    SELECT i.id, i.path, i.body, i.closes, i.token_hash, i.runs, i.lands_after FROM append_intents i
     WHERE i.tenant_id = ${queryable.tenant} AND strpos(i.id, '/') > 0
       AND EXISTS (SELECT FROM append_intents own
                    WHERE own.tenant_id = i.tenant_id AND own.id ^@ ${`${id}/`} AND own.path = i.path AND own.ord >= i.ord)
     ORDER BY i.ord`)
  return rows.map(intentOf)
}

/** Takes over intents whose owner let them lapse, for `ownedMs`, oldest first. Replicas take different ones. */
export async function takeLapsedIntents(tx: Transaction, ownedMs: number, limit: number): Promise<AppendIntent[]> {
  const { rows } = await tx.query(sql`
    WITH lapsed AS (
      SELECT tenant_id, id FROM append_intents
       WHERE tenant_id = ${tx.tenant} AND owned_until < now()
       ORDER BY ord
       LIMIT ${limit}
         FOR UPDATE SKIP LOCKED), taken AS (
    UPDATE append_intents i SET owned_until = now() + make_interval(secs => ${ownedMs / 1_000})
      FROM lapsed WHERE i.tenant_id = lapsed.tenant_id AND i.id = lapsed.id
    RETURNING i.ord, i.id, i.path, i.body, i.closes, i.token_hash, i.runs, i.lands_after)
    SELECT id, path, body, closes, token_hash, runs, lands_after FROM taken ORDER BY ord`)
  return rows.map(intentOf)
}

/** What operations are about to append to this stream. */
export async function plannedBodies(queryable: Queryable, path: StreamPath): Promise<Buffer[]> {
  const { rows } = await queryable.query(sql`
    SELECT body FROM append_intents WHERE tenant_id = ${queryable.tenant} AND path = ${path} AND strpos(id, '/') > 0`)
  return rows.map((row) => row.body as Buffer)
}

/** How many appends to this stream have not been drawn: those that have landed are its last entries. */
export async function intentsAbout(queryable: Queryable, path: StreamPath): Promise<number> {
  const { count } = await queryable.query(sql`SELECT FROM append_intents WHERE tenant_id = ${queryable.tenant} AND path = ${path}`)
  return count
}

/** Whether any of them was still there. */
export async function deleteIntents(queryable: Queryable, ids: readonly string[]): Promise<boolean> {
  const { count } = await queryable.query(sql`DELETE FROM append_intents WHERE tenant_id = ${queryable.tenant} AND id = ANY (${ids})`)
  return count > 0
}

/** How long a stream server is not believed that it has no stream of an entity that stands. */
const lostStreamS = 3_600

/**
 * Gives up an intent whose stream is not found. Of an entity that stands that may be the word of a moment, or of somebody between the servers: then it is
 * `sweep`'s to try again, for `lostStreamS` since it was written down.
 */
export async function giveUpIntent(queryable: Queryable, { id, path }: Pick<NewIntent, 'id' | 'path'>): Promise<void> {
  await queryable.query(sql`
    DELETE FROM append_intents
     WHERE tenant_id = ${queryable.tenant} AND id = ${id}
       AND (created_at < now() - make_interval(secs => ${lostStreamS})
            OR NOT EXISTS (SELECT FROM entities WHERE tenant_id = ${queryable.tenant} AND url = ${entityOfMainStream(path)}))`)
}

/** Columns as selected above. */
function intentOf({ token_hash, runs, lands_after, ...intent }: Readonly<Record<string, unknown>>): AppendIntent {
  const begun = token_hash === null ? null : { tokenHash: token_hash as Buffer, runs: runs as readonly string[] }
  return { ...intent, begun, landsAfter: lands_after ?? zeroOffset } as unknown as AppendIntent
}
