/**
 * Verdicts as they travel through Temporal, where a payload has at most 2 MiB: a workflow whose answer is larger could never end. The outcome's row
 * has all that they say (of forks: all URLs).
 */
import type { Refusal } from '../domain/errors.js'
import type { Verdict } from '../domain/operations.js'

/** URLs that a result carries; the outcome's row has all of them. */
const maxListedUrls = 200
/** What the refusals of one answer may weigh before they lose their details. */
const maxRefusalBytes = 512 * 1024
/** Of a message, without its details: it may quote what the caller sent. */
const maxMessageCharacters = 200

/** Without the list where that is too long; other verdicts as they are. */
export function withBoundedList<Answer extends Verdict>(verdict: Answer): Answer {
  if (verdict.outcome !== 'forked' || (verdict.urls?.length ?? 0) <= maxListedUrls) return verdict
  const { urls: _, ...rest } = verdict
  return rest as Answer // the list is optional
}

/** In their order; refusals keep what they say as long as there is room. */
export function travelling<Answer extends Verdict>(verdicts: readonly Answer[]): readonly Answer[] {
  let left = maxRefusalBytes
  return verdicts.map((verdict) => {
    if (verdict.outcome !== 'refused') return withBoundedList(verdict)
    left -= Buffer.byteLength(JSON.stringify(verdict.refusal))
    return left >= 0 ? verdict : { ...verdict, refusal: shortened(verdict.refusal) }
  })
}

const shortened = ({ code, status, message }: Refusal): Refusal => ({ code, status, message: message.slice(0, maxMessageCharacters) })
