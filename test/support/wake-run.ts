/**
 * One wake, worked on as the runtime does it: claim, catch-up, heartbeats, handler passes, done (spec/06 §12, spec/05 §5).
 *
 * W1  Nothing is acknowledged that was not handed to a handler or found to be no work: the acknowledged offset stays below the first message
 *     or wake that was read and not taken, also where own writes lie above it. Before done, everything up to the last own write is read.
 * W2  A refused claim ends the run without done. So does a stream that cannot be read, a refused or lost append, a refused heartbeat: the end
 *     of the lease recovers. A heartbeat without any answer is no refusal; the next one tries again.
 * W3  After its death a run sends nothing more, whatever its handler still does.
 */
import type { Signal } from '../../src/domain/signals.js'
import { Bell } from './bell.js'
import { EntityTail } from './entity-tail.js'
import { EntityWriter } from './entity-writer.js'
import type { Row } from './freshness.js'
import { RunLife } from './run-life.js'
import type { PassEnding, RunEnding, RunLog, RunRecord } from './run-log.js'
import { callServer } from './server-call.js'
import { SignalDesk } from './signal-desk.js'
import { idleInterrupt, reactions, signalOf } from './signal-reactions.js'
import { errorEvent, promotion, sentOffset, type Wake, type WrittenEvent } from './wake.js'
import { WakeCallback } from './wake-callback.js'
import { baseUrlOf, defaultHeartbeatMs, defaultIdleMs, type RunPoint, type RuntimeOptions, type WakeContext } from './wake-context.js'
import { type Pass, WakeWork } from './wake-work.js'

export interface WakeRunOptions extends RuntimeOptions {
  readonly log: RunLog
  readonly name: string
  /** On every request to the server: none for webhooks, principal and `electric-runner-id` for runners. */
  readonly headers?: Readonly<Record<string, string>>
  /** Whether the run dies here. */
  readonly diesAt?: (point: RunPoint, wake: Wake) => boolean
}

const ownWritesReadWithinMs = 5_000
const triggerWaitMs = 100

export class WakeRun {
  readonly wake: Wake
  readonly ended: Promise<RunEnding>
  readonly #options: WakeRunOptions
  readonly #baseUrl: string
  readonly #headers: Readonly<Record<string, string>>
  readonly #record: RunRecord
  readonly #callback: WakeCallback
  readonly #life = new RunLife()
  readonly #bell = new Bell()
  readonly #signals: SignalDesk
  #tail: EntityTail | undefined
  #writer: EntityWriter | undefined
  #writeToken = ''
  #heartbeat: NodeJS.Timeout | undefined
  /** Known once the stream is loaded. */
  #taking: WakeWork | undefined
  #passes = 0
  #current: AbortController | undefined
  #abortsNext = false
  #isEnding = false
  #isShuttingDown = false

  private constructor(wake: Wake, options: WakeRunOptions) {
    this.wake = wake
    this.#options = options
    this.#baseUrl = baseUrlOf(options)
    this.#headers = options.headers ?? {}
    this.#record = options.log.begin(options.name, wake)
    this.#callback = new WakeCallback(wake, this.#headers, options.tokenHeader ?? 'authorization', this.#life.death)
    this.#signals = new SignalDesk(wake.entity.url, (event) => this.#write([event]))
    this.ended = this.#toItsEnd()
  }

  static start(wake: Wake, options: WakeRunOptions): WakeRun {
    return new WakeRun(wake, options)
  }

  /** W3. */
  die(): void {
    this.#life.die()
    this.#cutOff()
  }

  /** Ends at the next checkpoint, with its done. */
  finish(): void {
    this.#isShuttingDown = true
    this.#isEnding = true
    this.#bell.ring()
  }

