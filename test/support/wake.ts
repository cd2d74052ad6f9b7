/** What a runtime is sent and reads: the enriched wake (spec/06 §6.1), the events of a main stream (spec/01 §6), the tokens it sends back. */
import { z } from 'zod'

const enrichedWake = z.looseObject({
  consumerId: z.string(),
  wakeId: z.string(),
  epoch: z.number().int().positive(),
  streamPath: z.string().startsWith('/'),
  streams: z.array(z.looseObject({ path: z.string().startsWith('/'), offset: z.string() })).min(1),
  callback: z.url(),
  claimToken: z.string().min(1),
  triggerEvent: z.string(),
  entity: z.looseObject({
    type: z.string(),
    url: z.string().startsWith('/'),
    status: z.string(),
    streams: z.looseObject({ main: z.string() }),
    tags: z.record(z.string(), z.string()).optional(),
    spawnArgs: z.record(z.string(), z.unknown()).optional(),
    sandbox: z.looseObject({ profile: z.string() }).nullish(),
    createdBy: z.string().optional(),
  }),
  principal: z.looseObject({ url: z.string(), key: z.string().nullable() }).optional(),
})

export type Wake = Readonly<z.infer<typeof enrichedWake>>

/** The wake in a delivery or in the answer to a runner's claim, or why it is none. */
export function parseWake(body: unknown): { readonly wake: Wake } | { readonly problem: string } {
  const parsed = enrichedWake.safeParse(body)
  return parsed.success ? { wake: parsed.data } : { problem: z.prettifyError(parsed.error) }
}

/** The offset that says which loaded events are fresh (spec/06 §6.2). */
export const sentOffset = (wake: Wake): string =>
  wake.streams.find(({ path }) => path === wake.streamPath)?.offset ?? wake.streams[0]?.offset ?? '-1'

const streamEvent = z.looseObject({
  type: z.string(),
  key: z.string(),
  value: z.record(z.string(), z.unknown()).optional(),
  headers: z.looseObject({ operation: z.string().optional(), offset: z.string(), forkedFrom: z.unknown().optional() }),
})

export type StreamEvent = Readonly<z.infer<typeof streamEvent>>

/** An item of a main stream; throws on one that would end a reader's session. */
export const parseStreamEvent = (item: unknown): StreamEvent => streamEvent.parse(item)

/** An event that a handler writes; `offset` is the server's business. */
export interface WrittenEvent {
  readonly type: string
  readonly key: string
  readonly value?: Readonly<Record<string, unknown>>
  readonly headers: { readonly operation: 'insert' | 'update' | 'upsert' | 'delete'; readonly [header: string]: unknown }
}

export type TokenHeader = 'authorization' | 'electric-claim-token' | 'both'

/** How claim and write tokens travel (spec/06 §2): `electric-claim-token` leaves `authorization` to whoever authenticates the tenant. */
export function tokenHeaders(token: string, header: TokenHeader): Readonly<Record<string, string>> {
  return {
    ...(header === 'electric-claim-token' ? {} : { authorization: `Bearer ${token}` }),
    ...(header === 'authorization' ? {} : { 'electric-claim-token': token }),
  }
}

/** What a message says: tests send texts, or objects with a text. */
export function textOf(event: StreamEvent): string {
  const payload = event.value?.payload
  if (typeof payload === 'string') return payload
  const text = z.looseObject({ text: z.string() }).safeParse(payload)
  return text.success ? text.data.text : JSON.stringify(payload ?? null)
}

/** A queued message gets its turn (spec/01 §7.9). */
export const promotion = (key: string, entity: string): WrittenEvent => ({
  type: 'inbox',
  key,
  value: { status: 'processed', processed_at: new Date().toISOString() },
  headers: { operation: 'update', from: entity },
})

export const errorEvent = (code: string, failure: unknown, key: string): WrittenEvent => ({
  type: 'error',
  key: `error-${key}`,
  value: { error_code: code, message: failure instanceof Error ? failure.message : String(failure) },
  headers: { operation: 'insert' },
})
