/** Verdicts of forks as they travel through Temporal, where a payload has at most 2 MiB. */
import type { ForkVerdict } from '../domain/operations.js'

/** URLs that a result carries; the outcome's row has all of them. */
const maxListedUrls = 200

export function withBoundedList(verdict: ForkVerdict): ForkVerdict {
  if (verdict.outcome !== 'forked' || (verdict.urls?.length ?? 0) <= maxListedUrls) return verdict
  const { urls: _, ...rest } = verdict
  return rest
}
