/** The Durable Streams protocol (spec/14 §2) in OpenAPI, by hand: it speaks in headers and bytes, not in JSON bodies. */
import type { JsonNode } from '../openapi.js'

type Members = Record<string, JsonNode>

const header = (description: string): Members => ({ description, schema: { type: 'string' } })
const requestHeader = (name: string, description: string): Members => ({ name, in: 'header', ...header(description) })
const query = (name: string, description: string): Members => ({ name, in: 'query', ...header(description) })
const named = (...names: (keyof typeof headers)[]): Members =>
  Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]))

const headers = {
  'Stream-Next-Offset': header('The end of what this answer shows; where the next read begins.'),
  'Stream-Closed': header('`true`: nothing will be appended any more.'),
  'Stream-Up-To-Date': header('`true`: the answer ends at the tail.'),
  'Stream-Cursor': header('To be sent back as `cursor` of the next long-poll.'),
  'Stream-TTL': header('Sliding expiry, in seconds.'),
  'Stream-Expires-At': header('Absolute expiry, RFC 3339.'),
  'Producer-Epoch': header('The epoch that the server has for this producer.'),
  'Producer-Seq': header('The highest sequence number that it took.'),
  ETag: header('Of this range.'),
  Location: header('Absolute URL of the stream.'),
}

/** What the document's components need besides schemas. */
export const streamComponents: Members = {
  headers,
  responses: {
    StreamRefusal: {
      description: 'Refused by the stream protocol; the reason in words.',
      content: { 'text/plain': { schema: { type: 'string' } } },
    },
    AccessRefusal: {
      description: 'Refused by the house.',
      content: { 'application/json': { schema: { $ref: '#/components/schemas/Refusal' } } },
    },
  },
}

const bytes: Members = { '*/*': { schema: { description: 'In the content type of the stream.' } } }
const refusals = (...statuses: number[]): Members => ({
  ...Object.fromEntries(statuses.map((status) => [status, { $ref: '#/components/responses/StreamRefusal' }])),
  401: { $ref: '#/components/responses/AccessRefusal' },
  503: { $ref: '#/components/responses/AccessRefusal' },
})

const closing = requestHeader('Stream-Closed', '`true`: closes the stream with this request.')

/** `kind` is part of the operation ids, which must be unique. */
function streamItem(kind: 'Stream' | 'SharedState', parameter: Members): Members {
  return {
    parameters: [parameter],
    put: {
      operationId: `create${kind}`,
      tags: ['streams'],
      summary: 'Creates the stream, with the body as its first entry; or forks another one',
      parameters: [
        requestHeader('Stream-TTL', 'Sliding expiry, in seconds.'),
        requestHeader('Stream-Expires-At', 'Absolute expiry, RFC 3339.'),
        closing,
        requestHeader('Stream-Forked-From', 'Path of the stream to fork.'),
        requestHeader('Stream-Fork-Offset', 'Where the fork begins; default: the tail.'),
        requestHeader('Stream-Fork-Sub-Offset', 'Items of the entry at that offset that the fork keeps.'),
      ],
      requestBody: { content: bytes },
      responses: {
        200: { description: 'It exists, with the same configuration.', headers: named('Stream-Next-Offset', 'Stream-Closed') },
        201: { description: 'Created.', headers: named('Location', 'Stream-Next-Offset', 'Stream-Closed') },
        ...refusals(400, 404, 409, 413),
      },
    },
    post: {
      operationId: `appendTo${kind}`,
      tags: ['streams'],
      summary: 'Appends one entry, or closes the stream, or both',
      parameters: [
        closing,
        requestHeader('Stream-Seq', 'Refused unless it is greater than the last one, as text.'),
        requestHeader('Producer-Id', 'With epoch and sequence number: repeating the request is harmless.'),
        requestHeader('Producer-Epoch', 'Fences former lives of the producer.'),
        requestHeader('Producer-Seq', 'Starts at 0, rises by one.'),
      ],
      requestBody: { content: bytes },
      responses: {
        200: {
          description: 'Appended for a producer.',
          headers: named('Stream-Next-Offset', 'Stream-Closed', 'Producer-Epoch', 'Producer-Seq'),
        },
        204: {
          description: 'Appended or closed; to a producer it says that this was a repetition.',
          headers: named('Stream-Next-Offset', 'Stream-Closed', 'Producer-Epoch', 'Producer-Seq'),
        },
        ...refusals(400, 403, 404, 409, 410, 413),
      },
    },
    get: {
      operationId: `read${kind}`,
      tags: ['streams'],
      summary: 'Reads what comes after an offset, now or as it is appended',
      parameters: [
        query('offset', '`-1`: from the beginning; `now`: from the tail; else one that the server gave.'),
        query('live', '`long-poll` or `sse`.'),
        query('cursor', 'The last `Stream-Cursor`.'),
        requestHeader('If-None-Match', 'The `ETag` of the same range.'),
      ],
      responses: {
        200: {
          description: 'The entries; a JSON array where the stream is `application/json`; events where `live=sse`.',
          headers: named('Stream-Next-Offset', 'Stream-Up-To-Date', 'Stream-Closed', 'Stream-Cursor', 'ETag'),
          content: { ...bytes, 'text/event-stream': { schema: { type: 'string' } } },
        },
        204: {
          description: 'A long-poll ended without news.',
          headers: named('Stream-Next-Offset', 'Stream-Up-To-Date', 'Stream-Closed', 'Stream-Cursor'),
        },
        304: { description: 'Nothing changed in this range.' },
        ...refusals(400, 404, 410),
      },
    },
    head: {
      operationId: `describe${kind}`,
      tags: ['streams'],
      summary: 'Content type, tail and expiry of the stream',
      responses: {
        200: {
          description: 'It exists.',
          headers: named('Stream-Next-Offset', 'Stream-Closed', 'Stream-TTL', 'Stream-Expires-At', 'ETag'),
        },
        404: { description: 'No such stream.' },
        410: { description: 'Deleted; forks still read it.' },
      },
    },
    delete: {
      operationId: `delete${kind}`,
      tags: ['streams'],
      summary: 'Deletes the stream',
      responses: { 204: { description: 'Deleted.' }, ...refusals(404, 410) },
    },
    patch: {
      operationId: `patch${kind}`,
      tags: ['streams'],
      summary: 'Not part of the protocol',
      responses: { 405: { $ref: '#/components/responses/StreamRefusal' } },
    },
  }
}

export const streamPaths: Readonly<Record<string, Members>> = {
  '/_electric/shared-state/{id}': streamItem('SharedState', { name: 'id', in: 'path', required: true, schema: { type: 'string' } }),
  '/{path}': streamItem('Stream', {
    name: 'path',
    in: 'path',
    required: true,
    description: 'Any path that no other route has; may contain slashes. An entity’s events are at `{type}/{id}/main`.',
    schema: { type: 'string' },
  }),
}
