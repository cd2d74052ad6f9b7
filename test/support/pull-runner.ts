/**
 * A pull-wake runner as shipped (spec/07 §5): reads its wake stream, claims over HTTP, works on what it got; with faults to order.
 *
 * R1  A wake event is claimed at most once: whatever the claim answers, or if nothing answers, the event is not tried again.
 * R2  Of a stream that is being claimed or run only the latest event is kept; it is claimed when the stream is free.
 * R3  The offset moves on whether or not the claim worked; it lives in memory and in heartbeats.
 * R4  After its death a runner sends nothing more. Another one with the same id may take its place.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { stream } from '@durable-streams/client'
import { z } from 'zod'
import { RunLog } from './run-log.js'
import { claimWake, type WakeEvent } from './runner-claim.js'
import { RunnerHeartbeat } from './runner-heartbeat.js'
import type { Wake } from './wake.js'
import { baseUrlOf, type RunPoint, type RuntimeOptions } from './wake-context.js'
import { WakeRun } from './wake-run.js'

export interface PullRunnerOptions extends RuntimeOptions {
  readonly id: string
  /** On every request: `electric-principal`, perhaps `authorization`. */
  readonly headers?: Readonly<Record<string, string>>
  /** Registers itself before it starts; default true. */
  readonly registers?: boolean
  /** Default: what registration answered as `wake_stream_offset`, else `-1`. */
  readonly offset?: string
  readonly runnerHeartbeatMs?: number
  /** How long it waits before it connects again, doubling up to thirty times that. */
  readonly reconnectMs?: number
}

const registration = z.looseObject({ id: z.string(), wake_stream: z.string(), wake_stream_offset: z.string().nullish() })
const wakeEvent = z.looseObject({ type: z.literal('wake'), subscription_id: z.string(), stream: z.string() })

export class PullRunner {
  readonly log: RunLog
  /** What claims answered, in order: a status, 0 where none came. */
  readonly claims: { readonly event: WakeEvent; readonly status: number; readonly text: string }[] = []
  readonly #options: PullRunnerOptions
  readonly #headers: Readonly<Record<string, string>>
  readonly #ends = new AbortController()
  readonly #death = new AbortController()
  readonly #heartbeat: RunnerHeartbeat
  readonly #runs = new Set<WakeRun>()
  readonly #working = new Set<Promise<void>>()
  /** Streams that are being claimed or run, each with the event that came meanwhile (R2). */
  readonly #busy = new Map<string, WakeEvent | undefined>()
  #connection = new AbortController()
  #wakeStream: string
  #offset: string
  #lostAnswers = 0
  #deathPoint: { readonly point: RunPoint; readonly when: (wake: Wake) => boolean } | undefined
  #reading: Promise<void> = Promise.resolve()

