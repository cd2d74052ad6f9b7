/**
 * The OpenAPI 3.1 document: printed from the routes as they are registered, so it cannot name a route that is not there.
 *
 * D1  Every route is in it, or says why not (`config.undocumented`); a test walks them and names those that are missing.
 * D2  Bodies are the zod schemas that the routes check, refusals the entries of the error catalogue.
 * D3  It is the same on every deployment: docs/openapi.json is what `GET /_electric/openapi.json` answers.
 */
import { readFileSync } from 'node:fs'
import type { FastifyInstance, RouteOptions } from 'fastify'
import { z } from 'zod'
import { type ErrorName, errorEntries } from '../domain/errors.js'
import { refusal } from './answers.js'
import type { DocumentedAnswer, RouteDocumentation } from './documentation.js'
import { streamComponents, streamPaths } from './streams/openapi.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** To be asked once the routes are registered (`ready`). */
    openApi(): OpenApi
  }
}

export type JsonNode = null | boolean | number | string | readonly JsonNode[] | { readonly [member: string]: JsonNode | undefined }
type JsonMembers = Record<string, JsonNode>

export interface OpenApi {
  readonly document: Readonly<JsonMembers>
  /** `METHOD path` of every route that the document lacks (D1). */
  readonly missing: readonly string[]
}

export const openApiPath = '/_electric/openapi.json'

/** Refusals of every JSON route, and of every one with a body. */
const everywhere: readonly ErrorName[] = [
  'INVALID_PRINCIPAL',
  'MISSING_PRINCIPAL',
  'INTERNAL_SERVER_ERROR',
  'DATABASE_UNAVAILABLE',
  'OVERLOADED',
]
const withBody: readonly ErrorName[] = ['INVALID_JSON', 'INVALID_BODY', 'INVALID_REQUEST', 'BODY_TOO_LARGE']

interface Route {
  readonly method: string
  readonly url: string
  readonly documentation?: RouteDocumentation
  readonly undocumented?: string
}

/** To be called before any route is registered. */
export function openApi(app: FastifyInstance): void {
  const routes: Route[] = []
  app.addHook('onRoute', ({ method, url, config }: RouteOptions) => {
    for (const one of [method].flat()) routes.push({ method: one.toLowerCase(), url, ...config })
  })
  let built: OpenApi | undefined
  let text = ''
  const build = () => {
    built ??= documentOf(routes)
    return built
  }
  app.decorate('openApi', build)
  app.get(openApiPath, { config: { documentation: itself } }, async (_request, reply) => {
    text ||= JSON.stringify(build().document)
    return await reply.type('application/json; charset=utf-8').send(text)
  })
}

const itself: RouteDocumentation = {
  operation: 'readOpenApi',
  tag: 'server',
  summary: 'This document',
  answers: { 200: { description: 'OpenAPI 3.1', schema: z.looseObject({}) } },
  isPublic: true,
}

function documentOf(routes: readonly Route[]): OpenApi {
  const components: JsonMembers = {}
  const paths: Record<string, JsonMembers> = {}
  for (const { method, url, documentation } of routes) {
    if (documentation === undefined || method === 'head') continue // a HEAD that comes with its GET
    const path = templateOf(url)
    paths[path] = { ...paths[path], [method]: operationOf(path, documentation, components) }
  }
  for (const [path, item] of Object.entries(streamPaths)) paths[path] = { ...paths[path], ...item }
  const missing = routes.filter((route) => !isIn(paths, route)).map(({ method, url }) => `${method.toUpperCase()} ${url}`)
  const document = {
    openapi: '3.1.0',
    info: {
      title: 'temporal-agents-server',
      version: version(),
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description:
        'Every `GET` below `/_electric/` also answers `HEAD`, every route `OPTIONS`. Bodies are read as JSON whatever their content type says. Paths without a route are streams.',
    },
    servers: [{ url: '/' }],
    security: [{ principal: [] }, {}],
    paths: sorted(paths),
    components: {
      schemas: sorted(components),
      ...streamComponents,
      securitySchemes: {
        principal: {
          type: 'apiKey',
          in: 'header',
          name: 'electric-principal',
          description: '`<kind>:<id>`. In development requests without it act as `system:dev-local`.',
        },
      },
    },
  }
  return { document, missing }
}

