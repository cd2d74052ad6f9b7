/** `GET /_electric/entities`: spec/02 §9.2. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { visibilityTo } from '../../domain/principals.js'
import { publicEntity } from '../../entities/public.js'
import { type EntityFilter, type EntityPosition, listEntities } from '../../registry/entities.js'
import { entities } from '../answers.js'
import type { RouteDocumentation } from '../documentation.js'
import { sendList } from '../lists.js'
import { cursorOf, pageLimit, positionIn } from '../paging.js'
import type { Parts } from '../parts.js'
import { queryValue } from '../urls.js'

const maxPage = 1_000
const cursorHeader = 'electric-next-cursor'
const position: z.ZodType<EntityPosition> = z.object({ created_at: z.int(), url: z.string() })

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
    if (matchesNothing(filter)) return reply.send([])
    const { portions, last } = await listEntities(database, filter, visibilityTo(request.principal), limits.maxListPortionBytes)
    if (last !== undefined) reply.header(cursorHeader, cursorOf({ created_at: last.created_at, url: last.url }))
    return await sendList(reply, portions, publicEntity)
  })
}

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
    limit: pageLimit(queryValue(query, 'limit'), defaultLimit, maxPage),
    ...(cursor === undefined ? {} : { after: positionIn(cursor, position) }),
  }
}

/** Postgres cannot compare with U+0000, and no row holds it. */
const matchesNothing = ({ type, status, parent, created_by }: EntityFilter): boolean =>
  [type, status, parent, created_by].some((value) => value?.includes('\0') || value?.isWellFormed() === false)
