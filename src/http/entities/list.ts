/** `GET /_electric/entities`: spec/02 §9.2. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { errors } from '../../domain/errors.js'
import { isBypass, type Principal } from '../../domain/principals.js'
import { publicEntity } from '../../entities/public.js'
import { type EntityFilter, type EntityHead, type EntityPosition, listEntities, type Visibility } from '../../registry/entities.js'
import { entities } from '../answers.js'
import type { RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { queryValue } from '../urls.js'

const maxPage = 1_000
const cursorHeader = 'electric-next-cursor'
const position = z.object({ created_at: z.int(), url: z.string() })

const documentation: RouteDocumentation = {
  operation: 'listEntities',
  tag: 'entities',
  summary: 'The entities that the caller may see, newest first',
  query: {
    type: 'Exactly this type',
    status: 'Exactly this status',
    parent: 'URL of the parent',
    created_by: 'URL of the principal',
    limit: `Rows of a page, 1 to ${maxPage}`,
    cursor: 'The last page’s next cursor',
  },
  answers: {
    200: {
      description: 'A page, or all of them.',
      schema: entities,
      headers: { [cursorHeader]: 'Opaque; present where there may be more.' },
    },
  },
  errors: ['INVALID_REQUEST'],
}

export function listRoute(app: FastifyInstance, { database, limits }: Parts): void {
  app.get('/_electric/entities', { config: { documentation } }, async (request, reply) => {
    const filter = filterOf(request, limits.maxListedEntities)
    const found = matchesNothing(filter) ? [] : await listEntities(database, filter, visibility(request.principal))
    const last = found.length === filter.limit ? found.at(-1) : undefined
    if (last !== undefined) reply.header(cursorHeader, cursorOf(last))
    return reply.send(found.map(publicEntity))
  })
}

const visibility = (principal: Principal): Visibility => (isBypass(principal) ? { sees: 'all' } : { sees: 'own', owner: principal.url })

function filterOf({ query }: FastifyRequest, defaultLimit: number): EntityFilter {
  const member = (name: 'type' | 'status' | 'parent' | 'created_by') => {
    const value = queryValue(query, name)
    return value === undefined ? {} : { [name]: value }
  }
  const cursor = queryValue(query, 'cursor')
  return {
    ...member('type'),
    ...member('status'),
    ...member('parent'),
    ...member('created_by'),
    limit: limitOf(queryValue(query, 'limit'), defaultLimit),
    ...(cursor === undefined ? {} : { after: positionOf(cursor) }),
  }
}

/** Postgres cannot compare with U+0000, and no row holds it. */
const matchesNothing = ({ type, status, parent, created_by }: EntityFilter): boolean =>
  [type, status, parent, created_by].some((value) => value?.includes('\0') || value?.isWellFormed() === false)

function limitOf(text: string | undefined, byDefault: number): number {
  if (text === undefined) return byDefault
  const limit = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (limit < 1 || limit > maxPage) throw errors.INVALID_REQUEST(`limit must be an integer between 1 and ${maxPage}`)
  return limit
}

const cursorOf = ({ created_at, url }: EntityHead): string => Buffer.from(JSON.stringify({ created_at, url })).toString('base64url')

function positionOf(cursor: string): EntityPosition {
  const parsed = position.safeParse(parsedJson(Buffer.from(cursor, 'base64url').toString('utf8')))
  if (!parsed.success || parsed.data.url.includes('\0') || !parsed.data.url.isWellFormed()) throw errors.INVALID_REQUEST('Invalid cursor')
  return parsed.data
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
