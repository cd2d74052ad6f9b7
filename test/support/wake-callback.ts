/** The three calls of a wake to the server (spec/06 §7): claim, heartbeat, done. */
import { z } from 'zod'
import { orOverdue } from '../../src/dev/echo/overdue.js'
import { type TokenHeader, tokenHeaders, type Wake } from './wake.js'

const answerForm = z.looseObject({
  ok: z.boolean().optional(),
  writeToken: z.string().optional(),
  next_wake: z.boolean().optional(),
  token: z.string().optional(),
  claimToken: z.string().optional(),
  error: z.unknown().optional(),
})

export type CallbackAnswer =
  | { readonly ok: true; readonly writeToken?: string; readonly nextWake: boolean }
  /** `status` 0: no answer came. */
  | { readonly ok: false; readonly status: number; readonly text: string }

export interface Ack {
  readonly path: string
  readonly offset: string
}

const answerWithinMs = 30_000

export class WakeCallback {
  readonly #wake: Wake
  readonly #headers: Readonly<Record<string, string>>
  readonly #tokenHeader: TokenHeader
  readonly #signal: AbortSignal
  #token: string

  constructor(wake: Wake, headers: Readonly<Record<string, string>>, tokenHeader: TokenHeader, signal: AbortSignal) {
    this.#wake = wake
    this.#headers = headers
    this.#tokenHeader = tokenHeader
    this.#signal = signal
    this.#token = wake.claimToken
  }

  async claim(): Promise<CallbackAnswer> {
    return await this.#post({ epoch: this.#wake.epoch, wakeId: this.#wake.wakeId })
  }

  async heartbeat(): Promise<CallbackAnswer> {
    return await this.#post({ epoch: this.#wake.epoch })
  }

  async done(acks: readonly Ack[]): Promise<CallbackAnswer> {
    return await this.#post({ epoch: this.#wake.epoch, acks, done: true })
  }

  async #post(body: object): Promise<CallbackAnswer> {
    try {
      const response = await fetch(this.#wake.callback, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...this.#headers, ...tokenHeaders(this.#token, this.#tokenHeader) },
        body: JSON.stringify(body),
        signal: orOverdue(this.#signal, answerWithinMs),
      })
      return this.#read(response.status, await response.text())
    } catch (failure) {
      return { ok: false, status: 0, text: failure instanceof Error ? failure.message : String(failure) }
    }
  }

  /** Refused: `ok: false`, or no `ok` together with a non-2xx status or an `error`. */
  #read(status: number, text: string): CallbackAnswer {
    const is2xx = status >= 200 && status < 300
    const parsed = answerForm.safeParse(jsonOrNothing(text))
    if (!parsed.success) return is2xx ? { ok: true, nextWake: false } : { ok: false, status, text }
    const { ok = is2xx && parsed.data.error === undefined, writeToken, next_wake: nextWake = false, token, claimToken } = parsed.data
    if (!ok) return { ok, status, text }
    this.#token = claimToken ?? token ?? this.#token // a server may rotate it in any answer (spec/06 §3.3)
    return { ok, nextWake, ...(writeToken === undefined ? {} : { writeToken }) }
  }
}

function jsonOrNothing(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
