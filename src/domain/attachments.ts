/** Attachments: what a valid one is, and the manifest rows that say that it exists (spec/03 §10, spec/01 §8). Pure. */

import type { Json, JsonObject } from './entity.js'
import { errors } from './errors.js'
import { iso, type StateEvent } from './events.js'
import type { EntityUrl, PrincipalUrl, StreamPath } from './ids.js'
import { isObject, refuseShape } from './json-shape.js'
import type { Limits } from './limits.js'

export const attachmentRoles = ['input', 'output'] as const
export type AttachmentRole = (typeof attachmentRoles)[number]

export const subjectTypes = ['inbox', 'run', 'text', 'tool_call', 'context'] as const
export interface AttachmentSubject {
  readonly type: (typeof subjectTypes)[number]
  readonly key: string
}

/** What the uploader says, checked for its form (rows 6–8 of spec/03 §10.1). */
export interface AttachmentDescription {
  /** Absent: one is made. */
  readonly id?: string
  readonly subject: AttachmentSubject
  readonly role: AttachmentRole
  readonly mimeType: string
  readonly filename?: string
  readonly meta?: JsonObject
}

/** The manifest row. */
export interface Attachment extends Omit<AttachmentDescription, 'id'> {
  readonly key: string
  readonly kind: 'attachment'
  readonly id: string
  readonly streamPath: StreamPath
  readonly status: 'complete'
  readonly byteLength: number
  readonly sha256: string
  readonly createdAt: string
  readonly createdBy: PrincipalUrl
}

/** Bytes of UTF-8: an id stands in a path and in an index. */
const maxIdBytes = 400
const maxSubjectKeyBytes = 1_000
/** Both stand in headers of a download, the name twice and escaped: clients take 16 KiB of headers. */
const maxFilenameBytes = 1_024
const maxTypeLength = 255

/** Row 10 of spec/03 §10.1; ids that no path or row can hold are refused like those that none may have. */
export function checkAttachmentId(id: string): void {
  const isPlain = id !== '' && !id.startsWith('.') && !id.includes('/')
  if (!isPlain) throw errors.INVALID_REQUEST('attachment id must not be empty, start with ".", or contain forward slashes')
  if (Buffer.byteLength(id) > maxIdBytes || id.includes('\0') || !id.isWellFormed())
    throw errors.INVALID_REQUEST(`attachment id must be at most ${maxIdBytes} bytes, without U+0000`)
}

/** Row 11. */
export function checkSubjectKey(key: string): void {
  if (key === '') throw errors.INVALID_REQUEST('attachment subject key is required')
  if (Buffer.byteLength(key) > maxSubjectKeyBytes || !key.isWellFormed())
    throw errors.INVALID_REQUEST(`attachment subject key must be at most ${maxSubjectKeyBytes} bytes`)
}

/** The text fields of an upload; blank ones are absent. */
export type AttachmentFields = Readonly<
  Partial<Record<'id' | 'subject' | 'subjectType' | 'subjectKey' | 'role' | 'filename' | 'mimeType' | 'meta', string>>
>

/** Rows 6–8 of spec/03 §10.1, in their order, and then what no header of a download can hold. */
export function describeAttachment(
  fields: AttachmentFields,
  file: { readonly name?: string; readonly mimeType?: string },
  { maxJsonDepth }: Pick<Limits, 'maxJsonDepth'>,
): AttachmentDescription {
  const role = attachmentRoles.find((known) => known === (fields.role ?? 'input'))
  if (role === undefined) throw errors.INVALID_REQUEST('invalid attachment role')
  const meta = metaOf(fields.meta, maxJsonDepth)
  const subject = subjectOf(fields, maxJsonDepth)
  const filename = fields.filename ?? file.name
  const mimeType = fields.mimeType ?? file.mimeType ?? 'application/octet-stream'
  refuseHeaders(filename, mimeType)
  return {
    ...(fields.id === undefined ? {} : { id: fields.id }),
    subject,
    role,
    mimeType,
    ...(filename === undefined ? {} : { filename }),
    ...(meta === undefined ? {} : { meta }),
  }
}

function refuseHeaders(filename: string | undefined, mimeType: string): void {
  if (filename !== undefined && Buffer.byteLength(filename) > maxFilenameBytes)
    throw errors.INVALID_REQUEST(`attachment filename must be at most ${maxFilenameBytes} bytes`)
  if (mimeType.length > maxTypeLength) throw errors.INVALID_REQUEST(`attachment mimeType must be at most ${maxTypeLength} characters`)
}

