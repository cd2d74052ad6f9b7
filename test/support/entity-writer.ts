/** Batched appends with the write token, through the published idempotent producer as the runtime uses it (spec/14 §4.3, spec/03 §8.4). */
import { DurableStream, IdempotentProducer } from '@durable-streams/client'
import { type TokenHeader, tokenHeaders, type Wake, type WrittenEvent } from './wake.js'

export interface EntityWriterOptions {
  readonly baseUrl: string
  readonly wake: Wake
  readonly writeToken: string
  readonly headers: Readonly<Record<string, string>>
  readonly tokenHeader: TokenHeader
  readonly signal: AbortSignal
  /** The first append that is refused or lost: the producer does not try again, everything after it fails as well. */
  readonly onFailure: (failure: Error) => void
}

export class EntityWriter {
  readonly #producer: IdempotentProducer

  constructor({ baseUrl, wake, writeToken, headers, tokenHeader, signal, onFailure }: EntityWriterOptions) {
    const stream = new DurableStream({
      url: baseUrl + wake.streamPath,
      contentType: 'application/json',
      headers: { ...headers, ...tokenHeaders(writeToken, tokenHeader) },
      warnOnHttp: false,
    })
    this.#producer = new IdempotentProducer(stream, `entity-${wake.entity.url}`, {
      epoch: wake.epoch,
      autoClaim: true, // 403: the next higher epoch, from seq 0
      signal,
      onError: onFailure,
    })
  }

  /** End of the last entry that the server took; undefined when there was none. */
  get lastOffset(): string | undefined {
    return this.#producer.lastSuccessfulOffset
  }

  write(events: readonly WrittenEvent[]): void {
    for (const event of events) this.#producer.append(JSON.stringify(event))
  }

  async flush(): Promise<void> {
    await this.#producer.flush()
  }
}
