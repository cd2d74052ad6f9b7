/** Rows of collections that a type opens to external writers, comments above all (spec/03 §5). */
import { randomUUID } from 'node:crypto'
import type { Pipeline } from '../dispatch/pipeline.js'
import { acceptsWrites, type JsonObject } from '../domain/entity.js'
import { errors } from '../domain/errors.js'
import { isBuiltInType, refuseEvents } from '../domain/event-gate.js'
import { collectionRow, entryOf } from '../domain/events.js'
import { mainStream } from '../domain/ids.js'
import type { Principal } from '../domain/principals.js'
import type { FoundEntity } from '../registry/entities.js'
import type { Directory } from './directory.js'
import { refuseUnlessAppended } from './sending.js'

export interface RowWrite {
  readonly operation: 'insert' | 'update' | 'delete'
  readonly key?: string
  readonly value?: JsonObject
}

type Addressed = Pick<FoundEntity, 'url' | 'status' | 'writable_collections'>

export class CollectionWriting {
  readonly #directory: Directory
  readonly #pipeline: Pipeline
  readonly #ensurePrincipal: (principal: Principal) => Promise<unknown>

  constructor(directory: Directory, pipeline: Pipeline, ensurePrincipal: (principal: Principal) => Promise<unknown>) {
    this.#directory = directory
    this.#pipeline = pipeline
    this.#ensurePrincipal = ensurePrincipal
  }

  /** Appends the row's change, signed by the server with its author; throws the first refusal of spec/03 §5 from row 2 on. */
  async write(entity: Addressed, collection: string, write: RowWrite, principal: Principal): Promise<{ readonly key: string }> {
    await this.#ensurePrincipal(principal)
    const { type } = writable(entity, collection, write.operation)
    if (!acceptsWrites(entity.status)) throw errors.NOT_RUNNING()
    const key = keyOf(collection, write)
    const event = collectionRow({ ...write, type, key, principal, atMs: Date.now() })
    const schemas = await this.#directory.schemas(entity.url)
    const refusal = refuseEvents(schemas?.state ?? null, [event])
    if (refusal !== null) throw refusal
    const verdict = await this.#pipeline.append({
      path: mainStream(entity.url),
      contentType: 'application/json',
      body: entryOf([event]),
      events: [event],
      message: { to: entity.url, resumes: false },
    })
    refuseUnlessAppended(verdict)
    return { key }
  }
}

/** Rows 2 and 3: what the type's current registration says; an entity whose type is gone has none. */
function writable({ writable_collections: known }: Addressed, collection: string, operation: RowWrite['operation']) {
  const found = known !== null && Object.hasOwn(known, collection) ? known[collection] : undefined
  if (found === undefined || isBuiltInType(found.type)) throw errors.COLLECTION_NOT_WRITABLE(collection)
  if (!(found.operations ?? ['insert']).includes(operation)) throw errors.OPERATION_NOT_ALLOWED(operation, collection)
  return found
}

/** Rows 6 and 7. An empty key names no row, not even for an insert (ours). */
function keyOf(collection: string, { operation, key, value }: RowWrite): string {
  if (operation !== 'delete' && value === undefined) throw errors.ROW_VALUE_REQUIRED(operation)
  if (key === undefined && operation === 'insert') return `${collection}-${randomUUID()}`
  if (!key) throw errors.ROW_KEY_REQUIRED(operation)
  return key
}