  async #toItsEnd(): Promise<RunEnding> {
    const ending = await Promise.race([this.#work(), this.#life.over]).catch((failure: unknown): RunEnding => {
      if (this.#life.death.aborted) return { kind: 'died' }
      return { kind: 'failed', reason: failure instanceof Error ? failure.message : String(failure) }
    })
    clearInterval(this.#heartbeat)
    this.#tail?.close()
    this.#options.log.end(this.#record, ending)
    return ending
  }

  async #work(): Promise<RunEnding> {
    const { types, sandboxProfiles, log, heartbeatMs = defaultHeartbeatMs } = this.#options
    if (types?.includes(this.wake.entity.type) === false) return { kind: 'not-served' }
    this.#reach('delivered')
    const tail = EntityTail.open(this.#baseUrl + this.wake.streamPath, this.#headers, () => this.#streamChanged())
    this.#tail = tail
    const claim = await this.#callback.claim()
    this.#life.check()
    if (!claim.ok) return { kind: 'refused', at: 'claim', status: claim.status, text: claim.text } // W2
    log.claimed(this.#record)
    if (claim.writeToken !== undefined) this.#mayWrite(claim.writeToken)
    this.#reach('claimed')
    this.#heartbeat = setInterval(() => {
      this.#beat().catch((failure: unknown) => this.#fail(String(failure)))
    }, heartbeatMs)
    await tail.loaded()
    this.#reach('loaded')
    const profile = this.wake.entity.sandbox?.profile
    if (profile !== undefined && sandboxProfiles?.includes(profile) === false) return await this.#done(sentOffset(this.wake))
    const work = await this.#takeAll(tail)
    await this.#settleWrites(tail)
    this.#reach('flushed')
    return await this.#done(work.takenOffset(this.#writer?.lastOffset, { leavesQueue: this.#isShuttingDown })) // W1
  }

  async #done(offset: string | undefined): Promise<RunEnding> {
    clearInterval(this.#heartbeat)
    this.#options.log.rest(this.#record)
    const answer = await this.#callback.done(offset === undefined ? [] : [{ path: this.wake.streamPath, offset }])
    this.#life.check()
    if (!answer.ok) return { kind: 'refused', at: 'done', status: answer.status, text: answer.text }
    return { kind: 'done', nextWake: answer.nextWake, acked: offset }
  }

