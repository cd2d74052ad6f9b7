/** Making, reading and removing subscriptions and their explicit links (spec/06 §3.2). */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Guard, ShownSubscription } from '../../dispatch/subscriptions.js'
import type { StreamPath } from '../../domain/ids.js'
import { streamsToAdd, subscriptionRequest } from '../../domain/subscription-request.js'
import { type Mount, pathOfName } from '../../domain/subscriptions.js'
import { creatorOf, refuseUnlessManager } from '../../entities/subscription-access.js'
import type { RouteDocumentation } from '../documentation.js'
import { sendPlainJson, sentAnything, sentSubscription, shownSubscription, streamsForm, subscription, subscriptionForm } from './bodies.js'
import type { SubscriptionRouteParts } from './routes.js'
import { type AtSubscription, idOf, type View } from './views.js'

type Documented = Omit<RouteDocumentation, 'operation' | 'tag'>

const managed = ['INVALID_REQUEST', 'NOT_ALLOWED', 'SUBSCRIPTION_NOT_FOUND'] as const
const putting: Documented = {
  summary: 'Makes a subscription, or confirms it; a webhook may move',
  body: { schema: subscriptionForm },
  answers: {
    200: { description: 'It was there.', schema: subscription },
    201: { description: 'Made; streams are linked at their tails.', schema: subscription },
  },
  errors: [
    'NOT_ALLOWED',
    'ENTITY_NOT_FOUND',
    'RUNNER_UNKNOWN',
    'SUBSCRIPTION_ALREADY_EXISTS',
    'WEBHOOK_URL_REJECTED',
    'STREAM_SERVICE_UNAVAILABLE',
  ],
}
const getting: Documented = {
  summary: 'A subscription with its links',
  answers: { 200: { description: 'Its cursors are of this moment.', schema: subscription } },
  errors: managed,
}
const deleting: Documented = {
  summary: 'Removes a subscription, and ends its wake',
  answers: { 204: { description: 'It is gone, whether or not it was there.' } },
  errors: ['INVALID_REQUEST', 'NOT_ALLOWED'],
}
const adding: Documented = {
  summary: 'Links streams at their tails',
  body: { schema: streamsForm },
  answers: { 204: { description: 'Linked; links that stood keep their cursor.' } },
  errors: [...managed, 'ENTITY_NOT_FOUND', 'RUNNER_UNKNOWN', 'STREAM_SERVICE_UNAVAILABLE'],
}
const removing: Documented = {
  summary: 'Removes the explicit link of a stream',
  answers: { 204: { description: 'There is none; what the pattern links as well stays linked.' } },
  errors: managed,
}

interface AtStream {
  readonly Params: AtSubscription['Params'] & { readonly '*': string }
}

export function editingRoutes(app: FastifyInstance, view: View, { dispatch, signing, access }: SubscriptionRouteParts): void {
  const { mount } = view
  const url = `${view.prefix}/subscriptions/:id`
  const configOf = (operation: string, more: Documented) => ({
    documentation: { ...more, operation: view.operation(operation), tag: 'subscriptions' as const },
  })
  const shown = async (found: ShownSubscription) => shownSubscription(found, await signing.current(), await dispatch.base.read())
  const nameOf = ({ params }: { readonly params: AtSubscription['Params'] }) => ({ id: idOf(params), mount })

  app.put<AtSubscription>(url, { config: configOf('putSubscription', putting) }, async (request, reply) => {
    const wanted = subscriptionRequest(mount, idOf(request.params), sentSubscription(request)) // 400
    await access.checkRequest(request.principal, wanted) // 401
    const found = await dispatch.subscriptions.put(wanted, creatorOf(request.principal), managerOnly(request)) // 401, 409, 400
    return await sendPlainJson(reply, found.isNew ? 201 : 200, await shown(found))
  })

  app.get<AtSubscription>(url, { config: configOf('getSubscription', getting) }, async (request, reply) => {
    const found = await dispatch.subscriptions.read(nameOf(request), managerOnly(request)) // 404, 401
    return await sendPlainJson(reply, 200, await shown(found))
  })

  app.delete<AtSubscription>(url, { config: configOf('deleteSubscription', deleting) }, async (request, reply) => {
    await dispatch.subscriptions.delete(nameOf(request), managerOnly(request)) // 401
    return await reply.code(204).send()
  })

  app.post<AtSubscription>(`${url}/streams`, { config: configOf('addSubscriptionStreams', adding) }, async (request, reply) => {
    const paths = streamsToAdd(mount, sentAnything(request)) // 400
    await access.checkStreams(request.principal, paths) // 401
    await dispatch.subscriptions.addStreams(nameOf(request), paths, managerOnly(request)) // 404, 401
    return await reply.code(204).send()
  })

  app.delete<AtStream>(`${url}/streams/*`, { config: configOf('removeSubscriptionStream', removing) }, async (request, reply) => {
    await dispatch.subscriptions.removeStream(nameOf(request), pathsNamed(mount, request.params['*']), managerOnly(request)) // 404, 401
    return await reply.code(204).send()
  })
}

const managerOnly =
  ({ principal }: Pick<FastifyRequest, 'principal'>): Guard =>
  (stored) =>
    refuseUnlessManager(principal, stored)

/** `m%2Fa` and `m/a` name the same; a name that has escapes of its own may be sent as it is, or escaped once more. */
function pathsNamed(mount: Mount, sent: string): readonly StreamPath[] {
  return [decodedOrNull(sent), sent].filter((name) => name !== null && !name.includes('\0')).map((name) => pathOfName(mount, String(name)))
}

function decodedOrNull(text: string): string | null {
  try {
    return decodeURIComponent(text)
  } catch {
    return null
  }
}
