/** `POST /_electric/entities/:type/:instanceId/attachments`, and `GET`, `DELETE` of one: spec/03 §10. Bytes pass through, in no buffer of ours. */
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { type AttachmentFields, attachmentRoles, describeAttachment, subjectTypes } from '../../domain/attachments.js'
import { errors } from '../../domain/errors.js'
import type { OpenedAttachment } from '../../entities/attachments.js'
import { authorize } from '../../entities/authorize.js'
import { eventTxid } from '../answers.js'
import { entityErrors, type RouteDocumentation } from '../documentation.js'
import { type AtEntity, addressedEntity, type EntityAddress } from '../entities/addressed.js'
import type { Parts } from '../parts.js'
import { decodedParam } from '../urls.js'
import { readForm } from './form.js'

interface AtAttachment {
  readonly Params: EntityAddress & { readonly attachmentId: string }
}

const attachment = z
  .object({
    key: z.string(),
    kind: z.literal('attachment'),
    id: z.string(),
    streamPath: z.string(),
    status: z.literal('complete'),
    subject: z.object({ type: z.enum(subjectTypes), key: z.string() }),
    role: z.enum(attachmentRoles),
    mimeType: z.string(),
    filename: z.string().optional(),
    byteLength: z.int(),
    sha256: z.string(),
    createdAt: z.string(),
    createdBy: z.string(),
    meta: z.record(z.string(), z.unknown()).optional(),
  })
  .meta({ id: 'Attachment' })

const uploadForm = z.object({
  file: z.string().meta({ format: 'binary' }),
  id: z.string().optional().describe('Default: a UUID'),
  subject: z.string().optional().describe('JSON: `{"type","key"}`'),
  subjectType: z.enum(subjectTypes).optional().describe('With `subjectKey`, instead of `subject`'),
  subjectKey: z.string().optional(),
  role: z.enum(attachmentRoles).optional().describe('Default: `input`'),
  filename: z.string().optional().describe('At most 1,024 bytes. Default: the name of the file part'),
  mimeType: z.string().optional().describe('At most 255 characters. Default: the type of the file part'),
  meta: z.string().optional().describe('A JSON object'),
})

const documentation = {
  upload: {
    operation: 'addAttachment',
    tag: 'attachments',
    summary: 'Uploads a file',
    body: { schema: uploadForm, contentType: 'multipart/form-data' },
    answers: { 201: { description: 'It is there, bytes and manifest row.', schema: z.object({ txid: z.string(), attachment }) } },
    errors: [
      ...entityErrors,
      'PRINCIPAL_REFUSES',
      'INVALID_REQUEST',
      'NOT_RUNNING',
      'ATTACHMENT_TOO_LARGE',
      'ATTACHMENT_EXISTS',
      'OPERATION_UNFINISHED',
    ],
  },
  download: {
    operation: 'readAttachment',
    tag: 'attachments',
    summary: 'The bytes of an attachment',
    answers: { 200: { description: 'The bytes, in its own content type.', schema: z.string(), contentType: '*/*' } },
    errors: [...entityErrors, 'INVALID_REQUEST', 'ATTACHMENT_NOT_FOUND', 'ATTACHMENT_NOT_COMPLETE', 'ATTACHMENT_MISPLACED'],
  },
  remove: {
    operation: 'deleteAttachment',
    tag: 'attachments',
    summary: 'Removes an attachment',
    answers: { 200: { description: 'The event is on the stream.', schema: eventTxid } },
    errors: [
      ...entityErrors,
      'PRINCIPAL_REFUSES',
      'NOT_RUNNING',
      'INVALID_REQUEST',
      'ATTACHMENT_NOT_FOUND',
      'ATTACHMENT_MISPLACED',
      'FORK_IN_PROGRESS',
    ],
  },
} as const satisfies Record<string, RouteDocumentation>

const attachments = '/_electric/entities/:type/:instanceId/attachments'