const sorted = <Value>(members: Readonly<Record<string, Value>>): Record<string, Value> =>
  Object.fromEntries(Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1)))

/** Fastify adds HEAD to a GET by itself; a preflight is no operation. */
function isIn(paths: Readonly<Record<string, JsonMembers>>, { method, url, undocumented }: Route): boolean {
  const item = paths[templateOf(url)]
  return (
    undocumented !== undefined || method === 'options' || item?.[method] !== undefined || (method === 'head' && item?.get !== undefined)
  )
}

/** `/a/:b/*` → `/a/{b}/{path}`; what follows the last slash of a wildcard may contain slashes, which OpenAPI cannot say. */
const templateOf = (url: string): string => (url.startsWith('/') ? url : `/${url}`).replaceAll(/:(\w+)/g, '{$1}').replace('*', '{path}')

function operationOf(path: string, documentation: RouteDocumentation, components: JsonMembers): JsonMembers {
  const { operation, tag, summary, body, query = {}, answers, errors = [], isPublic } = documentation
  const refusals = [...new Set([...(isPublic ? [] : everywhere), ...(body === undefined ? [] : withBody), ...errors])]
  const parameters = [
    ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
    ...Object.entries(query).map(([name, description]) => ({ name, in: 'query', description, schema: { type: 'string' } })),
  ]
  return {
    operationId: operation,
    tags: [tag],
    summary,
    ...(isPublic ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined
      ? {}
      : { requestBody: { content: { [body.contentType ?? 'application/json']: { schema: schemaOf(body.schema, components) } } } }),
    responses: {
      ...Object.fromEntries(Object.entries(answers).map(([status, answer]) => [status, responseOf(answer, components)])),
      ...refusalsOf(refusals, components),
    },
  }
}

function responseOf({ description, schema, contentType, headers }: DocumentedAnswer, components: JsonMembers): JsonMembers {
  const shown = schema === undefined ? {} : schemaOf(schema, components)
  const type = contentType ?? (schema === undefined ? undefined : 'application/json')
  return {
    description,
    ...(headers === undefined
      ? {}
      : {
          headers: Object.fromEntries(
            Object.entries(headers).map(([name, what]) => [name, { description: what, schema: { type: 'string' } }]),
          ),
        }),
    ...(type === undefined ? {} : { content: { [type]: { schema: shown } } }),
  }
}

/** One response per status; its description lists the codes, and what to do about each (D2). */
function refusalsOf(names: readonly ErrorName[], components: JsonMembers): JsonMembers {
  const responses: JsonMembers = {}
  for (const status of [...new Set(names.map((name) => errorEntries[name].status))].sort((a, b) => a - b)) {
    const told = names
      .filter((name) => errorEntries[name].status === status)
      .map((name) => `- \`${codeOf(name)}\`: ${errorEntries[name].next}`)
    responses[status] = {
      description: [...new Set(told)].join('\n'),
      content: { 'application/json': { schema: schemaOf(refusal, components) } },
    }
  }
  return responses
}

function codeOf(name: ErrorName): string {
  const entry = errorEntries[name]
  return 'code' in entry ? entry.code : name
}

/** The schema, with those of its parts that have a name moved to the components. */
function schemaOf(schema: z.ZodType, components: JsonMembers): JsonNode {
  const printed = z.toJSONSchema(z.object({ it: schema }), { io: 'input', unrepresentable: 'any' })
  const { $defs = {}, properties = {} } = JSON.parse(JSON.stringify(printed).replaceAll('"#/$defs/', '"#/components/schemas/')) as {
    readonly $defs?: Readonly<Record<string, JsonMembers>>
    readonly properties?: JsonMembers
  }
  for (const [name, { id: _name, ...definition }] of Object.entries($defs)) components[name] = definition
  return properties.it ?? {}
}

function version(): string {
  const found = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { readonly version: string }
  return found.version
}
