/** `POST /_electric/wake-callbacks/:consumerId`: what a runtime says of its wake (spec/06 §7). The claim token alone says who may. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { DeliveryIdentity } from '../dispatch/wake-tokens.js'
import { AgentsError, errors } from '../domain/errors.js'
import type { StreamPath } from '../domain/ids.js'
import { body } from './body.js'
import type { RouteDocumentation } from './documentation.js'
import type { Parts } from './parts.js'
import { presentedToken } from './tokens.js'

const ack = z.looseObject({ path: z.string().optional(), stream: z.string().optional(), offset: z.string() })

const callbackBody = body(
  z.looseObject({
    epoch: z.number().optional(),
    generation: z.number().optional(),
    wakeId: z.string().optional(),
    wake_id: z.string().optional(),
    acks: z.array(ack).optional(),
    done: z.boolean().optional(),
  }),
  { intoRows: true },
)

const documentation: RouteDocumentation = {
  operation: 'callBack',
  tag: 'wakes',
  summary: 'Claims a wake, says that its handler lives, or that it is done',
  body: callbackBody,
  answers: {
    200: {
      description: 'Claimed, with the token for the stream of its entity; or taken note of.',
      schema: z.object({ ok: z.literal(true), writeToken: z.string().optional(), next_wake: z.boolean().optional() }),
    },
  },
  errors: ['WAKE_CALLBACK_NOT_FOUND', 'TOKEN_MISSING', 'TOKEN_INVALID', 'FENCED', 'INVALID_OFFSET', 'NOT_RUNNING'],
  isPublic: true,
}

interface Consumer {
  readonly Params: { readonly consumerId: string }
}

export const wakeCallbacks = '/_electric/wake-callbacks/'

export function wakeCallbackRoute(app: FastifyInstance, { dispatch }: Parts): void {
  app.post<Consumer>(`${wakeCallbacks}:consumerId`, { config: { documentation } }, async (request) => {
    const { consumerId } = request.params
    const identity = await identified(request, dispatch, consumerId)
    if (identity === 'unknown') throw errors.WAKE_CALLBACK_NOT_FOUND() // 404
    const sent = callbackBody(request) // 400
    if (identity instanceof AgentsError) throw identity // 401
    const said = { ...given('wakeId', sent.wakeId ?? sent.wake_id), ...given('generation', sent.epoch ?? sent.generation) }
    if (said.wakeId !== undefined && sent.done !== true) {
      if (said.wakeId !== consumerId || (said.generation ?? identity.generation) !== identity.generation) throw errors.FENCED() // 409
      const writeToken = await dispatch.claims.claim(identity, String(request.headers['electric-principal'] ?? 'webhook'))
      return { ok: true, ...(writeToken === null ? {} : { writeToken }) }
    }
    const acks = (sent.acks ?? []).map(({ path, stream, offset }) => ({ path: rooted(path ?? stream ?? ''), offset }))
    const { nextWake } = await dispatch.claims.callback({ ...identity, said, acks, ...(sent.done === true ? { ends: 'done' } : {}) })
    return { ok: true, next_wake: nextWake }
  })
}

/** Whose wake the caller may speak for. A token of ours says that its wake exists; only without one is the wake looked up. */
async function identified(
  request: FastifyRequest,
  { tokens, isWake }: Parts['dispatch'],
  consumerId: string,
): Promise<DeliveryIdentity | AgentsError | 'unknown'> {
  const token = presentedToken(request)
  const identity = token === null ? null : tokens.deliveryOf(token)
  if (identity?.wakeId === consumerId) return identity
  if (!(await isWake(consumerId))) return 'unknown'
  return token === null ? errors.TOKEN_MISSING() : errors.TOKEN_INVALID()
}

/** Clients name streams with or without the leading slash. */
const rooted = (path: string): StreamPath => `/${path.replace(/^\/+|\/+$/g, '')}` as StreamPath

const given = <const Name extends string, Value>(name: Name, value: Value | undefined) =>
  (value === undefined ? {} : { [name]: value }) as { readonly [member in Name]?: Value } // a computed name widens to string