/** Registers on a scope of its own: bodies are streams here. */
export function attachmentRoutes(app: FastifyInstance, parts: Parts): void {
  const sentTypes = new WeakMap<FastifyRequest, string>()
  let uploads = 0
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request: FastifyRequest, body: Readable, done: (failure: null, body: Readable) => void) =>
    done(null, body),
  )
  app.addHook('onRequest', async (request) => {
    sentTypes.set(request, request.raw.headers['content-type'] ?? '')
    if (request.raw.headers['content-type'] !== undefined) request.raw.headers['content-type'] = 'application/octet-stream' // ours to judge
  })

  app.post<AtEntity>(attachments, { config: { documentation: documentation.upload } }, async (request, reply) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    await authorize(request.principal, 'write', entity) // 401
    parts.attachments.refuseUpload(entity) // 400
    const contentType = sentTypes.get(request) ?? ''
    if (!contentType.toLowerCase().includes('multipart/form-data'))
      throw errors.INVALID_REQUEST('Attachment uploads must use multipart/form-data')
    if (uploads >= parts.limits.maxSpooledUploads) throw errors.OVERLOADED('uploads').retryAfter(1)
    uploads += 1
    try {
      const { fields, file, spool } = await readForm(
        bodyOf(request),
        contentType,
        parts.limits,
        async (sent) => await parts.attachments.refuse(entity, describeAttachment({ ...yetToCome, ...sent }, {}, parts.limits)),
      ) // 400, 404, 409, 413
      try {
        const described = describeAttachment(fields, file, parts.limits) // 400
        return await reply.code(201).send(await parts.attachments.add(entity, described, spool.bytes(), request.principal)) // 404, 409, 400, 413
      } finally {
        await spool.close()
      }
    } finally {
      uploads -= 1
    }
  })

  app.get<AtAttachment>(`${attachments}/:attachmentId`, { config: { documentation: documentation.download } }, async (request, reply) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    await authorize(request.principal, 'read', entity) // 401
    const id = decodedParam(request.params.attachmentId) // 400
    const left = new AbortController()
    reply.raw.once('close', () => left.abort())
    const opened = await parts.attachments.open(entity, id, left.signal) // 400, 404, 409
    return await downloaded(reply, opened, request.method === 'HEAD')
  })

  app.delete<AtAttachment>(`${attachments}/:attachmentId`, { config: { documentation: documentation.remove } }, async (request) => {
    const entity = await addressedEntity(parts, request.principal, request.params) // 404
    await authorize(request.principal, 'write', entity) // 401
    parts.attachments.refuseRemoval(entity) // 400, 409
    const id = decodedParam(request.params.attachmentId) // 400
    return await parts.attachments.remove(entity, id) // 400, 409, 404
  })
}

/** Of a form that was cut off: what is required may have stood behind the file. */
const yetToCome = { subjectType: 'inbox', subjectKey: 'unknown' } as const satisfies AttachmentFields

/** A request without a body ends at once. */
const bodyOf = (request: FastifyRequest): Readable => (request.body instanceof Readable ? request.body : Readable.from([]))

async function downloaded(
  reply: FastifyReply,
  { mimeType, filename, byteLength, bytes }: OpenedAttachment,
  headOnly: boolean,
): Promise<FastifyReply> {
  reply.headers({
    'content-type': headerSafe(mimeType),
    'cache-control': 'private, max-age=31536000, immutable',
    ...(byteLength === undefined ? {} : { 'content-length': byteLength }),
    ...(filename === undefined ? {} : { 'content-disposition': disposition(filename) }),
  })
  if (headOnly) return await reply.send(Readable.from([])) // of nothing Fastify would say that it has no length
  return await reply.send(Readable.from(bytes, { objectMode: false, highWaterMark: 1 })) // one chunk ahead of the client at most
}

/** A type that cannot stand in a header is served as bytes. */
const headerSafe = (mimeType: string): string => (/^[\x21-\x7e][\x20-\x7e]*$/.test(mimeType) ? mimeType : 'application/octet-stream')

/** spec/03 §10.2, to the letter. */
function disposition(filename: string): string {
  const ascii = filename.replace(/[^\x20-\x7e]|["\\]/g, '_')
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encodeURIComponent(filename.toWellFormed())}`
}
