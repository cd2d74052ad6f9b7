/**
 * Attachments (spec/03 §10): bytes in a stream of their own, and a manifest row that says that they exist.
 *
 * T1  Only a manifest row makes an attachment: without one its stream is shown to nobody, however many bytes it has.
 * T2  A path belongs to one step at a time (its claim): storing, or removing. The claim ends in the transaction that writes the manifest row.
 * T3  Whoever lost the claim changes nothing any more; a claim past its deadline belongs to `sweep`, which removes the stream.
 * T4  At most `attachmentChunkBytes` of an attachment are in memory at once, on the way in and out.
 *
 * A crash before the manifest row leaves a claim, and maybe a stream that nobody sees; `sweep` removes both, and the id is free again.
 */
import { randomUUID } from 'node:crypto'
import type { Pipeline } from '../dispatch/pipeline.js'
import {
  type Attachment,
  type AttachmentDescription,
  attachmentAdded,
  attachmentIdIn,
  attachmentIn,
  attachmentKey,
  attachmentRemoved,
  attachmentStream,
  checkAttachmentId,
  checkSubjectKey,
  type FoundAttachment,
  storedContentType,
} from '../domain/attachments.js'
import { acceptsWrites, type Entity } from '../domain/entity.js'
import { errors } from '../domain/errors.js'
import { entryOf, iso, type StateEvent } from '../domain/events.js'
import { type EntityUrl, mainStream, type StreamPath, zeroOffset } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import type { Principal } from '../domain/principals.js'
import { type AttachmentClaim, claimAttachment, endClaim, prolongClaim } from '../registry/attachments.js'
import type { Database, Transaction } from '../registry/database.js'
import { isLockedForFork } from '../registry/fork-locks.js'
import { manifestRow } from '../registry/projections.js'
import { lockEntities } from '../registry/statuses.js'
import type { AppendVerdict, CreateVerdict, StreamStore } from '../streams/store.js'
import type { Directory } from './directory.js'

/** Bytes that wait somewhere to be stored. */
export interface AttachmentBytes {
  readonly byteLength: number
  /** Hexadecimal. */
  readonly sha256: string
  chunks(bytes: number): AsyncIterable<Buffer>
}

export interface AttachmentsParts {
  readonly database: Database
  readonly directory: Directory
  readonly streams: StreamStore
  readonly pipeline: Pipeline
  readonly limits: Limits
}

export interface OpenedAttachment extends FoundAttachment {
  readonly bytes: AsyncIterable<Buffer>
}

type Addressed = Pick<Entity, 'url' | 'type' | 'status'>

export class Attachments {
  readonly #parts: AttachmentsParts

  constructor(parts: AttachmentsParts) {
    this.#parts = parts
  }