  async #takeAll(tail: EntityTail): Promise<WakeWork> {
    const from = sentOffset(this.wake)
    const holdsNothing = (): boolean => tail.events.every(({ headers }) => headers.offset < from)
    if (holdsNothing() && this.wake.triggerEvent === 'inbox') await this.#bell.until(() => !holdsNothing(), triggerWaitMs)
    const work = new WakeWork(tail, from, ({ key }) => this.#write([promotion(key, this.wake.entity.url)]))
    this.#taking = work
    this.#readSignals(tail)
    if (holdsNothing() && !this.#isEnding)
      await this.#invoke(tail, { wakeType: this.wake.triggerEvent, messages: [], wakes: [], fresh: [] })
    for (;;) {
      this.#life.check()
      if (this.#isEnding) return work
      const pass = work.nextPass()
      if (pass === 'queue is paused') return work
      if (pass !== undefined) await this.#invoke(tail, pass)
      else if (!(await this.#moreComes(tail, work))) return work
    }
  }

  /** The idle window; at its end a last look at all that lies below the own writes (W1). */
  async #moreComes(tail: EntityTail, work: WakeWork): Promise<boolean> {
    const hasMore = (): boolean => this.#isEnding || this.#life.isOver || work.hasMore()
    if (await this.#bell.until(hasMore, this.#options.idleMs ?? defaultIdleMs)) return true
    await this.#settleWrites(tail)
    return hasMore()
  }

  async #invoke(tail: EntityTail, pass: Pass): Promise<void> {
    const controller = new AbortController()
    this.#current = controller
    this.#passes += 1
    const record = this.#options.log.beginPass(this.#record, pass.messages)
    if (this.#abortsNext) this.#interrupt('SIGINT')
    record.ending = await this.#callHandler(this.#contextOf(tail, pass, controller.signal), controller.signal)
    this.#current = undefined
    this.#reach('handled')
  }

  async #callHandler(context: WakeContext, signal: AbortSignal): Promise<PassEnding> {
    try {
      this.#reach('handling')
      await Promise.race([this.#options.handler(context), this.#life.over])
      return signal.aborted ? 'aborted' : 'returned'
    } catch (failure) {
      if (this.#life.isOver) return 'cut off'
      if (signal.aborted) return 'aborted'
      this.#write([errorEvent('HANDLER_FAILED', failure, `${this.wake.epoch}-${this.#passes}`)])
      return 'threw'
    }
  }

  #contextOf(tail: EntityTail, pass: Pass, signal: AbortSignal): WakeContext {
    const tokenHeader = this.#options.tokenHeader ?? 'authorization'
    const caller = { baseUrl: this.#baseUrl, headers: this.#headers, writeToken: this.#writeToken, tokenHeader, signal: this.#life.death }
    return {
      wake: this.wake,
      wakeType: pass.wakeType,
      events: pass.messages,
      wakes: pass.wakes,
      fresh: pass.fresh,
      history: tail.events,
      pass: this.#passes,
      signal,
      write: (...events) => this.#write(events),
      flush: async () => await this.#writer?.flush(),
      call: async (method, path, body) => await callServer(caller, this.wake, method, path, body),
      onSignal: (listener) => {
        this.#signals.listener = listener
      },
    }
  }

  #mayWrite(writeToken: string): void {
    this.#writeToken = writeToken
    this.#writer = new EntityWriter({
      baseUrl: this.#baseUrl,
      wake: this.wake,
      writeToken,
      headers: this.#headers,
      tokenHeader: this.#options.tokenHeader ?? 'authorization',
      signal: this.#life.death,
      onFailure: (failure) => this.#fail(`WRITE_FAILED: ${failure.message}`),
    })
  }

  #write(events: readonly WrittenEvent[]): void {
    this.#life.check() // W3
    if (this.#writer === undefined) this.#fail('WRITE_FAILED: the claim gave no write token')
    this.#writer?.write(events)
  }

  async #settleWrites(tail: EntityTail): Promise<void> {
    await this.#signals.settled()
    await this.#writer?.flush()
    this.#life.check()
    const written = this.#writer?.lastOffset
    if (written !== undefined) await tail.reaches(written, ownWritesReadWithinMs)
  }

  #streamChanged(): void {
    if (this.#tail?.failure !== undefined && this.#taking !== undefined) this.#fail(`the stream was lost: ${this.#tail.failure.message}`)
    if (this.#tail !== undefined) this.#readSignals(this.#tail)
    this.#bell.ring()
  }

  #readSignals(tail: EntityTail): void {
    if (this.#taking === undefined || this.#life.isOver) return
    for (const row of this.#signals.take(this.#taking.fresh, tail.events)) this.#react(row)
  }

  #react(row: Row): void {
    const signal = signalOf(row)
    if (signal === undefined) return
    const previousState = this.#current === undefined ? this.wake.entity.status : 'running'
    const findsNothing = signal === 'SIGINT' && this.#current === undefined
    // The server said that a run goes on, so the interrupt was meant for the handler that is about to begin.
    const isEarly = findsNothing && this.#passes === 0 && this.wake.entity.status === 'running'
    const reaction = findsNothing && !isEarly ? idleInterrupt : reactions[signal]
    this.#signals.answer(row, reaction, previousState)
    if (isEarly) {
      this.#abortsNext = true
      return
    }
    if (reaction.aborts) this.#interrupt(signal)
    this.#isEnding ||= reaction.ends
    if (reaction.promotes) this.#taking?.openQueue()
  }

  #interrupt(signal: Signal): void {
    this.#current?.abort(signal)
    this.#abortsNext = false
    this.#isEnding = true
  }

  async #beat(): Promise<void> {
    const answer = await this.#callback.heartbeat()
    if (answer.ok || answer.status === 0 || this.#record.endedAt !== undefined || this.#life.isOver) return // W2
    this.#writer?.write([errorEvent('HEARTBEAT_FAILED', answer.text, String(this.wake.epoch))])
    this.#fail(`HEARTBEAT_FAILED: ${answer.status} ${answer.text}`)
  }

  #fail(reason: string): void {
    this.#life.fail(new Error(reason))
    this.#cutOff()
  }

  #cutOff(): void {
    this.#current?.abort()
    this.#bell.ring()
  }

  #reach(point: RunPoint): void {
    if (this.#options.diesAt?.(point, this.wake)) this.die()
    this.#life.check()
  }
}
