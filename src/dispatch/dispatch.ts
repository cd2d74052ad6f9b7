/** The parts of dispatch, joined: from an append to a handler, and back (spec/06, spec/07). */
import type { Logger } from 'pino'
import type { Limits } from '../domain/limits.js'
import type { Database } from '../registry/database.js'
import { tokenSecret } from '../registry/secrets.js'
import { Claims } from './claims.js'
import { DeadLetters } from './dead-letters.js'
import { Deadlines } from './deadlines.js'
import { Deliveries, type DeliveryObserver } from './deliveries.js'
import { Expiry } from './expiry.js'
import { FollowUpQueue } from './follow-up-queue.js'
import { Outbound } from './outbound.js'
import { type OutboundPolicyOptions, outboundPolicy } from './outbound-policy.js'
import type { Pipeline } from './pipeline.js'
import { PublicBase } from './public-url.js'
import { Signing } from './signing.js'
import { Stopping } from './stopping.js'
import { Subscriptions } from './subscriptions.js'
import type { Tails } from './tails.js'
import { WakeTokens } from './wake-tokens.js'
import type { Waking } from './waking.js'

export interface Dispatch {
  readonly base: PublicBase
  readonly claims: Claims
  readonly deadlines: Deadlines
  readonly deliveries: Deliveries
  readonly followUps: FollowUpQueue
  readonly outbound: Outbound
  readonly signing: Signing
  readonly stopping: Stopping
  readonly subscriptions: Subscriptions
  readonly deadLetters: DeadLetters
  readonly tokens: WakeTokens
  readonly waking: Waking
  drained(): Promise<void>
}

export interface DispatchConfiguration {
  readonly limits: Limits
  readonly outbound: OutboundPolicyOptions
  readonly baseUrl?: string | undefined
  readonly webhookSigningKey?: string | undefined
  readonly rewriteLoopbackWebhooksTo?: string | undefined
}

export async function buildDispatch(given: {
  readonly config: DispatchConfiguration
  readonly database: Database
  readonly pipeline: Pipeline
  readonly waking: Waking
  readonly tails: Tails
  readonly log: Pick<Logger, 'warn'>
  readonly observe?: DeliveryObserver
}): Promise<Dispatch> {
  const { config, database, pipeline, waking, tails, log, observe } = given
  const { limits } = config
  const warn = (failure: unknown, text: string) => log.warn({ err: failure }, text)
  const tokens = new WakeTokens(await tokenSecret(database))
  const outbound = new Outbound({ policy: outboundPolicy(config.outbound), maxCalls: limits.maxOutboundCalls + limits.maxDeliveries })
  const signing = new Signing({
    database,
    limits,
    ...(config.webhookSigningKey === undefined ? {} : { configuredKey: config.webhookSigningKey }),
  })
  const base = new PublicBase(database, config.baseUrl)
  const followUps = new FollowUpQueue(warn)
  const stopping = new Stopping(pipeline, (url) => followUps.stopped(url), warn)
  const claims = new Claims({ database, tokens, waking, stopping, limits, expire: (wakeId) => expiry.expire(wakeId) })
  const deliveries = new Deliveries({
    database,
    pipeline,
    claims,
    waking,
    stopping,
    tokens,
    signing,
    outbound,
    base,
    limits,
    warn,
    handOver: (wake, retryInMs) => followUps.deliver(wake, retryInMs),
    ...(observe === undefined ? {} : { observe }),
  })
  const expiry = new Expiry({ database, pipeline, tails, waking, stopping, limits })
  const deadlines = new Deadlines({ database, deliveries, expiry, limits, warn })
  const urls = { outbound: config.outbound, rewriteLoopbackTo: config.rewriteLoopbackWebhooksTo }
  const subscriptions = new Subscriptions({ database, claims, tokens, stopping, tails, urls, limits })
  const deadLetters = new DeadLetters(database, waking)
  return {
    base,
    claims,
    deadlines,
    deliveries,
    outbound,
    signing,
    stopping,
    subscriptions,
    deadLetters,
    tokens,
    waking,
    followUps,
    drained: async () => {
      await deliveries.drained()
      await claims.drained()
      await followUps.drained()
    },
  }
}