  /** Rows 9–11 of spec/03 §10.1, as things stand now. */
  async refuse({ url }: Addressed, { id, subject }: Pick<AttachmentDescription, 'id' | 'subject'>): Promise<void> {
    refuseUnlessLive(await this.#parts.directory.entity(url))
    if (id !== undefined) checkAttachmentId(id)
    checkSubjectKey(subject.key)
  }

  /** Row 2 of spec/03 §10.1, before any of the body is read. */
  refuseUpload(entity: Addressed): void {
    if (entity.type === 'principal') throw errors.PRINCIPAL_REFUSES('given attachments')
  }

  /** Rows 9–13; the upload has been read as far as its limit. */
  async add(
    entity: Addressed,
    description: AttachmentDescription,
    file: AttachmentBytes,
    principal: Principal,
  ): Promise<{ readonly txid: string; readonly attachment: Attachment }> {
    const { limits } = this.#parts
    await this.refuse(entity, description) // anew: uploads take their time
    if (file.byteLength > limits.maxAttachmentBytes) throw errors.ATTACHMENT_TOO_LARGE(limits.maxAttachmentBytes)
    const { url } = entity
    const { id = randomUUID(), subject, role, mimeType, filename, meta } = description
    const path = attachmentStream(url, id)
    const claim = await this.#claimed(url, id, path)
    const attachment: Attachment = {
      key: attachmentKey(id),
      kind: 'attachment',
      id,
      streamPath: path,
      status: 'complete',
      subject,
      role,
      mimeType,
      ...(filename === undefined ? {} : { filename }),
      byteLength: file.byteLength,
      sha256: file.sha256,
      createdAt: iso(Date.now()),
      createdBy: principal.url,
      ...(meta === undefined ? {} : { meta }),
    }
    try {
      await this.#store(claim, id, storedContentType(mimeType), file)
      const txid = randomUUID()
      await this.#show(url, claim, attachmentAdded(attachment, txid))
      return { txid, attachment }
    } catch (failure) {
      await this.#giveUp(claim).catch(() => undefined) // T3: `sweep` does it
      throw failure
    }
  }

  /** spec/03 §10.2. `signal` ends the reading. */
  async open({ url }: Addressed, id: string, signal: AbortSignal): Promise<OpenedAttachment> {
    checkAttachmentId(id)
    const path = attachmentStream(url, id)
    const found = attachmentIn(await manifestRow(this.#parts.database, url, attachmentKey(id)))
    if (!found.isComplete) throw errors.ATTACHMENT_NOT_COMPLETE()
    if (found.streamPath !== path) throw errors.ATTACHMENT_MISPLACED()
    const pages = bytesOf(this.#parts.streams, path, signal)
    const first = await pages.next() // what cannot be read is refused before anything is answered
    return { ...found, bytes: exactly(found.byteLength, joined(first, pages)) }
  }

  /** What spec/03 §10.3 asks before it looks at the id. */
  refuseRemoval({ type, status }: Addressed): void {
    if (type === 'principal') throw errors.PRINCIPAL_REFUSES('stripped of attachments')
    if (!acceptsWrites(status)) throw errors.NOT_RUNNING()
  }

  /** spec/03 §10.3, from the id on. */
  async remove({ url }: Addressed, id: string): Promise<{ readonly txid: string }> {
    checkAttachmentId(id)
    const path = attachmentStream(url, id)
    const claim = { path, claimed_by: randomUUID() }
    const txid = randomUUID()
    await this.#parts.pipeline.together(async (tx) => {
      await lockLive(tx, url)
      if (await isLockedForFork(tx, url)) throw errors.FORK_IN_PROGRESS()
      const found = attachmentIn(await manifestRow(tx, url, attachmentKey(id)))
      if (found.streamPath !== path) throw errors.ATTACHMENT_MISPLACED()
      // Claimed: another removal is under way, whose manifest row is still on its way to a foreign stream server.
      if (!(await claimAttachment(tx, claim, this.#parts.limits.attachmentClaimMs))) throw errors.ATTACHMENT_NOT_FOUND()
      return { result: undefined, appends: [manifestAppend(url, attachmentRemoved(id, Date.now(), txid))] }
    })
    await this.#giveUp(claim).catch(() => undefined) // T3: `sweep` does it
    return { txid }
  }

  /** T1, for those who come through the stream protocol. */
  async isShown(url: EntityUrl, path: string): Promise<boolean> {
    const id = attachmentIdIn(url, path)
    if (id === null || id.includes('\0')) return false
    const row = await manifestRow(this.#parts.database, url, attachmentKey(id))
    try {
      const { isComplete, streamPath } = attachmentIn(row)
      return isComplete && streamPath === path
    } catch {
      return false
    }
  }

  /** Row 13, as far as rows can tell; the stream server has the last word. */
  async #claimed(url: EntityUrl, id: string, path: StreamPath): Promise<AttachmentClaim> {
    const { database, limits } = this.#parts
    const claim = { path, claimed_by: randomUUID() }
    if (!(await claimAttachment(database, claim, limits.attachmentClaimMs))) throw errors.ATTACHMENT_EXISTS(id)
    if ((await manifestRow(database, url, attachmentKey(id))) === null) return claim
    await endClaim(database, claim)
    throw errors.ATTACHMENT_EXISTS(id)
  }

  /**
   * The first chunk comes with the stream: a repeated create, whose answer was lost, is recognised by it. Where a create is one step of ours, a file of
   * one chunk is closed with it.
   */
  async #store(claim: AttachmentClaim, id: string, contentType: string, file: AttachmentBytes): Promise<void> {
    const { database, streams, limits } = this.#parts
    const { path, claimed_by } = claim
    const chunks = file.chunks(limits.attachmentChunkBytes)[Symbol.asyncIterator]()
    const first = await chunks.next()
    const isWhole = streams.transactional !== undefined && first.done !== true && first.value.length === file.byteLength
    const created = await streams.create(path, {
      contentType,
      operation: claimed_by,
      ...(first.done === true ? {} : { body: first.value, closed: isWhole }),
    })
    refuseTooLarge(created)
    if (!isOurs(created, file)) {
      await endClaim(database, claim) // before `giveUp` could remove what is not ours
      throw errors.ATTACHMENT_EXISTS(id)
    }
    if (isWhole) return
    let seq = 0
    const append = async (request: { readonly body: Buffer; readonly close?: boolean }): Promise<void> => {
      if (!(await prolongClaim(database, claim, limits.attachmentClaimMs))) throw errors.OPERATION_UNFINISHED().retryAfter(1) // T3
      refuseUnlessTaken(await streams.append(path, { contentType, ...request, producer: { id: claimed_by, epoch: 0, seq } }))
      seq += 1
    }
    for (let chunk = await chunks.next(); chunk.done !== true; chunk = await chunks.next()) await append({ body: chunk.value })
    await append({ body: Buffer.alloc(0), close: true })
  }

  /** T2. */
  async #show(url: EntityUrl, claim: AttachmentClaim, event: StateEvent): Promise<void> {
    await this.#parts.pipeline.together(async (tx) => {
      await lockLive(tx, url)
      if (!(await endClaim(tx, claim))) throw errors.OPERATION_UNFINISHED().retryAfter(1)
      return { result: undefined, appends: [manifestAppend(url, event)] }
    })
  }

  /** Removes the stream while the claim on it holds: a claim that has ended means that the attachment is shown, or somebody else's. */
  async #giveUp(claim: AttachmentClaim): Promise<void> {
    const { database, streams, limits } = this.#parts
    if (!(await prolongClaim(database, claim, limits.attachmentClaimMs))) return
    await streams.delete(claim.path)
    await endClaim(database, claim)
  }
}

