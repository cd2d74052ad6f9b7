/** One claim of a runner, and what its answer means to the shipped client (spec/07 §3.7). */
import { orOverdue } from '../../src/dev/echo/overdue.js'
import { parseWake, type Wake } from './wake.js'

/** An event of a wake stream, sent back as it came. */
export interface WakeEvent {
  readonly type: 'wake'
  readonly subscription_id: string
  readonly stream: string
  readonly [member: string]: unknown
}

export type ClaimOutcome = { readonly status: number; readonly text: string } & (
  | { readonly kind: 'claimed'; readonly wake: Wake }
  | { readonly kind: 'skipped' }
  | { readonly kind: 'failed' }
)

export interface Claim {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly event: WakeEvent
  /** Whether its answer gets lost. */
  readonly isLost: boolean
  readonly signal: AbortSignal
}

export async function claimWake({ url, headers, event, isLost, signal }: Claim): Promise<ClaimOutcome> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(event),
      signal: orOverdue(signal, 30_000),
    })
    const text = await response.text()
    return isLost ? { kind: 'failed', status: 0, text: 'the answer was lost' } : meaningOf(response.status, text)
  } catch (failure) {
    return { kind: 'failed', status: 0, text: failure instanceof Error ? failure.message : String(failure) }
  }
}

function meaningOf(status: number, text: string): ClaimOutcome {
  if (status === 204) return { kind: 'skipped', status, text }
  if (status === 409 && /ALREADY_CLAIMED|NO_PENDING_WORK/.test(text)) return { kind: 'skipped', status, text }
  if (status < 200 || status >= 300) return { kind: 'failed', status, text }
  const body = jsonOf(text)
  if (typeof body === 'object' && body !== null && 'done' in body && body.done === true) return { kind: 'skipped', status, text }
  const parsed = parseWake(body)
  return 'wake' in parsed ? { kind: 'claimed', wake: parsed.wake, status, text } : { kind: 'failed', status, text: parsed.problem }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