  private constructor(options: PullRunnerOptions) {
    this.#options = options
    this.#headers = options.headers ?? {}
    this.log = options.log ?? new RunLog()
    this.#wakeStream = `/runners/${encodeURIComponent(options.id)}/wake`
    this.#offset = options.offset ?? '-1'
    this.#heartbeat = new RunnerHeartbeat({
      url: () => `${this.#runnerUrl}/heartbeat`,
      headers: this.#headers,
      everyMs: options.runnerHeartbeatMs ?? 500,
      offset: () => this.#offset,
      signal: this.#death.signal,
      onSilence: () => this.#connection.abort(),
    })
  }

  static async start(options: PullRunnerOptions): Promise<PullRunner> {
    const runner = new PullRunner(options)
    if (options.registers !== false) await runner.register()
    runner.#heartbeat.start()
    runner.#reading = runner.#readForEver()
    return runner
  }

  get id(): string {
    return this.#options.id
  }

  /** The position in the wake stream. */
  get offset(): string {
    return this.#offset
  }

  get diagnostics(): Readonly<Record<string, unknown>> {
    return this.#heartbeat.diagnostics
  }

  async register(): Promise<void> {
    const response = await fetch(`${baseUrlOf(this.#options)}/_electric/runners`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...this.#headers },
      body: JSON.stringify({
        id: this.id,
        label: this.#options.name ?? this.id,
        kind: 'local',
        admin_status: 'enabled',
        ...(this.#options.sandboxProfiles === undefined
          ? {}
          : { sandbox_profiles: this.#options.sandboxProfiles.map((name) => ({ name, label: name })) }),
      }),
      signal: this.#death.signal,
    })
    const text = await response.text()
    if (response.status !== 201) throw new Error(`the runner was not registered: ${response.status} ${text}`)
    const registered = registration.parse(JSON.parse(text))
    this.#wakeStream = registered.wake_stream
    this.#offset = this.#options.offset ?? registered.wake_stream_offset ?? '-1'
  }

  /** The next claims reach the server, and their answers are lost on the way. */
  loseClaimAnswers(times = 1): void {
    this.#lostAnswers += times
  }

  /** Dies, whole, when one of its runs comes there. */
  dieAt(point: RunPoint, when: (wake: Wake) => boolean = () => true): void {
    this.#deathPoint = { point, when }
  }

  /** R4. */
  die(): void {
    this.#ends.abort()
    this.#death.abort()
    this.#connection.abort()
    this.#heartbeat.stop()
    for (const run of this.#runs) run.die()
  }

  /** Ends politely: no more claims, each run finishes at its next checkpoint and sends its done. */
  async stop(): Promise<void> {
    this.#heartbeat.change({ status: 'stopping', stream_connected: false })
    this.#ends.abort()
    this.#connection.abort()
    this.#heartbeat.stop()
    for (const run of this.#runs) run.finish()
    await Promise.all([this.#reading, ...this.#working]) // what a claim under way still brings finishes at once
  }

  get #runnerUrl(): string {
    return `${baseUrlOf(this.#options)}/_electric/runners/${encodeURIComponent(this.id)}`
  }

  async #readForEver(): Promise<void> {
    const { reconnectMs = 1_000 } = this.#options
    let pauseMs = reconnectMs
    while (!this.#ends.signal.aborted) {
      this.#connection = new AbortController()
      if (this.#ends.signal.aborted) return
      try {
        await this.#read(this.#connection.signal, () => {
          pauseMs = reconnectMs
        })
      } catch (failure) {
        this.#heartbeat.failed(failure)
      }
      if (this.#ends.signal.aborted) return
      this.#heartbeat.reconnecting()
      await wait(pauseMs, undefined, { signal: this.#ends.signal }).catch(() => undefined) // stopped
      pauseMs = Math.min(pauseMs * 2, reconnectMs * 30)
    }
  }

  async #read(signal: AbortSignal, onConnected: () => void): Promise<void> {
    this.#heartbeat.change({ status: 'connecting' })
    const response = await stream({
      url: baseUrlOf(this.#options) + this.#wakeStream,
      headers: { ...this.#headers },
      offset: this.#offset,
      live: 'long-poll',
      json: true,
      signal,
      warnOnHttp: false,
    })
    onConnected()
    this.#heartbeat.change({ status: 'streaming', stream_connected: true, stream_connected_since: new Date().toISOString() })
    response.subscribeJson((batch) => {
      if (signal.aborted) return
      for (const item of batch.items) this.#hear(item)
      this.#offset = batch.offset // R3
      this.#heartbeat.change({})
    })
    await response.closed
  }

  #hear(item: unknown): void {
    const parsed = wakeEvent.safeParse(item)
    if (!parsed.success) return
    this.#heartbeat.count('events_received')
    this.#look(parsed.data)
  }

  #look(event: WakeEvent): void {
    if (this.#busy.has(event.stream)) {
      this.#busy.set(event.stream, event) // R2
      return
    }
    this.#busy.set(event.stream, undefined)
    const work = this.#claimAndRun(event).finally(() => {
      this.#working.delete(work)
      const kept = this.#busy.get(event.stream)
      this.#busy.delete(event.stream)
      if (kept !== undefined && !this.#ends.signal.aborted) this.#look(kept)
    })
    this.#working.add(work)
    work.catch((failure: unknown) => this.#heartbeat.failed(failure))
  }

  async #claimAndRun(event: WakeEvent): Promise<void> {
    const isLost = this.#lostAnswers > 0
    if (isLost) this.#lostAnswers -= 1
    const claimed = await claimWake({ url: `${this.#runnerUrl}/claim`, headers: this.#headers, event, isLost, signal: this.#death.signal })
    this.claims.push({ event, status: claimed.status, text: claimed.text })
    this.#heartbeat.claimed(claimed)
    if (claimed.kind !== 'claimed' || this.#death.signal.aborted) return // R1
    const run = WakeRun.start(claimed.wake, {
      ...this.#options,
      name: this.#options.name ?? this.id,
      log: this.log,
      headers: { ...this.#headers, 'electric-runner-id': this.id },
      diesAt: (point, wake) => this.#diesAt(point, wake),
    })
    this.#runs.add(run)
    if (this.#ends.signal.aborted) run.finish()
    await run.ended
    this.#runs.delete(run)
  }

  #diesAt(point: RunPoint, wake: Wake): boolean {
    if (this.#deathPoint?.point !== point || !this.#deathPoint.when(wake)) return false
    this.die()
    return true
  }
}
