/** `/_electric/dead-letters`: wakes that were given up, for whoever has to see to them. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { errors } from '../domain/errors.js'
import { visibilityTo } from '../domain/principals.js'
import { authorize } from '../entities/authorize.js'
import { refuseUnlessManager } from '../entities/subscription-access.js'
import type { DeadLetter, LetterPosition } from '../registry/dead-letters.js'
import { findSubscription } from '../registry/subscriptions.js'
import type { RouteDocumentation } from './documentation.js'
import { cursorOf, pageLimit, positionIn } from './paging.js'
import type { Parts } from './parts.js'
import { queryValue } from './urls.js'

const usualPage = 100
const maxPage = 1_000
const cursorHeader = 'electric-next-cursor'
const position: z.ZodType<LetterPosition> = z.object({ failed_us: z.int(), wake_id: z.string() })

const letter = z
  .object({
    wake_id: z.string(),
    subscription_id: z.string(),
    generation: z.int(),
    entity_url: z.string().optional(),
    target: z.object({
      type: z.string(),
      url: z.string().optional(),
      runner_id: z.string().optional(),
      wake_stream: z.string().optional(),
    }),
    reason: z.string().nullable(),
    attempts: z.int().nullable(),
    acked_before: z.record(z.string(), z.string()).describe('Stream → what had been acknowledged'),
    created_at: z.string(),
    failed_at: z.string(),
  })
  .meta({ id: 'DeadLetter' })

const listing: RouteDocumentation = {
  operation: 'listDeadLetters',
  tag: 'wakes',
  summary: 'Wakes that were given up, of entities and subscriptions of the caller; the latest first',
  query: { limit: `Letters of a page, 1 to ${maxPage}`, cursor: 'The last page’s next cursor' },
  answers: {
    200: {
      description: 'A page.',
      schema: z.array(letter),
      headers: { [cursorHeader]: 'Opaque; present where there may be more.' },
    },
  },
  errors: ['INVALID_REQUEST'],
}
const owned = ['WAKE_NOT_DEAD', 'NOT_ALLOWED'] as const
const redelivering: RouteDocumentation = {
  operation: 'redeliverDeadLetter',
  tag: 'wakes',
  summary: 'Delivers what a wake was about once more',
  answers: {
    200: {
      description:
        'No dead letter any more. `wake_id` is null where a wake waits for its handler already, or the entity takes no work now.',
      schema: z.object({ ok: z.literal(true), wake_id: z.string().nullable() }),
    },
  },
  errors: [...owned, 'SUBSCRIPTION_NOT_FOUND', 'WAKE_UNDER_WAY'],
}
const forgetting: RouteDocumentation = {
  operation: 'forgetDeadLetter',
  tag: 'wakes',
  summary: 'Forgets a dead letter',
  answers: { 204: { description: 'No dead letter any more.' } },
  errors: owned,
}

interface AtLetter {
  readonly Params: { readonly wakeId: string }
}

export function deadLetterRoutes(app: FastifyInstance, { database, directory, dispatch, limits }: Parts): void {
  app.get('/_electric/dead-letters', { config: { documentation: listing } }, async (request, reply) => {
    const cursor = queryValue(request.query, 'cursor')
    const limit = pageLimit(queryValue(request.query, 'limit'), usualPage, maxPage)
    const visibility = visibilityTo(request.principal)
    const { rows, isFull } = await dispatch.deadLetters.list({
      visibility,
      limit,
      maxBytes: limits.maxListPortionBytes,
      ...(cursor === undefined ? {} : { after: positionIn(cursor, position) }),
    })
    const last = isFull || rows.length === limit ? rows.at(-1) : undefined
    if (last !== undefined) reply.header(cursorHeader, cursorOf({ failed_us: last.failed_us, wake_id: last.wake_id }))
    return await reply.send(rows.map(shown))
  })

  app.post<AtLetter>('/_electric/dead-letters/:wakeId/redeliver', { config: { documentation: redelivering } }, async (request) => {
    const { wakeId, subscriptionId } = await managed(request) // 404, 401
    return { ok: true, wake_id: await dispatch.deadLetters.redeliver(wakeId, subscriptionId) } // 404, 409
  })

  app.delete<AtLetter>('/_electric/dead-letters/:wakeId', { config: { documentation: forgetting } }, async (request, reply) => {
    const { wakeId } = await managed(request) // 404, 401
    await dispatch.deadLetters.forget(wakeId) // 404
    return await reply.code(204).send()
  })

  /** The managers of its entity may see to a dead letter; where it is about none, those of its subscription. */
  async function managed({ params: { wakeId }, principal }: FastifyRequest<AtLetter>) {
    if (!/^w_[0-9a-f]{24}$/.test(wakeId)) throw errors.WAKE_NOT_DEAD()
    const { entity_url: url, subscription_id: subscriptionId } = await dispatch.deadLetters.find(wakeId)
    const entity = url === null ? null : await directory.entity(url)
    if (entity !== null) await authorize(principal, 'manage', entity)
    else {
      const stored = await findSubscription(database, subscriptionId)
      refuseUnlessManager(principal, { id: subscriptionId, created_by: stored?.created_by ?? null })
    }
    return { wakeId, subscriptionId }
  }
}

function shown(found: DeadLetter): object {
  const { entity_url, target_type, target_webhook_url, target_runner_id, runner_wake_stream, acked_before } = found
  return {
    wake_id: found.wake_id,
    subscription_id: found.subscription_id,
    generation: found.generation,
    ...(entity_url === null ? {} : { entity_url }),
    target: {
      type: target_type,
      ...(target_webhook_url === null ? {} : { url: target_webhook_url }),
      ...(target_runner_id === null ? {} : { runner_id: target_runner_id }),
      ...(runner_wake_stream === null ? {} : { wake_stream: runner_wake_stream }),
    },
    reason: found.last_error,
    attempts: found.attempts,
    acked_before: acked_before ?? {},
    created_at: found.created_at.toISOString(),
    failed_at: found.resolved_at.toISOString(),
  }
}
