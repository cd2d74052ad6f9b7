/**
 * One wake of the echo agent from its claim to its done, as any handler does it (spec/06 §12).
 *
 * E1  What is acknowledged was answered, or is no message. Where a signal or the end of this process ends the wake early, the rest stays pending.
 * E2  A message is answered once: the run that answers it names it, and a wake that comes again finds it. A run that was cut off by a crash is closed
 *     by the server, and its message gets another one.
 * E3  A refusal ends everything without done: the wake is somebody else's, or nobody's. So does a heartbeat that is refused.
 *
 * A crash at any line lets the lease run out; what was not acknowledged comes again.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { answerTo } from './answer.js'
import { type Message, nextRun, unanswered, type View } from './rows.js'
import { ServerCalls } from './server-calls.js'
import { acknowledgement, signalsIn } from './signals.js'
import { freshFrom, type StreamEvent, type Wake } from './wake.js'

export interface EchoRunOptions {
  readonly wake: Wake
  readonly serverUrl: string
  /** Aborted: says the rest of its answer at once, and begins nothing new. */
  readonly stopping: AbortSignal
  /** Aborted: says nothing more, as if it had crashed. */
  readonly cutOff: AbortSignal
}

const heartbeatMs = 10_000
/** About as fast as a model talks. */
const paceMs = 60

/** Throws `Refused`, or the failure that kept it from going on; then no done was sent. */
export async function runEcho(options: EchoRunOptions): Promise<void> {
  const life = new AbortController()
  const calls = new ServerCalls(options.serverUrl, options.wake, AbortSignal.any([life.signal, options.cutOff]))
  await calls.claim()
  const heart = setInterval(() => {
    calls.heartbeat().catch((failure: unknown) => life.abort(failure)) // E3
  }, heartbeatMs)
  try {
    const acked = await new EchoRun(options, calls).untilNothingIsLeft()
    clearInterval(heart) // no heartbeat may follow the done
    await calls.done(acked)
  } finally {
    clearInterval(heart)
    life.abort()
  }
}

class EchoRun {
  readonly #wake: Wake
  readonly #calls: ServerCalls
  readonly #stopping: AbortSignal
  readonly #heard = new Set<string>()
  #events: readonly StreamEvent[] = []
  #tail = '-1'
  #isEnding = false

  constructor({ wake, stopping }: EchoRunOptions, calls: ServerCalls) {
    this.#wake = wake
    this.#calls = calls
    this.#stopping = stopping
  }

  /** What may be acknowledged then. */
  async untilNothingIsLeft(): Promise<string | undefined> {
    for (;;) {
      await this.#readOn()
      if (await this.#listens({ isAnswering: false })) continue // read once more, so that the own writes are acknowledged too
      if (this.#isEnding || this.#stopping.aborted) return this.#ackable()
      const [message] = unanswered(this.#view)
      if (message === undefined) return this.#tail // E1
      await this.#answer(message)
    }
  }

  get #view(): View {
    return { events: this.#events, from: freshFrom(this.#wake) }
  }

  async #answer(message: Message): Promise<void> {
    const { beginning, deltas, ending } = answerTo(message, this.#wake.entity.url, nextRun(this.#view), Date.now())
    await this.#calls.append(beginning)
    for (const [index, delta] of deltas.entries()) {
      await this.#pause()
      if (this.#stopping.aborted) return await this.#calls.append([...deltas.slice(index), ...ending('stop')])
      await this.#readOn()
      const isInterrupted = (await this.#listens({ isAnswering: true })) === 'interrupted'
      if (isInterrupted) return await this.#calls.append(ending('aborted'))
      await this.#calls.append([delta])
    }
    await this.#calls.append(ending('stop'))
  }

  async #readOn(): Promise<void> {
    const { events, tail } = await this.#calls.read(this.#tail)
    this.#events = [...this.#events, ...events]
    this.#tail = tail
  }

  /** Acknowledges signals that were not heard yet; undefined: there are none. */
  async #listens({ isAnswering }: { readonly isAnswering: boolean }): Promise<'heard' | 'interrupted' | undefined> {
    const heard = signalsIn(this.#view, isAnswering).filter(({ row }) => !this.#heard.has(row.key))
    if (heard.length === 0) return undefined
    for (const { row, reaction } of heard) {
      this.#heard.add(row.key)
      this.#isEnding ||= reaction.ends
    }
    const previousState = isAnswering ? 'running' : this.#wake.entity.status
    await this.#calls.append(heard.map((one) => acknowledgement(one, this.#wake.entity.url, previousState, Date.now())))
    return heard.some(({ reaction }) => reaction.aborts) ? 'interrupted' : 'heard'
  }

  /** E1: up to the first fresh message that has no answer. */
  #ackable(): string | undefined {
    const [limit] = unanswered(this.#view)
      .flatMap(({ freshAt }) => freshAt ?? [])
      .sort()
    if (limit === undefined) return this.#tail
    return this.#events.findLast(({ headers }) => headers.offset < limit && headers.offset >= freshFrom(this.#wake))?.headers.offset
  }

  async #pause(): Promise<void> {
    await wait(paceMs, undefined, { signal: this.#stopping }).catch(() => undefined) // no pauses any more
  }
}
