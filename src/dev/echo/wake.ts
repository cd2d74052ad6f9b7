/** What a handler is sent, reads and writes: a wake (spec/06 §6.1), and the events of its entity's stream (spec/01 §6). */
import { z } from 'zod'
import type { StateEvent } from '../../domain/events.js'

const wakeForm = z.looseObject({
  wakeId: z.string().min(1),
  epoch: z.number().int().positive(),
  streamPath: z.string().startsWith('/'),
  streams: z.array(z.looseObject({ path: z.string(), offset: z.string() })),
  claimToken: z.string().min(1),
  entity: z.looseObject({ type: z.string(), url: z.string().startsWith('/'), status: z.string() }),
})

export type Wake = Readonly<z.infer<typeof wakeForm>>

/** Undefined: it is none. */
export function parseWake(text: string): Wake | undefined {
  return wakeForm.safeParse(jsonOf(text)).data
}

/** Events from here on are fresh (spec/06 §6.2). */
export const freshFrom = (wake: Wake): string => wake.streams.find(({ path }) => path === wake.streamPath)?.offset ?? '-1'

const eventForm = z.looseObject({
  type: z.string(),
  key: z.string(),
  value: z.record(z.string(), z.json()).optional(),
  headers: z.looseObject({
    operation: z.string().optional(),
    offset: z.string(),
    forkedFrom: z.unknown().optional(),
    /** Ours: the key of the message that a run answers. */
    answers: z.string().optional(),
  }),
})

export type StreamEvent = Readonly<z.infer<typeof eventForm>>

/** Whatever is no event is no message either, and skipped: anybody with a token may write anything. */
export function parseEvents(text: string): readonly StreamEvent[] {
  const items = z.array(z.unknown()).parse(jsonOf(text))
  return items.flatMap((item) => eventForm.safeParse(item).data ?? [])
}

export type WrittenEvent = StateEvent

export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
