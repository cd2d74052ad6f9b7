/**
 * What a handler says to the server during one wake, over the public wire (spec/06 §7, §12; spec/14 §2.2, §4.3).
 *
 * A1  Every call may be repeated: callbacks are idempotent, a read changes nothing, an append carries its place in the sequence.
 * A2  No answer, and a 5xx, are tried again until `patienceMs` are over, well within the lease. Any other refusal is final: `Refused`.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { z } from 'zod'
import { orOverdue } from './overdue.js'
import { jsonOf, parseEvents, type StreamEvent, type Wake, type WrittenEvent } from './wake.js'

/** The server does not want to hear this any more: the wake is over, or somebody else's. */
export class Refused extends Error {
  constructor(what: string, status: number, text: string) {
    super(`${what} was refused: ${status} ${text.slice(0, 200)}`)
    this.name = 'Refused'
  }
}

export interface Stretch {
  readonly events: readonly StreamEvent[]
  /** Where the next read begins. */
  readonly tail: string
}

const patienceMs = 15_000
const firstRetryMs = 100
const answerWithinMs = 10_000

const callbackAnswer = z.looseObject({
  ok: z.literal(true),
  writeToken: z.string().optional(),
  token: z.string().optional(),
  claimToken: z.string().optional(),
})

interface Sent {
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

export class ServerCalls {
  readonly #serverUrl: string
  readonly #wake: Wake
  readonly #signal: AbortSignal
  #claimToken: string
  #writeToken = ''
  #epoch: number
  #sequence = 0

  /** Aborted, `signal` ends every call. */
  constructor(serverUrl: string, wake: Wake, signal: AbortSignal) {
    this.#serverUrl = serverUrl
    this.#wake = wake
    this.#signal = signal
    this.#claimToken = wake.claimToken
    this.#epoch = wake.epoch
  }

  async claim(): Promise<void> {
    this.#writeToken = (await this.#callBack('claim', { wakeId: this.#wake.wakeId })).writeToken ?? ''
  }

  async heartbeat(): Promise<void> {
    await this.#callBack('heartbeat', {})
  }

  /** Ends the wake; everything up to `offset` is done with. */
  async done(offset: string | undefined): Promise<void> {
    const acks = offset === undefined ? [] : [{ path: this.#wake.streamPath, offset }]
    await this.#callBack('done', { acks, done: true })
  }

  /** Everything behind `offset`. */
  async read(offset: string): Promise<Stretch> {
    const events: StreamEvent[] = []
    for (let from = offset; ; ) {
      const response = await this.#call('read', `${this.#wake.streamPath}?offset=${from}`, { method: 'GET', headers: {} })
      events.push(...parseEvents(await response.text()))
      const tail = response.headers.get('stream-next-offset') ?? from
      if (response.headers.get('stream-up-to-date') === 'true' || tail === from) return { events, tail }
      from = tail
    }
  }

  /** One log entry. */
  async append(events: readonly WrittenEvent[]): Promise<void> {
    const response = await this.#produce(events)
    if (response.status !== 403) return
    this.#epoch = Number(response.headers.get('producer-epoch') ?? this.#epoch) + 1 // an earlier handler wrote under a later epoch
    this.#sequence = 0
    const again = await this.#produce(events)
    if (again.status === 403) throw new Refused('append', again.status, '')
  }

  async #produce(events: readonly WrittenEvent[]): Promise<Response> {
    const headers = {
      'content-type': 'application/json',
      authorization: `Bearer ${this.#writeToken}`,
      'producer-id': `entity-${this.#wake.entity.url}`,
      'producer-epoch': String(this.#epoch),
      'producer-seq': String(this.#sequence),
    }
    this.#sequence += 1
    return await this.#call('append', this.#wake.streamPath, { method: 'POST', headers, body: JSON.stringify(events) }, [403])
  }

  /** To the server beside us, whatever base URL it tells handlers elsewhere. */
  async #callBack(what: string, body: object) {
    const response = await this.#call(what, `/_electric/wake-callbacks/${encodeURIComponent(this.#wake.wakeId)}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${this.#claimToken}` },
      body: JSON.stringify({ epoch: this.#wake.epoch, ...body }),
    })
    const text = await response.text()
    const answer = callbackAnswer.safeParse(jsonOf(text)).data
    if (answer === undefined) throw new Refused(what, response.status, text)
    this.#claimToken = answer.claimToken ?? answer.token ?? this.#claimToken // a server may rotate it in any answer (spec/06 §3.3)
    return answer
  }

  async #call(what: string, path: string, sent: Sent, accepted: readonly number[] = []): Promise<Response> {
    const deadline = performance.now() + patienceMs
    for (let retryMs = firstRetryMs; ; retryMs *= 2) {
      const outcome = await this.#attempt(path, sent)
      this.#signal.throwIfAborted()
      if (outcome instanceof Response) {
        if (outcome.ok || accepted.includes(outcome.status)) return outcome
        if (outcome.status < 500) throw new Refused(what, outcome.status, await outcome.text())
        await outcome.body?.cancel()
      }
      if (performance.now() + retryMs > deadline) throw outcome instanceof Error ? outcome : new Refused(what, outcome.status, '') // A2
      await wait(retryMs, undefined, { signal: this.#signal })
    }
  }

  async #attempt(path: string, { method, headers, body }: Sent): Promise<Response | Error> {
    try {
      const signal = orOverdue(this.#signal, answerWithinMs)
      return await fetch(this.#serverUrl + path, { method, headers: { ...headers }, body: body ?? null, signal })
    } catch (failure) {
      return failure instanceof Error ? failure : new Error(String(failure))
    }
  }
}
