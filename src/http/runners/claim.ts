/** `POST /_electric/runners/:id/claim`: spec/07 §3.7. */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { body } from '../body.js'
import type { RouteDocumentation } from '../documentation.js'
import type { Parts } from '../parts.js'
import { decodedParam } from '../urls.js'

interface AtRunner {
  readonly Params: { readonly id: string }
}

/** The wake event as it was read; only its subscription counts, and whether its generation is over. */
const claimBody = body(
  z.looseObject({
    type: z.string().optional(),
    subscription_id: z.string().optional(),
    stream: z.string().optional(),
    generation: z.number().optional(),
    ts: z.union([z.number(), z.string()]).optional(),
  }),
  { intoRows: true },
)

const wake = z
  .looseObject({
    consumerId: z.string(),
    wakeId: z.string(),
    epoch: z.int(),
    streamPath: z.string(),
    streams: z.array(z.object({ path: z.string(), offset: z.string() })),
    callback: z.string(),
    claimToken: z.string(),
    triggerEvent: z.string(),
    entity: z.looseObject({ type: z.string(), status: z.string(), url: z.string(), streams: z.object({ main: z.string() }) }),
  })
  .meta({ id: 'Wake' })

const documentation: RouteDocumentation = {
  operation: 'claimWake',
  tag: 'runners',
  summary: 'Claims the wake of which an event on the wake stream told',
  body: claimBody,
  answers: {
    200: {
      description: 'The wake; or `done`: its entity takes no work now.',
      schema: z.union([wake, z.object({ done: z.literal(true) })]),
    },
    204: { description: 'There is no such subscription any more.' },
  },
  errors: [
    'RUNNER_UNKNOWN',
    'RUNNER_CLAIM_REFUSED',
    'RUNNER_DISABLED',
    'WAKE_OF_ANOTHER_RUNNER',
    'WAKE_CLAIMED',
    'NO_PENDING_WORK',
    'CLAIM_WITHOUT_ENTITY',
  ],
}

export function runnerClaimRoute(app: FastifyInstance, { runnerClaiming }: Parts): void {
  app.post<AtRunner>('/_electric/runners/:id/claim', { config: { documentation } }, async (request, reply) => {
    const { subscription_id, generation } = claimBody(request) // 400
    const event = { subscriptionId: subscription_id, generation }
    const claim = await runnerClaiming.claim(request.principal, decodedParam(request.params.id), event) // 404, 403, 409, 400
    if (claim.outcome === 'gone') return await reply.code(204).send()
    return claim.outcome === 'claimed' ? claim.wake : { done: true }
  })
}
