/** Runners over HTTP: spec/07 §3. The path's id is percent-decoded; bodies are read first, then 404, then 403. */
import type { FastifyInstance } from 'fastify'
import type { RunnerAdminStatus } from '../../domain/runners.js'
import { publicHealth, publicRunner, publicSeenRunner } from '../../entities/public-runners.js'
import type { RouteDocumentation } from '../documentation.js'
import { sendList } from '../lists.js'
import type { Parts } from '../parts.js'
import { decodedParam, queryValue } from '../urls.js'
import { heartbeatBody, registeredRunner, registrationBody, runner, runnerHealth, runners as runnerList, seenRunner } from './bodies.js'

interface AtRunner {
  readonly Params: { readonly id: string }
}

const base = '/_electric/runners'

const one = { description: 'The runner.', schema: runner }
const addressed = ['INVALID_REQUEST', 'RUNNER_UNKNOWN', 'RUNNER_ACCESS_REFUSED'] as const
const owner = ['INVALID_RUNNER_OWNER', 'RUNNER_OWNER_MISMATCH'] as const
const documentation = {
  register: {
    operation: 'registerRunner',
    tag: 'runners',
    summary: 'Registers a runner, or updates its registration; `admin_status` counts the first time only',
    body: registrationBody,
    answers: { 201: { description: 'The runner; its wake stream exists.', schema: registeredRunner } },
    errors: ['INVALID_RUNNER_ID', ...owner, 'RUNNER_ACCESS_REFUSED', 'WAKE_STREAM_TAKEN'],
  },
  list: {
    operation: 'listRunners',
    tag: 'runners',
    summary: 'The caller’s runners, newest first',
    query: { owner_principal: 'URL of the caller' },
    answers: { 200: { description: 'The runners.', schema: runnerList } },
    errors: owner,
  },
  read: { operation: 'readRunner', tag: 'runners', summary: 'One runner', answers: { 200: one }, errors: addressed },
  health: {
    operation: 'readRunnerHealth',
    tag: 'runners',
    summary: 'How a runner does: its lease, what it says of itself, what it works on',
    answers: { 200: { description: 'The worst of what is known.', schema: runnerHealth } },
    errors: addressed,
  },
  heartbeat: {
    operation: 'sendRunnerHeartbeat',
    tag: 'runners',
    summary: 'Says that the runner is there, for how long, and how it does',
    body: heartbeatBody,
    answers: { 200: { description: 'The runner, with its new lease.', schema: seenRunner } },
    errors: addressed,
  },
  enable: {
    operation: 'enableRunner',
    tag: 'runners',
    summary: 'Lets a runner claim wakes again',
    answers: { 200: one },
    errors: addressed,
  },
  disable: {
    operation: 'disableRunner',
    tag: 'runners',
    summary: 'Keeps a runner from claiming; wakes that it works on go on',
    answers: { 200: one },
    errors: addressed,
  },
} as const satisfies Record<string, RouteDocumentation>

export function runnerRoutes(app: FastifyInstance, { runners }: Parts): void {
  app.post(base, { config: { documentation: documentation.register } }, async (request, reply) => {
    const sent = registrationBody(request) // 400
    const registered = await runners.register(request.principal, sent) // 400, 403, 409
    return await reply.code(201).send({ ...publicRunner(registered.runner), wake_stream_offset: registered.wake_stream_offset })
  })

  app.get(
    base,
    { config: { documentation: documentation.list } },
    async (request, reply) =>
      await sendList(reply, runners.list(request.principal, queryValue(request.query, 'owner_principal')), publicRunner),
  )

  app.get<AtRunner>(`${base}/:id`, { config: { documentation: documentation.read } }, async (request) =>
    publicRunner(await runners.owned(request.principal, decodedParam(request.params.id))),
  )

  app.get<AtRunner>(`${base}/:id/health`, { config: { documentation: documentation.health } }, async (request) =>
    publicHealth(await runners.health(request.principal, decodedParam(request.params.id))),
  )

  app.post<AtRunner>(`${base}/:id/heartbeat`, { config: { documentation: documentation.heartbeat } }, async (request) => {
    const { wakeStreamOffset, ...sent } = heartbeatBody(request) // 400
    const id = decodedParam(request.params.id)
    return publicSeenRunner(
      await runners.heartbeat(request.principal, id, {
        ...(wakeStreamOffset === undefined ? {} : { wake_stream_offset: wakeStreamOffset }),
        ...sent,
      }),
    )
  })

  const administered = (action: 'enable' | 'disable', status: RunnerAdminStatus) =>
    app.post<AtRunner>(`${base}/:id/${action}`, { config: { documentation: documentation[action] } }, async (request) =>
      publicRunner(await runners.administer(request.principal, decodedParam(request.params.id), status)),
    )
  administered('enable', 'enabled')
  administered('disable', 'disabled')
}
