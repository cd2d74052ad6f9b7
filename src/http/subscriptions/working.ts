/** Claiming a pull-wake, and what holders of wakes say of them (spec/06 §3.2). */
import type { FastifyInstance } from 'fastify'
import type { Said } from '../../dispatch/subscriptions.js'
import { errors } from '../../domain/errors.js'
import { workerOf } from '../../domain/subscription-request.js'
import { type Mount, pathOfName } from '../../domain/subscriptions.js'
import { refuseUnlessManager } from '../../entities/subscription-access.js'
import type { DocumentedAnswer, RouteDocumentation } from '../documentation.js'
import { bearerToken } from '../tokens.js'
import { callbackBody, claimed, claimForm, heard, sendPlainJson, sentAnything, shownClaim } from './bodies.js'
import type { SubscriptionRouteParts } from './routes.js'
import { type AtSubscription, idOf, type View } from './views.js'

const claimDocumentation = (operation: string): RouteDocumentation => ({
  operation,
  tag: 'subscriptions',
  summary: 'Claims the wake of a pull-wake subscription: the outstanding one, or a new one where work is pending',
  body: { schema: claimForm },
  answers: { 200: { description: 'Claimed; the lease runs.', schema: claimed } },
  errors: ['NOT_ALLOWED', 'SUBSCRIPTION_NOT_FOUND', 'SUBSCRIPTION_NOT_PULL_WAKE', 'ALREADY_CLAIMED', 'NO_PENDING_WORK'],
})

interface TokenRoute {
  readonly verb: 'callback' | 'ack' | 'release'
  readonly operation: string
  readonly summary: string
  readonly status: 200 | 204
}

const tokenRoutes: readonly TokenRoute[] = [
  {
    verb: 'callback',
    operation: 'callBackSubscription',
    summary: 'Acknowledges, says that the holder lives, or that it is done',
    status: 200,
  },
  { verb: 'ack', operation: 'ackSubscription', summary: 'The same, of a pull-wake', status: 200 },
  { verb: 'release', operation: 'releaseSubscription', summary: 'Gives a claimed pull-wake back', status: 204 },
]

const taken: Readonly<Record<TokenRoute['status'], DocumentedAnswer>> = {
  200: { description: 'Taken note of; `next_wake`: the next wake has begun.', schema: heard },
  204: { description: 'Given back; what is pending starts the next wake.' },
}

const tokenDocumentation = ({ operation, summary, status }: TokenRoute, view: View): RouteDocumentation => ({
  operation: view.operation(operation),
  tag: 'subscriptions',
  summary,
  body: callbackBody,
  answers: { [status]: taken[status] },
  errors: [
    'TOKEN_MISSING',
    'TOKEN_INVALID',
    'SUBSCRIPTION_NOT_FOUND',
    'SUBSCRIPTION_NOT_PULL_WAKE',
    'FENCED',
    'INVALID_OFFSET',
    'OVERLOADED',
  ],
  isPublic: true,
})

export function workingRoutes(app: FastifyInstance, view: View, { dispatch }: SubscriptionRouteParts): void {
  const { mount } = view
  const url = `${view.prefix}/subscriptions/:id`

  app.post<AtSubscription>(
    `${url}/claim`,
    { config: { documentation: claimDocumentation(view.operation('claimSubscription')) } },
    async (request, reply) => {
      const name = { id: idOf(request.params), mount }
      const worker = workerOf(sentAnything(request)) // 400
      const guard = (stored: { readonly id: string; readonly created_by: string | null }) => refuseUnlessManager(request.principal, stored)
      return await sendPlainJson(reply, 200, shownClaim(await dispatch.subscriptions.claim(name, worker, guard))) // 404, 401, 400, 409
    },
  )

  for (const route of tokenRoutes)
    app.post<AtSubscription>(
      `${url}/${route.verb}`,
      { config: { documentation: tokenDocumentation(route, view) } },
      async (request, reply) => {
        const name = { id: idOf(request.params), mount }
        const token = bearerToken(request)
        if (token === null) throw errors.TOKEN_MISSING() // 401
        const { nextWake } = await dispatch.subscriptions.hear(name, token, route.verb, () => said(mount, route, callbackBody(request))) // 404, 400, 401, 409
        return route.status === 204 ? await reply.code(204).send() : await sendPlainJson(reply, 200, { ok: true, next_wake: nextWake })
      },
    )
}

function said(mount: Mount, { verb }: TokenRoute, { wake_id, generation, acks = [], done }: ReturnType<typeof callbackBody>): Said {
  if (verb === 'release') return { wakeId: wake_id, generation, acks: [], ends: 'release' }
  return {
    wakeId: wake_id,
    generation,
    acks: acks.map(({ stream, path, offset }) => ({ path: pathOfName(mount, stream ?? path ?? ''), offset })),
    ...(done === true ? { ends: 'done' as const } : {}),
  }
}
