/** Waits for a fact, not for time. */
import { setTimeout as wait } from 'node:timers/promises'

export interface EventuallyOptions {
  readonly withinMs?: number
  readonly everyMs?: number
}

/** Repeats `fact` until it neither throws nor answers `false` or `undefined`; at the deadline says what it saw last. */
export async function eventually<Fact>(
  fact: () => Fact | Promise<Fact>,
  { withinMs = 10_000, everyMs = 25 }: EventuallyOptions = {},
): Promise<Exclude<Fact, false | undefined>> {
  const deadline = Date.now() + withinMs
  for (;;) {
    const seen = await observe(fact)
    if ('holds' in seen) return seen.holds
    if (Date.now() > deadline) throw new Error(`not true within ${withinMs} ms; last seen: ${seen.last}`)
    await wait(everyMs)
  }
}

async function observe<Fact>(
  fact: () => Fact | Promise<Fact>,
): Promise<{ readonly holds: Exclude<Fact, false | undefined> } | { readonly last: string }> {
  try {
    const value = await fact()
    if (value === false || value === undefined) return { last: String(value) }
    return { holds: value as Exclude<Fact, false | undefined> } // just checked
  } catch (failure) {
    return { last: failure instanceof Error ? failure.message : String(failure) }
  }
}