function metaOf(text: string | undefined, maxDepth: number): JsonObject | undefined {
  if (text === undefined) return undefined
  const meta = parsed(text, 'meta', maxDepth)
  if (meta === null) return undefined
  if (!isObject(meta)) throw errors.INVALID_REQUEST('attachment meta must be an object')
  return meta
}

function subjectOf(fields: AttachmentFields, maxDepth: number): AttachmentSubject {
  const { type, key } = fields.subject === undefined ? pairOf(fields) : membersOf(parsed(fields.subject, 'subject', maxDepth))
  const known = subjectTypes.find((one) => one === type)
  if (known === undefined) throw errors.INVALID_REQUEST('invalid attachment subject type')
  return { type: known, key }
}

function pairOf({ subjectType, subjectKey }: AttachmentFields): { readonly type: string; readonly key: string } {
  if (subjectType === undefined || subjectKey === undefined) throw errors.INVALID_REQUEST('attachment subject is required')
  return { type: subjectType, key: subjectKey }
}

function membersOf(subject: Json): { readonly type: string; readonly key: string } {
  if (!isObject(subject)) throw errors.INVALID_REQUEST('attachment subject must be an object')
  const { type, key } = subject
  if (typeof type !== 'string' || typeof key !== 'string') throw errors.INVALID_REQUEST('attachment subject requires type and key')
  return { type, key }
}

function parsed(text: string, field: string, maxDepth: number): Json {
  const value = parsedJson(text, field)
  const refusal = refuseShape(value, { maxDepth, storable: false })
  if (refusal !== null) throw refusal
  return value
}

function parsedJson(text: string, field: string): Json {
  try {
    return JSON.parse(text) as Json // what else would it be
  } catch {
    throw errors.INVALID_REQUEST(`Invalid JSON field: ${field}`)
  }
}

export const attachmentKey = (id: string): string => `attachment:${id}`

/** The canonical path of an attachment's stream. */
export const attachmentStream = (url: EntityUrl, id: string): StreamPath => `${url}/attachments/${encodeURIComponent(id)}` as StreamPath

/** The id that the path of an attachment's stream names; null where it is not the canonical path of one. */
export function attachmentIdIn(url: EntityUrl, path: string): string | null {
  try {
    const id = decodeURIComponent(path.slice(`${url}/attachments/`.length))
    return attachmentStream(url, id) === path ? id : null
  } catch {
    return null
  }
}

/** What the stream server is told: its JSON mode would rewrite the bytes, and it takes no type that is not `word/word` (spec/03 §10.1). */
export function storedContentType(mimeType: string): string {
  const type = mimeType.split(';', 1)[0]?.trim().toLowerCase() ?? ''
  return /^[\w.+-]+\/[\w.+-]+$/.test(type) && type !== 'application/json' ? type : 'application/octet-stream'
}

export const attachmentAdded = (attachment: Attachment, txid: string): StateEvent => ({
  type: 'manifest',
  key: attachment.key,
  headers: { operation: 'upsert', timestamp: attachment.createdAt, txid },
  value: attachment as unknown as JsonObject, // interfaces have no index signature
})

export const attachmentRemoved = (id: string, atMs: number, txid: string): StateEvent => ({
  type: 'manifest',
  key: attachmentKey(id),
  headers: { operation: 'delete', timestamp: iso(atMs), txid },
})

/** A manifest row as it was found. */
export interface FoundAttachment {
  readonly isComplete: boolean
  readonly streamPath: Json | undefined
  readonly mimeType: string
  readonly filename?: string
  readonly byteLength?: number
}

/** The attachment that a manifest row tells of. Runtimes write manifest rows too: none of its members is believed unread. */
export function attachmentIn(row: string | null): FoundAttachment {
  const value = row === null ? null : (JSON.parse(row) as Json) // written by the projection
  if (value === null || !isObject(value) || value.kind !== 'attachment') throw errors.ATTACHMENT_NOT_FOUND()
  const { status, streamPath, mimeType, filename, byteLength } = value
  return {
    isComplete: status === 'complete',
    streamPath,
    mimeType: typeof mimeType === 'string' ? mimeType : 'application/octet-stream',
    ...(typeof filename === 'string' ? { filename } : {}),
    ...(Number.isSafeInteger(byteLength) && Number(byteLength) >= 0 ? { byteLength: Number(byteLength) } : {}),
  }
}
