/**
 * The heartbeats of a runner with its diagnostics (spec/07 §3.5, §5): at start, every interval, soon after a change; at most one in flight.
 *
 * Two failures in a row: the connection to the wake stream is taken for dead.
 */
import { orOverdue } from '../../src/dev/echo/overdue.js'
import type { ClaimOutcome } from './runner-claim.js'

type Counter = 'reconnect_count' | 'events_received' | 'claims_succeeded' | 'claims_skipped' | 'claims_failed'

export interface Diagnostics {
  readonly status: 'stopped' | 'starting' | 'connecting' | 'streaming' | 'reconnecting' | 'stopping'
  readonly started_at: string
  readonly stream_connected: boolean
  readonly stream_connected_since: string | null
  readonly reconnect_count: number
  readonly last_error: string | null
  readonly last_error_at: string | null
  readonly last_heartbeat_at: string | null
  readonly last_heartbeat_ok: boolean
  readonly last_claim_at: string | null
  readonly last_claim_result: 'claimed' | 'no_work' | 'error' | null
  readonly last_dispatch_at: string | null
  readonly events_received: number
  readonly claims_succeeded: number
  readonly claims_skipped: number
  readonly claims_failed: number
}

export interface RunnerHeartbeatOptions {
  readonly url: () => string
  readonly headers: Readonly<Record<string, string>>
  readonly everyMs: number
  readonly offset: () => string
  readonly signal: AbortSignal
  readonly onSilence: () => void
}

const changeDelayMs = 2_000
const silentAfter = 2
const now = (): string => new Date().toISOString()

export class RunnerHeartbeat {
  readonly #options: RunnerHeartbeatOptions
  #diagnostics: Diagnostics = {
    status: 'connecting',
    started_at: now(),
    stream_connected: false,
    stream_connected_since: null,
    reconnect_count: 0,
    last_error: null,
    last_error_at: null,
    last_heartbeat_at: null,
    last_heartbeat_ok: false,
    last_claim_at: null,
    last_claim_result: null,
    last_dispatch_at: null,
    events_received: 0,
    claims_succeeded: 0,
    claims_skipped: 0,
    claims_failed: 0,
  }
  #interval: NodeJS.Timeout | undefined
  #soon: NodeJS.Timeout | undefined
  #isSending = false
  #isDue = false
  #isStopped = false
  #failures = 0

  constructor(options: RunnerHeartbeatOptions) {
    this.#options = options
  }

  get diagnostics(): Readonly<Record<string, unknown>> {
    return { ...this.#diagnostics }
  }

  start(): void {
    if (this.#options.everyMs > 0) this.#interval = setInterval(() => this.#beat(), this.#options.everyMs)
    this.#beat()
  }

  stop(): void {
    this.#isStopped = true
    clearInterval(this.#interval)
    clearTimeout(this.#soon)
  }

  change(changed: Partial<Diagnostics>): void {
    this.#diagnostics = { ...this.#diagnostics, ...changed }
    if (this.#isStopped || this.#soon !== undefined) return
    this.#soon = setTimeout(() => {
      this.#soon = undefined
      this.#beat()
    }, changeDelayMs)
  }

  count(counter: Counter): void {
    this.change({ [counter]: this.#diagnostics[counter] + 1 })
  }

  failed(failure: unknown): void {
    this.change({ last_error: failure instanceof Error ? failure.message : String(failure), last_error_at: now() })
  }

  reconnecting(): void {
    this.change({ status: 'reconnecting', stream_connected: false, stream_connected_since: null })
    this.count('reconnect_count')
  }

  claimed(outcome: ClaimOutcome): void {
    switch (outcome.kind) {
      case 'claimed':
        this.change({ last_claim_at: now(), last_claim_result: 'claimed', last_dispatch_at: now() })
        this.count('claims_succeeded')
        return
      case 'skipped':
        this.change({ last_claim_at: now(), last_claim_result: 'no_work' })
        this.count('claims_skipped')
        return
      case 'failed':
        this.change({ last_claim_at: now(), last_claim_result: 'error' })
        this.count('claims_failed')
        this.failed(`the claim failed: ${outcome.status} ${outcome.text}`)
    }
  }

  #beat(): void {
    if (this.#isStopped) return
    if (this.#isSending) {
      this.#isDue = true
      return
    }
    this.#isSending = true
    this.#send()
      .catch(() => false)
      .then((isOk) => this.#sent(isOk))
      .catch(() => undefined) // `#sent` does not throw
  }

  #sent(isOk: boolean): void {
    this.#isSending = false
    this.#failures = isOk ? 0 : this.#failures + 1
    this.#diagnostics = { ...this.#diagnostics, last_heartbeat_at: now(), last_heartbeat_ok: isOk }
    if (this.#failures >= silentAfter && !this.#isStopped) {
      this.#failures = 0
      this.#options.onSilence()
    }
    const isDue = this.#isDue
    this.#isDue = false
    if (isDue) this.#beat()
  }

  async #send(): Promise<boolean> {
    const { url, headers, everyMs, offset, signal } = this.#options
    const response = await fetch(url(), {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({
        lease_ms: 3 * (everyMs > 0 ? everyMs : 30_000),
        wake_stream_offset: offset(),
        diagnostics: this.#diagnostics,
      }),
      signal: orOverdue(signal, 10_000),
    })
    await response.arrayBuffer()
    return response.ok
  }
}
