/**
 * JSON bodies (spec/02 §1.2). A body is described once, in zod; Ajv checks it, because clients know Ajv's texts.
 *
 *   const renameBody = body(z.looseObject({ title: z.string() }))
 *   … const { title } = renameBody(request)   // 400 here, so a route shows where it stands among its checks
 */
import { isUtf8 } from 'node:buffer'
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { errors, type Violation } from '../domain/errors.js'
import { refuseShape } from '../domain/json-shape.js'
import type { Limits } from '../domain/limits.js'

declare module 'fastify' {
  interface FastifyInstance {
    limits: Limits
  }
}

/** Beyond this a refusal names the first violation only: collecting all of a hostile body would cost more memory than the body. */
const maxBytesForAllViolations = 256 * 1024

/** The schemas are ours: checking them against the metaschema at each start would cost more than all else here. */
const ours = { strict: false, validateFormats: false, validateSchema: false, meta: false } as const
const failingFast = new Ajv(ours)
const collecting = new Ajv({ ...ours, allErrors: true })

/** Reads a body; `schema` is what it is checked against, for the OpenAPI document. */
export type Body<Schema extends z.ZodType> = ((request: FastifyRequest) => z.output<Schema>) & { readonly schema: Schema }

export interface BodyOptions {
  /** The body goes into database rows, which cannot hold U+0000 nor lone surrogates: such a body is refused. */
  readonly intoRows?: boolean
}

/** Reads the request's body as `schema` describes it; refuses with 400. Members that an open schema does not name stay. */
export function body<Schema extends z.ZodType>(schema: Schema, options: BodyOptions = {}): Body<Schema> {
  const checked = checkedAs(schema)
  const read = (request: FastifyRequest): z.output<Schema> => {
    const bytes = request.body instanceof Buffer ? request.body : Buffer.alloc(0)
    return checked(parseJson(bytes, request.server.limits.maxJsonDepth, options.intoRows ?? false), bytes.length)
  }
  return Object.assign(read, { schema })
}

/** Takes a JSON document that came another way for the body that `schema` describes; refuses with 400. */
export function document<Schema extends z.ZodType>(
  schema: Schema,
  options: BodyOptions = {},
): (value: unknown, maxDepth: number, bytes: number) => z.output<Schema> {
  const checked = checkedAs(schema)
  return (value, maxDepth, bytes) => checked(withSaneShape(value, maxDepth, options.intoRows ?? false), bytes)
}

function checkedAs<Schema extends z.ZodType>(schema: Schema): (value: unknown, bytes: number) => z.output<Schema> {
  const described = z.toJSONSchema(schema, { target: 'draft-7', unrepresentable: 'any' })
  return (value, bytes) => {
    const accepts = failingFast.compile(described) // compiled once, when a body first comes: a process starts sooner without
    if (accepts(value)) return value as z.output<Schema> // Ajv checked it against the same schema
    throw errors.INVALID_BODY().withDetails(violationsOf(value, bytes > maxBytesForAllViolations ? accepts : collecting.compile(described)))
  }
}

function violationsOf(value: unknown, check: ValidateFunction): Violation[] {
  check(value)
  return (check.errors ?? []).map(violation)
}

const violation = ({ instancePath, message }: ErrorObject): Violation => ({ path: instancePath || '/', message: message ?? 'is not valid' })

function parseJson(bytes: Buffer, maxDepth: number, intoRows: boolean): unknown {
  if (!isUtf8(bytes)) throw errors.INVALID_JSON()
  const text = bytes.toString('utf8')
  return withSaneShape(text.trim() === '' ? {} : parsed(text), maxDepth, intoRows)
}

function withSaneShape(value: unknown, maxDepth: number, intoRows: boolean): unknown {
  const refusal = refuseShape(value, { maxDepth, storable: intoRows })
  if (refusal !== null) throw refusal
  return value
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text.startsWith('\u{feff}') ? text.slice(1) : text)
  } catch {
    throw errors.INVALID_JSON()
  }
}

/** Bodies arrive as bytes whatever their content type says; a route parses them when it is their turn. */
export function acceptAnyContentType(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, async (_request: FastifyRequest, bytes: Buffer) => bytes)
}
