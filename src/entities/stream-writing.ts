/**
 * Writing through the public stream protocol, behind the checks of `stream-access.ts`: appends of handlers (spec/03 §8.2–8.4), plain streams (§9.3).
 *
 * R1  To the stream of an entity only the write token of its current claim writes; it is judged once more under the stream's lock.
 * R2  Nobody but the server closes, makes or removes the stream of an entity.
 */
import { setImmediate as othersTurn } from 'node:timers/promises'
import type { Pipeline, PipelineAppend } from '../dispatch/pipeline.js'
import { barOf } from '../dispatch/pipeline.js'
import { hashOfToken } from '../dispatch/wake-tokens.js'
import type { SchemaMap } from '../domain/entity.js'
import { type AgentsError, errors } from '../domain/errors.js'
import { gateOf, refuseEvents } from '../domain/event-gate.js'
import { type EntityUrl, entityOfMainStream, mainStream, type StreamPath } from '../domain/ids.js'
import { isProjected } from '../domain/projection.js'
import { writeTokenHashes } from '../registry/claims.js'
import type { Queryable } from '../registry/database.js'
import { statusesOf } from '../registry/statuses.js'
import { itemSlices, jsonItems, largeBytes } from '../streams/protocol/json-items.js'
import type { AppendRequest, AppendVerdict, CreateRequest, CreateVerdict, DeleteVerdict, StreamStore } from '../streams/store.js'
import type { Directory } from './directory.js'

export class StreamWriting {
  readonly #directory: Directory
  readonly #pipeline: Pipeline
  readonly #streams: Pick<StreamStore, 'head'>
  readonly #database: Queryable

  constructor(parts: {
    readonly directory: Directory
    readonly pipeline: Pipeline
    readonly streams: Pick<StreamStore, 'head'>
    readonly database: Queryable
  }) {
    this.#directory = parts.directory
    this.#pipeline = parts.pipeline
    this.#streams = parts.streams
    this.#database = parts.database
  }

  /** `token`: as the client presents it. Throws the refusals of spec/03 §8.2; those of the stream layer are the verdict. */
  async append(path: StreamPath, append: AppendRequest, token: string | null): Promise<AppendVerdict> {
    const url = entityOfMainStream(path)
    const checked = url === null ? append : await this.#ofHandler(url, append, token)
    const verdict = await this.#pipeline.append({ path, ...checked })
    if (verdict.outcome === 'barred') throw verdict.error
    return verdict
  }

  /** Throws where `path` is of an entity whose claim `token` is not: before a request is looked at more closely (spec/03 §8.2 row 3). */
  async refuseStranger(path: StreamPath, token: string | null): Promise<void> {
    const url = entityOfMainStream(path)
    if (url !== null) await this.#refuseUnlessCurrent(writerOf(url, token))
  }

  /** R2: never a main stream, also where a foreign stream server has lost one. */
  async create(path: StreamPath, request: CreateRequest): Promise<CreateVerdict> {
    const head = entityOfMainStream(path) === null ? null : await this.#streams.head(path)
    if (head?.outcome === 'refused') return head
    return await this.#pipeline.create(path, request)
  }

  async delete(path: StreamPath): Promise<DeleteVerdict> {
    return await this.#pipeline.delete(path)
  }

  async #ofHandler(url: EntityUrl, append: AppendRequest, token: string | null): Promise<Omit<PipelineAppend, 'path'>> {
    const writer = writerOf(url, token)
    const schemas = (await this.#directory.schemas(url))?.state ?? null
    if (schemas !== null || append.close === true) await this.#refuseUnlessCurrent(writer) // before what else it is refused for
    if (append.close === true) throw errors.INVALID_REQUEST('The stream of an entity is closed by its server only') // R2
    const { refusal, events } = append.body.length > largeBytes ? await judgedInSlices(append.body, schemas) : judged(append.body, schemas)
    if (refusal !== null) throw refusal
    return { ...append, events, writer }
  }

  async #refuseUnlessCurrent(writer: Writer): Promise<void> {
    const path = mainStream(writer.to)
    const [statuses, tokens] = await Promise.all([statusesOf(this.#database, [writer.to]), writeTokenHashes(this.#database, [path])])
    const bar = barOf({ path, writer }, { statuses, tokens })
    if (bar !== null) throw bar
  }
}

interface Judged {
  /** Null for what is no JSON: the stream refuses it. */
  readonly refusal: AgentsError | null
  /** Those that rows may be drawn from. */
  readonly events: readonly unknown[]
}

function judged(body: Buffer, schemas: SchemaMap | null): Judged {
  const events = jsonItems(body) ?? []
  return { refusal: refuseEvents(schemas, events), events }
}

/** As `judged`, while others have their turns. */
async function judgedInSlices(body: Buffer, schemas: SchemaMap | null): Promise<Judged> {
  const gate = gateOf(schemas)
  const events: unknown[] = []
  let refusal: AgentsError | null = null
  for (const items of itemSlices(body)) {
    if (items === null) return { refusal: null, events: [] }
    refusal ??= gate(items)
    events.push(...items.filter(isProjected))
    await othersTurn()
  }
  return { refusal, events }
}

type Writer = NonNullable<PipelineAppend['writer']>

/** Who presents `token`. Throws where there is none. */
function writerOf(to: EntityUrl, token: string | null): Writer {
  if (token === null) throw errors.INVALID_WRITE_TOKEN()
  return { to, tokenHash: hashOfToken(token) }
}
