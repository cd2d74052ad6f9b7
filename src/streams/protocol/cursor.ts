/** `Stream-Cursor`: varies cache keys, carries no position (spec/14 §2.6). */

const epochMs = Date.UTC(2024, 9, 9)
const intervalMs = 20_000
const maxJitter = 180

/** The current interval; strictly greater than a client's cursor that is not older. */
export function nextCursor(sent: string | undefined, nowMs = Date.now()): string {
  const now = Math.floor((nowMs - epochMs) / intervalMs)
  const known = sent !== undefined && /^\d{1,15}$/.test(sent) ? Number(sent) : -1
  if (known < now) return String(now)
  return String(known + 1 + Math.floor(Math.random() * maxJitter))
}