function refuseUnlessLive(entity: Pick<Entity, 'status'> | null | undefined): void {
  if (entity === null || entity === undefined) throw errors.ENTITY_GONE()
  if (!acceptsWrites(entity.status)) throw errors.NOT_RUNNING()
}

/** Row 9 again, where nobody can change it before the manifest row is there. */
async function lockLive(tx: Transaction, url: EntityUrl): Promise<void> {
  refuseUnlessLive((await lockEntities(tx, [url])).get(url))
}

const manifestAppend = (url: EntityUrl, event: StateEvent) => ({
  path: mainStream(url),
  contentType: 'application/json',
  body: entryOf([event]),
})

/** An empty stream at a claimed path is as good as a new one for a file without bytes: nobody shows or writes it. */
const isOurs = (verdict: CreateVerdict, { byteLength }: AttachmentBytes): boolean =>
  verdict.outcome === 'created' ||
  (verdict.outcome === 'exists' && byteLength === 0 && verdict.head.tail === zeroOffset && !verdict.head.closed)

function refuseTooLarge(verdict: CreateVerdict | AppendVerdict): void {
  if (verdict.outcome === 'refused' && verdict.because === 'size') throw errors.STREAM_ENTRY_TOO_LARGE()
}

/** Nobody else writes to a claimed path: a refusal is trouble with the stream server, or the loss of the claim. */
function refuseUnlessTaken(verdict: AppendVerdict): void {
  refuseTooLarge(verdict)
  if (verdict.outcome === 'refused') throw errors.OPERATION_UNFINISHED().retryAfter(1)
}

/** The bytes of a stream, page by page (T4). Throws where the stream is not there. */
async function* bytesOf(streams: StreamStore, path: StreamPath, signal: AbortSignal): AsyncGenerator<Buffer, void> {
  for (let offset = '-1'; ; ) {
    const { status, headers, body } = await streams.serveRead({ path, query: { offset }, offsetsGiven: 1, signal })
    if (status !== 200) throw status === 404 || status === 410 ? errors.ATTACHMENT_NOT_FOUND() : errors.STREAM_SERVICE_UNAVAILABLE()
    if (body instanceof Buffer) yield body
    else if (body !== null) yield* body as AsyncIterable<Buffer>
    const next = headers['stream-next-offset']
    if (headers['stream-up-to-date'] === 'true' || headers['stream-closed'] === 'true' || next === undefined) return
    offset = next
  }
}

async function* joined(first: IteratorResult<Buffer, void>, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  if (first.done === true) return
  yield first.value
  yield* rest
}

/** A manifest row that lies about the length must not make an answer that ends too early, or runs into the next one. */
async function* exactly(byteLength: number | undefined, bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  let left = byteLength ?? Number.POSITIVE_INFINITY
  for await (const chunk of bytes) {
    left -= chunk.length
    if (left < 0) throw new Error('an attachment is longer than its manifest row says')
    yield chunk
  }
  if (left > 0 && byteLength !== undefined) throw new Error('an attachment is shorter than its manifest row says')
}
