/**
 * Requests to the foreign server: one bounded attempt, or several with back-off where a repetition is harmless.
 *
 * X1  Every attempt ends within `attemptTimeoutMs`, every call within `deadlineMs` and one attempt more: a stalled server never holds a caller for ever.
 * X2  Only what is told to be repeatable is repeated after it may have arrived; what surely never arrived (no connection, 429) is always repeated.
 * X3  A body comes as it is stored: no encoding is asked for, and a server (or what stands before it) that encodes nevertheless has failed.
 * X4  Answers that the protocol does not know (redirects, 401, 5xx) are failures of the service, never verdicts. So is a success that names no offset:
 *     somebody else has answered, as a proxy does whose page says that the service is away.
 * X5  Whatever a path says, requests go below the prefix that was configured: its server alone hears our bearer.
 */
import { types as kinds } from 'node:util'
import { Agent, request as send } from 'undici'
import { type AgentsError, errors } from '../../domain/errors.js'
import type { StreamPath } from '../../domain/ids.js'

export type Method = 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE' | 'OPTIONS'

export interface Log {
  warn(facts: object, message: string): void
}

export interface Message {
  readonly method: Method
  readonly path: StreamPath | ''
  /** With its question mark. */
  readonly query?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer
}

export interface Answer {
  readonly status: number
  readonly header: (name: string) => string | undefined
  /** Empty for streamed answers. */
  readonly body: Buffer
}

export interface StreamedAnswer extends Answer {
  readonly chunks: AsyncIterable<Buffer>
  /** Ends the answer unread; its connection goes with it. */
  discard(): void
}

export interface ExchangeOptions {
  /** A complete prefix, e.g. `https://streams.example/v1/stream`; paths are appended to it. */
  readonly url: string
  readonly bearer?: string
  readonly attemptTimeoutMs: number
  readonly deadlineMs: number
  /** At least so long a service that fails at once is asked again: it may be restarting. */
  readonly holdMs: number
  /** And at least so often. */
  readonly minAttempts: number
  readonly log: Log
}

/** Bytes of an answer that is read whole: verdicts have none, checks read one entry. */
const maxWholeAnswerBytes = 80 * 1024 * 1024
const firstPauseMs = 50
const longestPauseMs = 1_000
/** Of what a server asks us to wait. */
const longestAskedPauseMs = 2_000

const neverArrived = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])

/** The service could not be reached or did not answer; `arrived` where the request may have been carried out. */
export class Unanswered extends Error {
  readonly arrived: boolean
  readonly retryAfterMs: number

  constructor(reason: string, facts: { readonly arrived: boolean; readonly retryAfterMs?: number }) {
    super(reason)
    this.name = 'Unanswered'
    this.arrived = facts.arrived
    this.retryAfterMs = facts.retryAfterMs ?? 0
  }
}

export class Exchange {
  readonly #options: ExchangeOptions
  readonly #prefix: string
  readonly #base: URL
  readonly #agent: Agent

  constructor(options: ExchangeOptions) {
    this.#options = options
    this.#prefix = options.url.replace(/\/+$/, '')
    this.#base = new URL(`${this.#prefix}/`)
    this.#agent = new Agent({ connections: null, pipelining: 1, connect: { timeout: options.attemptTimeoutMs } })
  }

  /** The path of one of our streams as the server itself names it. */
  pathThere(path: string): string {
    return `${this.#base.pathname.slice(0, -1)}${path}`
  }

