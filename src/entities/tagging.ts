/**
 * Setting and deleting tags (spec/02 §10), group-committed.
 *
 * T1  Row, search index, `updated_at` and the `tags` event of a change are one: after a crash all are there, or none.
 * T2  Changes of one entity take turns under its row's lock: of concurrent changes of different keys all survive, and the events stand in
 *     the order of the changes.
 * T3  A change that changes nothing writes nothing and has no transaction id.
 *
 * A crash loses the answers: what was committed stays, and with a foreign stream server the sweep lands its events.
 */
import type { Pipeline, Together } from '../dispatch/pipeline.js'
import { acceptsWrites } from '../domain/entity.js'
import { AgentsError, errors } from '../domain/errors.js'
import { entryOf, type StateEvent, tagChanged } from '../domain/events.js'
import { GroupCommit } from '../domain/group-commit.js'
import { type EntityUrl, mainStream } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import { refuseTag, tagOf, withTag } from '../domain/tags.js'
import type { Transaction } from '../registry/database.js'
import type { EntityHead } from '../registry/entities.js'
import { lockTags, type TaggedEntity, writeTags } from '../registry/tags.js'

interface TagChange {
  readonly url: EntityUrl
  readonly key: string
  /** Null: the tag is deleted. */
  readonly value: string | null
}

interface Tagged {
  readonly entity: TaggedEntity
  /** Absent where nothing was changed (T3). */
  readonly txid?: number
}

type Verdict = Tagged | AgentsError

export interface TaggedHead {
  readonly entity: EntityHead
  readonly txid?: number
}

export class Tagging {
  readonly #pipeline: Pipeline
  readonly #limits: Limits
  readonly #changes: GroupCommit<TagChange, Verdict>

  constructor(pipeline: Pipeline, limits: Limits) {
    this.#pipeline = pipeline
    this.#limits = limits
    this.#changes = new GroupCommit((changes) => this.#commit(changes), {
      maxBatch: limits.maxOperationBatch,
      maxWaiting: limits.maxWaitingOperations,
      overloaded: () => errors.OVERLOADED('tags').retryAfter(1),
    })
  }

  /** Sets a tag; throws the first refusal of spec/02 §10.1 from row 4 on. */
  async set(entity: EntityHead, key: string, value: string): Promise<TaggedHead> {
    if (entity.type === 'principal') throw errors.PRINCIPAL_REFUSES('tag updated')
    if (!acceptsWrites(entity.status)) throw errors.NOT_RUNNING()
    const refusal = refuseTag(key, value, this.#limits)
    if (refusal !== null) throw refusal
    return await this.#change(entity, { url: entity.url, key, value })
  }

  /** Deletes a tag, or finds that there is none; throws the first refusal of spec/02 §10.2. */
  async delete(entity: EntityHead, key: string): Promise<TaggedHead> {
    if (entity.type === 'principal') throw errors.PRINCIPAL_REFUSES('tag deleted')
    if (!acceptsWrites(entity.status)) throw errors.NOT_RUNNING()
    return await this.#change(entity, { url: entity.url, key, value: null })
  }

  drained(): Promise<void> {
    return this.#changes.drained()
  }

  async #change(entity: EntityHead, change: TagChange): Promise<TaggedHead> {
    const verdict = await this.#changes.add(change)
    if (verdict instanceof AgentsError) throw verdict
    const { entity: changed, txid } = verdict
    return { entity: { ...entity, ...changed }, ...(txid === undefined ? {} : { txid }) }
  }

  async #commit(changes: readonly TagChange[]): Promise<readonly Verdict[]> {
    return await this.#pipeline.together((tx) => applyIn(tx, changes, this.#limits))
  }
}

/** T1, T2: the changes in their order, each upon what the one before it left. */
async function applyIn(tx: Transaction, changes: readonly TagChange[], limits: Limits): Promise<Together<readonly Verdict[]>> {
  const entities = new Map(await lockTags(tx, [...new Set(changes.map(({ url }) => url))]))
  const atMs = Date.now()
  const changed = new Set<EntityUrl>()
  const events: { readonly url: EntityUrl; readonly event: StateEvent }[] = []
  const verdicts = changes.map((change): Verdict => {
    const before = entities.get(change.url)
    const applied = afterChange(before, change, atMs, limits)
    if (applied instanceof AgentsError) return applied
    if (applied.event === null) return { entity: applied.entity }
    entities.set(change.url, applied.entity)
    changed.add(change.url)
    events.push({ url: change.url, event: applied.event })
    return { entity: applied.entity, txid: tx.txid }
  })
  const written = [...changed].flatMap((url) => entities.get(url) ?? [])
  const rows = async () => written.length > 0 && (await writeTags(tx, written))
  return { result: verdicts, appends: events.map(appendOf), rows }
}

interface Applied {
  readonly entity: TaggedEntity
  /** Null: nothing changes (T3). */
  readonly event: StateEvent | null
}

/** What one change makes of its entity. */
function afterChange(before: TaggedEntity | undefined, { key, value }: TagChange, atMs: number, limits: Limits): Applied | AgentsError {
  if (before === undefined) return errors.ENTITY_PERSIST_FAILED(value === null ? 'tag delete' : 'tag write')
  if (!acceptsWrites(before.status)) return errors.NOT_RUNNING()
  const former = tagOf(before.tags, key)
  if (former === value) return { entity: before, event: null }
  const tags = withTag(before.tags, key, value)
  if (former === null && Object.keys(tags).length > limits.maxTags) return errors.TAG_LIMIT(`${limits.maxTags} per entity`)
  const entity = { ...before, tags, updated_at: Math.max(atMs, before.updated_at) }
  return { entity, event: tagChanged(key, value, former !== null, atMs) }
}

/** Each change is an entry of its own. */
const appendOf = ({ url, event }: { readonly url: EntityUrl; readonly event: StateEvent }) => ({
  path: mainStream(url),
  contentType: 'application/json',
  body: entryOf([event]),
})
