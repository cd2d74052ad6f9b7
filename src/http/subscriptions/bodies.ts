/** Bodies and answers of the subscription API (spec/06 §3). Most checks are the domain's, for their order and texts are fixed. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { ClaimedWake } from '../../dispatch/claims.js'
import { publicUrl } from '../../dispatch/public-url.js'
import type { SigningMetadata } from '../../dispatch/signing.js'
import type { ShownSubscription } from '../../dispatch/subscriptions.js'
import { streamOfWake } from '../../dispatch/wake-body.js'
import { leaseTtlRangeMs, nameOfPath, subscriptionTypes } from '../../domain/subscriptions.js'
import { body, document } from '../body.js'

const anything = body(z.unknown(), { intoRows: true })
const webhookForm = document(z.looseObject({ webhook: z.looseObject({ url: z.string().optional() }).optional() }), { intoRows: true })

/** Whatever JSON the body is; `webhook.url`, if there, is a string (row 1). */
export function sentSubscription(request: FastifyRequest): unknown {
  const sent = anything(request)
  const isObject = typeof sent === 'object' && sent !== null && !Array.isArray(sent)
  return isObject ? webhookForm(sent, request.server.limits.maxJsonDepth, 0) : sent
}

export const sentAnything = anything

export const callbackBody = body(
  z.looseObject({
    wake_id: z.string().optional(),
    generation: z.number().optional(),
    acks: z.array(z.looseObject({ stream: z.string().optional(), path: z.string().optional(), offset: z.string() })).optional(),
    done: z.boolean().optional(),
  }),
  { intoRows: true },
)

/** What clients send, for the document. */
export const subscriptionForm = z.object({
  type: z.enum(subscriptionTypes),
  pattern: z.string().optional().describe('`*`: one segment, `**`: any number of them'),
  streams: z.array(z.string()).optional(),
  webhook: z.object({ url: z.string() }).optional().describe('Of webhooks'),
  wake_stream: z.string().optional().describe('Of pull-wakes'),
  lease_ttl_ms: z.int().min(leaseTtlRangeMs.least).max(leaseTtlRangeMs.most).optional(),
  description: z.string().optional(),
})
export const streamsForm = z.object({ streams: z.array(z.string()) })
export const claimForm = z.object({ worker: z.string() })

const linkType = z.enum(['explicit', 'glob'])
export const subscription = z
  .object({
    id: z.string(),
    subscription_id: z.string(),
    type: z.enum(subscriptionTypes),
    pattern: z.string().optional(),
    streams: z.array(z.object({ path: z.string(), link_type: linkType, acked_offset: z.string() })),
    webhook: z
      .object({ url: z.string(), signing: z.object({ alg: z.literal('ed25519'), kid: z.string(), jwks_url: z.string() }) })
      .optional(),
    wake_stream: z.string().optional(),
    lease_ttl_ms: z.int(),
    description: z.string().optional(),
    created_at: z.string(),
    status: z.enum(['active', 'failed']),
  })
  .meta({ id: 'Subscription' })

export const claimed = z.object({
  wake_id: z.string(),
  generation: z.int(),
  token: z.string(),
  lease_ttl_ms: z.int(),
  streams: z.array(
    z.object({ path: z.string(), link_type: linkType, acked_offset: z.string(), tail_offset: z.string(), has_pending: z.boolean() }),
  ),
})
export const heard = z.object({ ok: z.literal(true), next_wake: z.boolean() })

export function shownSubscription({ subscription: stored, links }: ShownSubscription, signing: SigningMetadata, baseUrl: string): object {
  const { id, mount, type, pattern, webhook_url, wake_stream, lease_ttl_ms, description, created_at, failures } = stored
  return {
    id,
    subscription_id: id,
    type,
    ...(pattern === null ? {} : { pattern }),
    streams: links.map(({ path, is_explicit, acked }) => ({
      path: nameOfPath(mount, path),
      link_type: is_explicit ? 'explicit' : 'glob',
      acked_offset: acked,
    })),
    ...(webhook_url === null
      ? {}
      : {
          webhook: {
            url: webhook_url,
            signing: { alg: signing.alg, kid: signing.kid, jwks_url: publicUrl(baseUrl, `${mount}/__ds/jwks.json`) },
          },
        }),
    ...(wake_stream === null ? {} : { wake_stream: nameOfPath(mount, wake_stream) }),
    lease_ttl_ms,
    ...(description === null ? {} : { description }),
    created_at: created_at.toISOString(),
    status: failures > 0 ? 'failed' : 'active',
  }
}

export const shownClaim = ({ wake, links, claimToken }: ClaimedWake): object => ({
  wake_id: wake.wake_id,
  generation: wake.generation,
  token: claimToken,
  lease_ttl_ms: wake.lease_ttl_ms,
  streams: links.map((link) => streamOfWake(wake.mount, link)),
})

/** Without a charset (spec/06 §2): bytes, for Fastify gives text one. */
export const sendPlainJson = async (reply: FastifyReply, status: number, value: object): Promise<FastifyReply> =>
  await reply
    .code(status)
    .header('content-type', 'application/json')
    .send(Buffer.from(JSON.stringify(value)))
