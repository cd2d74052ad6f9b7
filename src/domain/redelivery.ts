/** When a delivery that failed is tried again (spec/06 §4). Pure, but for the dice. */
const firstMs = 1_000
const mostMs = 60_000
const spread = 0.2
/** The longest `retry-after` that a handler may ask for. */
const mostAskedMs = 600_000

/** After the `failures`-th failure in a row; `retryAfterMs` is what the handler asked for. */
export function retryInMs(failures: number, retryAfterMs?: number): number {
  const backOffMs = Math.min(firstMs * 2 ** Math.min(failures - 1, 20), mostMs) * (1 - spread + 2 * spread * Math.random())
  return Math.round(Math.max(backOffMs, Math.min(retryAfterMs ?? 0, mostAskedMs)))
}

/** After so many wakes in a row that acknowledged nothing, of a handler that lives: the first may have been ended by chance. */
export const againInMs = (losses: number): number => (losses < 2 ? 0 : retryInMs(losses - 1))

/** The three forms of an HTTP-date (RFC 9110 §5.6.7); the last one names no zone. `Date.parse` takes much else for a date, also "120.5". */
const httpDate =
  /^(?:[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT|[A-Z][a-z]+day, \d\d-[A-Z][a-z]{2}-\d\d [\d:]{8} GMT|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [\d:]{8} \d{4})$/

/** The value of a `retry-after` header: seconds, or a date. Undefined where it is neither. */
export function retryAfterMsOf(header: string | undefined, nowMs: number): number | undefined {
  const text = header?.trim() ?? ''
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1_000, mostAskedMs)
  if (!httpDate.test(text)) return undefined
  const atMs = Date.parse(text.endsWith('GMT') ? text : `${text} GMT`)
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs)
}

/** How long an announcement stays alone before the next, after `announcements` of them. */
export const announceAgainMs = (announcements: number, firstAgainMs: number): number =>
  firstAgainMs * 2 ** Math.min(Math.max(announcements - 1, 0), 6)
