/** Cross-origin headers of every response of every status (spec/02 §1.4, spec/14 §2): browsers must reach all of it, and read all headers. */
import type { FastifyReply } from 'fastify'

/** `*` does not cover `authorization`; older browsers do not know `*` at all, hence the names. */
export const corsHeaders: Readonly<Record<string, string>> = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': 'GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS',
  'access-control-allow-headers': [
    '*',
    'authorization',
    'content-type',
    'if-none-match',
    'electric-claim-token',
    'electric-owner-entity',
    'electric-principal',
    'ngrok-skip-browser-warning',
    'producer-id',
    'producer-epoch',
    'producer-seq',
    'stream-closed',
    'stream-expires-at',
    'stream-fork-offset',
    'stream-fork-sub-offset',
    'stream-forked-from',
    'stream-seq',
    'stream-ttl',
  ].join(', '),
  'access-control-expose-headers': '*',
}

/** To be called before routing, so that refusals and unknown routes carry the headers too. */
export function allowCrossOrigin(reply: FastifyReply): void {
  reply.headers(corsHeaders)
}

/** What the stream routes add (spec/14 §2). */
export const streamSecurityHeaders: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'cross-origin-resource-policy': 'cross-origin',
}
