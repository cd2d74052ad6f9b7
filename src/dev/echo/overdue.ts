/** Aborted with `signal`, or after `ms`. A timer holds it: Node lets go of an `AbortSignal.timeout` that only an `AbortSignal.any` depends on. */
export function orOverdue(signal: AbortSignal, ms: number): AbortSignal {
  const overdue = new AbortController()
  setTimeout(() => overdue.abort(new Error(`no answer within ${ms / 1_000} s`)), ms).unref()
  return AbortSignal.any([signal, overdue.signal])
}
