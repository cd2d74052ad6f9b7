/** The signals of one wake: each is taken once, and acknowledged in the order in which they came (spec/05 §5). */
import { type Row, signalsIn } from './freshness.js'
import { acknowledged, type Reaction, signalOf } from './signal-reactions.js'
import type { StreamEvent, WrittenEvent } from './wake.js'
import type { SignalListener } from './wake-context.js'

export class SignalDesk {
  readonly #entity: string
  readonly #write: (event: WrittenEvent) => void
  readonly #taken = new Set<string>()
  #answering: Promise<void> = Promise.resolve()
  /** Of the handler. */
  listener: SignalListener | undefined

  constructor(entity: string, write: (event: WrittenEvent) => void) {
    this.#entity = entity
    this.#write = write
  }

  take(fresh: readonly StreamEvent[], events: readonly StreamEvent[]): readonly Row[] {
    const rows = signalsIn(fresh, events).filter(({ key }) => !this.#taken.has(key))
    for (const { key } of rows) this.#taken.add(key)
    return rows
  }

  answer(row: Row, reaction: Reaction, previousState: string): void {
    const answered = this.#answering.then(async () => {
      const failed = reaction.isTold && !(await this.#tell(row))
      const { acknowledgement } = reaction
      if (acknowledgement === undefined) return
      this.#write(acknowledged(row, this.#entity, previousState, failed ? { ...acknowledgement, outcome: 'failed' } : acknowledgement))
    })
    this.#answering = answered.catch(() => undefined) // only a run that is over cannot write, and that is known elsewhere
  }

  async settled(): Promise<void> {
    await this.#answering
  }

  async #tell(row: Row): Promise<boolean> {
    const signal = signalOf(row)
    if (signal === undefined) return false
    try {
      await this.listener?.(signal)
      return true
    } catch {
      return false
    }
  }
}