  /** One attempt. Throws `Unanswered`. */
  async attempt(message: Message): Promise<Answer> {
    const signal = AbortSignal.timeout(this.#options.attemptTimeoutMs) // X1: headers and body together
    const answer = await this.#send(message, { signal, silenceMs: this.#options.attemptTimeoutMs })
    try {
      const parts: Buffer[] = []
      let bytes = 0
      for await (const chunk of answer.chunks) {
        bytes += chunk.length
        if (bytes > maxWholeAnswerBytes) throw new Error(`an answer of more than ${maxWholeAnswerBytes} bytes`)
        parts.push(chunk)
      }
      return { status: answer.status, header: answer.header, body: Buffer.concat(parts) }
    } catch (failure) {
      throw unanswered(failure)
    }
  }

  /** Attempts until an answer comes: for requests that do no harm when they arrive twice. */
  async ask(message: Message): Promise<Answer> {
    return await this.patiently(
      message,
      () => this.attempt(message),
      () => true,
    )
  }

  /** An answer whose body is pulled chunk by chunk. Repeated only until its head is there. */
  async stream(message: Message, options: { readonly signal: AbortSignal; readonly silenceMs: number }): Promise<StreamedAnswer> {
    const attempt = async (): Promise<StreamedAnswer> => {
      try {
        return await this.#send(message, options)
      } catch (failure) {
        if (options.signal.aborted) throw errors.STREAM_SERVICE_UNAVAILABLE() // nobody waits for it any more
        throw failure
      }
    }
    return await this.patiently(message, attempt, () => true)
  }

  /** Repeats `attempt` with back-off and jitter while `mayRepeat` agrees; then `STREAM_SERVICE_UNAVAILABLE`. */
  async patiently<Result>(
    message: Message,
    attempt: (nth: number) => Promise<Result>,
    mayRepeat: (failure: Unanswered) => boolean,
  ): Promise<Result> {
    const { deadlineMs, holdMs, minAttempts } = this.#options
    const began = Date.now()
    for (let nth = 1; ; nth += 1) {
      try {
        return await attempt(nth)
      } catch (failure) {
        if (!(failure instanceof Unanswered)) throw failure
        const pauseMs = Math.max(failure.retryAfterMs, Math.random() * Math.min(longestPauseMs, firstPauseMs * 2 ** nth))
        const wouldTakeMs = Date.now() + pauseMs - began
        const spent = wouldTakeMs >= deadlineMs || (nth >= minAttempts && wouldTakeMs >= holdMs)
        if (spent || (failure.arrived && !mayRepeat(failure))) throw this.unavailable(message, failure.message) // X2
        await new Promise((resume) => setTimeout(resume, pauseMs))
      }
    }
  }

  /** The error for callers; the reason stays in our log. */
  unavailable(message: Pick<Message, 'method' | 'path'>, reason: string): AgentsError {
    this.#options.log.warn({ method: message.method, path: message.path, reason }, 'the stream service failed')
    return errors.STREAM_SERVICE_UNAVAILABLE().retryAfter(1)
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }

  /** X5. */
  #urlOf({ path, query = '' }: Message): URL {
    const url = new URL(`${this.#prefix}${path}${query}`)
    const isBelow = url.origin === this.#base.origin && `${url.pathname}/`.startsWith(this.#base.pathname)
    if (!isBelow || url.username !== this.#base.username) throw new Error(`${JSON.stringify(path)} is no path below the stream service`)
    return url
  }

  async #send(message: Message, options: { readonly signal: AbortSignal; readonly silenceMs: number }): Promise<StreamedAnswer> {
    const url = this.#urlOf(message)
    try {
      const response = await send(url, {
        dispatcher: this.#agent,
        method: message.method,
        headers: {
          'accept-encoding': 'identity',
          ...message.headers,
          ...(this.#options.bearer !== undefined && { authorization: `Bearer ${this.#options.bearer}` }),
        },
        body: message.body ?? null,
        signal: options.signal,
        headersTimeout: options.silenceMs,
        bodyTimeout: options.silenceMs,
      })
      if (isNoVerdict(response.statusCode)) {
        await response.body.dump()
        throw new Unanswered(`answered ${response.statusCode}`, {
          arrived: response.statusCode !== 429,
          retryAfterMs: retryAfterMs(response.headers['retry-after']),
        })
      }
      const header = (name: string): string | undefined => {
        const value = response.headers[name]
        return Array.isArray(value) ? value[0] : value
      }
      const discard = (): void => {
        response.body.on('error', () => undefined).destroy()
      }
      const encoding = header('content-encoding') ?? 'identity'
      if (message.method === 'GET' && encoding.toLowerCase() !== 'identity') {
        discard()
        throw new Unanswered(`answered in the encoding ${encoding}`, { arrived: true })
      }
      return { status: response.statusCode, header, body: Buffer.alloc(0), chunks: response.body, discard }
    } catch (failure) {
      throw unanswered(failure)
    }
  }
}

// X4
const isNoVerdict = (status: number): boolean =>
  status >= 500 || status === 429 || status === 401 || (status >= 300 && status !== 304 && status < 400)

function retryAfterMs(value: string | string[] | undefined): number {
  const seconds = Number(Array.isArray(value) ? value[0] : value)
  return Number.isFinite(seconds) ? Math.min(Math.max(0, seconds * 1_000), longestAskedPauseMs) : 0
}

function unanswered(failure: unknown): Unanswered {
  if (failure instanceof Unanswered) return failure
  const isError = kinds.isNativeError(failure) // those of the runtime itself may come from another realm than ours
  const code = isError && 'code' in failure ? String(failure.code) : ''
  const reason = isError ? `${code} ${failure.message}`.trim() : String(failure)
  return new Unanswered(reason, { arrived: !neverArrived.has(code) })
}
