/**
 * Looking up entities, types and runners: concurrent look-ups become one query, as do those that a request asks for at once.
 *
 * Every look-up reads the registry: nothing is remembered, so an answer is never older than the question.
 */

import type { EffectiveSchemas } from '../domain/entity-types.js'
import { errors } from '../domain/errors.js'
import { GroupCommit } from '../domain/group-commit.js'
import type { Limits } from '../domain/limits.js'
import type { Runner } from '../domain/runners.js'
import type { Queryable } from '../registry/database.js'
import { type FoundEntity, findEffectiveSchemas, findEntityHeads } from '../registry/entities.js'
import { findEntityTypes, type RegisteredType } from '../registry/entity-types.js'
import { type SubtreeGlance, subtreeGlances } from '../registry/forking.js'
import { findRunners, findRunnersByWakeStream } from '../registry/runners.js'

/** Queries in flight at once, of each kind: more would be smaller ones (16 callers: 10,800 reads/s with one, 8,100 with four). */
const lanes = 1

type Find<Found> = (queryable: Queryable, keys: readonly string[]) => Promise<ReadonlyMap<string, Found>>
type LookUp<Found> = (key: string) => Promise<Found | null>

function batched<Found extends object>(database: Queryable, limits: Limits, find: Find<Found>): LookUp<Found> {
  const commit = async (keys: readonly string[]) => {
    const found = await find(database, keys)
    return keys.map((key) => found.get(key) ?? null)
  }
  const reads = new GroupCommit<string, Found | null>(commit, {
    lanes,
    gathers: true,
    maxBatch: limits.maxReadBatch,
    maxWaiting: limits.maxWaitingReads,
    overloaded: () => errors.OVERLOADED('reads').retryAfter(1),
  })
  // Postgres refuses U+0000, with all others of the batch; no row holds it.
  return async (key) => (key.includes('\0') ? null : await reads.add(key))
}

export class Directory {
  /** An entity as readers see it and access is decided on it: without its schema copies. */
  readonly entity: LookUp<FoundEntity>
  readonly type: LookUp<RegisteredType>
  /** The effective schemas of the entity at a URL (spec/01 §5.3); null where there is none. */
  readonly schemas: LookUp<EffectiveSchemas>
  readonly runner: LookUp<Runner>
  /** The runner whose wakes are announced at a path. */
  readonly wakeStream: LookUp<Runner>
  /** What a fork of this root would have before it; null where there is no such entity. */
  readonly subtree: LookUp<SubtreeGlance>

  constructor(database: Queryable, limits: Limits) {
    this.entity = batched(database, limits, findEntityHeads)
    this.type = batched(database, limits, findEntityTypes)
    this.schemas = batched(database, limits, findEffectiveSchemas)
    this.runner = batched(database, limits, findRunners)
    this.wakeStream = batched(database, limits, findRunnersByWakeStream)
    this.subtree = batched(database, limits, async (queryable, roots) => await subtreeGlances(queryable, roots, limits))
  }
}
