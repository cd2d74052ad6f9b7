/**
 * The multipart form of an upload (spec/03 §10.1, rows 4 and 5).
 *
 * M1  The file goes to a spool as it comes; of the fields at most `maxFormFields` × `maxFormFieldBytes` are held.
 * M2  At most the limit of an attachment, one byte and the form's own share are read: what comes after is refused, not stored.
 * M3  However the reading ends, the spool is closed by whoever got the form, or closed already where nobody did.
 */
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Busboy, type BusboyFileStream } from '@fastify/busboy'
import type { AttachmentFields } from '../../domain/attachments.js'
import { errors } from '../../domain/errors.js'
import type { Limits } from '../../domain/limits.js'
import { Spool } from './spool.js'

const maxPartHeaders = 64
const maxFieldNameBytes = 256

export type FormLimits = Pick<Limits, 'maxAttachmentBytes' | 'maxFormFields' | 'maxFormFieldBytes' | 'maxFormBytes'>

const fieldNames = ['id', 'subject', 'subjectType', 'subjectKey', 'role', 'filename', 'mimeType', 'meta'] as const

export interface UploadForm {
  readonly fields: AttachmentFields
  readonly file: { readonly name?: string; readonly mimeType?: string }
  readonly spool: Spool
}

interface SentFile {
  readonly name?: string
  readonly mimeType?: string
  readonly spool: Spool
}

/** `whenTooLong` may refuse for a reason that comes before the length; it is told the fields that had come by then. */
export async function readForm(
  body: Readable,
  contentType: string,
  limits: FormLimits,
  whenTooLong: (fields: AttachmentFields) => Promise<void>,
): Promise<UploadForm> {
  const fields = new Map<string, string>()
  const files: Promise<SentFile>[] = []
  const streams: BusboyFileStream[] = []
  const parser = parserOf(contentType, limits)
  const typeOf = typesOfParts(parser)
  parser.on('field', (name, value, isNameCut, isValueCut) => {
    if (isNameCut || isValueCut) parser.destroy(new Error('a field is too long'))
    else if (value.trim() !== '') fields.set(name, value.trim())
  })
  parser.on('file', (name, stream, filename) => {
    stream.on('error', () => undefined) // a broken form is told by the parser
    streams.push(stream)
    if (name !== 'file' || files.length > 0) {
      stream.resume()
      return
    }
    const file = spooled(stream, filename, typeOf())
    file.catch(() => undefined) // awaited when the form has ended
    files.push(file)
  })
  for (const limit of ['partsLimit', 'filesLimit', 'fieldsLimit'] as const)
    parser.on(limit, () => parser.destroy(new Error('the form has too many parts')))
  try {
    // Whoever is refused in the middle still gets the answer: the request is not destroyed with the parser.
    await pipeline(bounded(body.iterator({ destroyOnReturn: false }), limits.maxAttachmentBytes + limits.maxFormBytes), parser)
    const file = await files[0]
    if (file === undefined) throw errors.INVALID_REQUEST('Missing file field')
    const { spool, ...described } = file
    return { fields: known(fields), file: described, spool }
  } catch (failure) {
    for (const stream of streams) stream.destroy(new Error('the form is broken')) // M3: the parser leaves them open
    for (const file of files)
      await file.then(
        ({ spool }) => spool.close(),
        () => undefined,
      )
    if (failure instanceof TooLong) {
      await whenTooLong(known(fields))
      throw errors.ATTACHMENT_TOO_LARGE(limits.maxAttachmentBytes)
    }
    throw failure instanceof Error && 'refusal' in failure ? failure : errors.INVALID_REQUEST('Invalid multipart form data')
  }
}

class TooLong extends Error {}

function parserOf(contentType: string, limits: FormLimits): InstanceType<typeof Busboy> {
  try {
    return new Busboy({
      headers: { 'content-type': contentType },
      preservePath: true,
      limits: {
        fields: limits.maxFormFields,
        fieldSize: limits.maxFormFieldBytes,
        fieldNameSize: maxFieldNameBytes,
        parts: limits.maxFormFields + 8,
        headerPairs: maxPartHeaders,
        fileSize: limits.maxAttachmentBytes + 1,
      },
    })
  } catch {
    throw errors.INVALID_REQUEST('Invalid multipart form data') // no boundary
  }
}

interface Part {
  once(event: 'header', then: (headers: Readonly<Record<string, readonly string[]>>) => void): void
}

/** The type of the part that comes, as it was sent: the parser drops its parameters, and invents one for a part that has none. */
function typesOfParts(parser: InstanceType<typeof Busboy>): () => string | undefined {
  let sent: string | undefined
  const inner = parser as unknown as { readonly _parser: { readonly parser: NodeJS.EventEmitter } } // not among its types
  inner._parser.parser.prependListener('part', (part: Part) =>
    part.once('header', (headers) => {
      sent = headers['content-type']?.[0]?.trim()
    }),
  )
  return () => sent
}

/** M2. */
async function* bounded(chunks: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new TooLong()
    yield chunk
  }
}

/** What lies beyond the limit is cut off by the parser; one byte more than allowed tells that there was more. */
async function spooled(stream: BusboyFileStream, name: string | undefined, mimeType: string | undefined): Promise<SentFile> {
  const spool = new Spool()
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) await spool.write(chunk)
    return { spool, ...(name ? { name } : {}), ...(mimeType ? { mimeType } : {}) }
  } catch (failure) {
    await spool.close()
    throw failure
  }
}

const known = (fields: ReadonlyMap<string, string>): AttachmentFields =>
  Object.fromEntries(fieldNames.flatMap((name) => (fields.has(name) ? [[name, fields.get(name)]] : [])))
