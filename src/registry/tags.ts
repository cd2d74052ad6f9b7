/** Tags of entities: locked, read and written set by set (spec/02 §10.3). */
import type { EntityStatus, Tags } from '../domain/entity.js'
import type { EntityUrl } from '../domain/ids.js'
import { tagsIndex } from '../domain/tags.js'
import { keyed, type Transaction } from './database.js'

export interface TaggedEntity {
  readonly url: EntityUrl
  readonly status: EntityStatus
  readonly tags: Tags
  /** Milliseconds since the epoch. */
  readonly updated_at: number
}

/** Locks these entities, in the order of their URLs, until the transaction ends: changes of one entity's tags take turns. */
export async function lockTags(tx: Transaction, urls: readonly EntityUrl[]): Promise<ReadonlyMap<EntityUrl, TaggedEntity>> {
  const { rows } = await tx.query(keyed`
    SELECT e.*
      FROM (SELECT DISTINCT url COLLATE "C" AS url FROM unnest(${urls}::text[]) AS i (url) ORDER BY 1) i
     CROSS JOIN LATERAL (SELECT url, status, tags, updated_at FROM entities
                          WHERE tenant_id = ${tx.tenant} AND url = i.url AND reserved_by IS NULL OFFSET 0
                            FOR NO KEY UPDATE) e`)
  return new Map((rows as unknown as TaggedEntity[]).map((row) => [row.url, row])) // columns as declared in 0001-registry.sql
}

/** Tags, their index and `updated_at`, all of it locked before. */
export async function writeTags(tx: Transaction, entities: readonly TaggedEntity[]): Promise<void> {
  const rows = entities.map(({ url, tags, updated_at }) => ({ url, tags, tags_index: tagsIndex(tags), updated_at }))
  await tx.query(keyed`
    UPDATE entities e SET tags = i.tags, tags_index = i.tags_index, updated_at = i.updated_at
      FROM (SELECT k.ctid AS at, i.*
              FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS i (url text, tags jsonb, tags_index text[], updated_at int8)
             CROSS JOIN LATERAL (SELECT ctid FROM entities WHERE tenant_id = ${tx.tenant} AND url = i.url COLLATE "C" OFFSET 0) k) i
     WHERE e.ctid = i.at`)
}
