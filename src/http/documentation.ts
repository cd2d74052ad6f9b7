/**
 * What a route says about itself, for the OpenAPI document (`openapi.ts`): written beside the route, in its Fastify `config`.
 *
 *   app.post(url, { config: { documentation: sendDocumentation } }, async (request) => …)
 *
 * It decides nothing: bodies are checked by `body()`, whose schema it shows; answers are held to their schemas by tests.
 */
import type { z } from 'zod'
import type { ErrorName } from '../domain/errors.js'

export interface DocumentedAnswer {
  readonly description: string
  /** Absent: an empty body. */
  readonly schema?: z.ZodType
  /** Of a body that is no JSON. */
  readonly contentType?: string
  /** Name → what it says. */
  readonly headers?: Readonly<Record<string, string>>
}

export interface RouteDocumentation {
  /** Unique; what generated clients call it. */
  readonly operation: string
  readonly tag: 'entities' | 'entity types' | 'attachments' | 'streams' | 'wakes' | 'subscriptions' | 'runners' | 'server' | 'later'
  readonly summary: string
  /** What `body()` made; or a form, with its content type. */
  readonly body?: { readonly schema: z.ZodType; readonly contentType?: string }
  /** Name → what it says. */
  readonly query?: Readonly<Record<string, string>>
  readonly answers: Readonly<Record<number, DocumentedAnswer>>
  /** Refusals besides those of every route (`openapi.ts`). */
  readonly errors?: readonly ErrorName[]
  /** Answers without a principal. */
  readonly isPublic?: true
}

declare module 'fastify' {
  interface FastifyContextConfig {
    readonly documentation?: RouteDocumentation
    /** Why the route is not in the document. */
    readonly undocumented?: string
  }
}

/** Refusals of every route below `/_electric/entities/:type/:instanceId`. */
export const entityErrors = ['ENTITY_NOT_FOUND', 'UNKNOWN_ENTITY_TYPE', 'NOT_ALLOWED'] as const satisfies readonly ErrorName[]

/** Refusals of every operation that is a workflow. */
export const operationErrors = [
  'WORKFLOW_SERVICE_UNAVAILABLE',
  'OPERATION_UNFINISHED',
  'OPERATION_FAILED',
] as const satisfies readonly ErrorName[]
