/**
 * The ledger of all handlers of a test: what was delivered, what ran, what was handled.
 *
 * L1  A run works from the answer to its claim until its `done` is sent, or until it dies: whatever overlaps here, the server has let run at
 *     once, however long requests and answers travelled.
 * L2  A message counts as handled when a handler that had it came to its end: returned or threw. Aborted and dead ones do not count.
 * L3  Only a run whose claim was accepted counts: several may ask, one may get it.
 */
import { type StreamEvent, textOf, type Wake } from './wake.js'

export type RunEnding =
  | { readonly kind: 'done'; readonly nextWake: boolean; readonly acked: string | undefined }
  | { readonly kind: 'not-served' }
  | { readonly kind: 'refused'; readonly at: 'claim' | 'done'; readonly status: number; readonly text: string }
  /** No done was sent: the end of the lease has to recover. */
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'died' }

export type PassEnding = 'returned' | 'threw' | 'aborted' | 'cut off'

export interface PassRecord {
  readonly messages: readonly { readonly key: string; readonly text: string }[]
  ending: PassEnding | undefined
}

export interface RunRecord {
  /** The handler or runner. */
  readonly by: string
  readonly entity: string
  readonly wakeId: string
  readonly generation: number
  /** Of this process's monotonic clock, ms. */
  readonly startedAt: number
  readonly passes: PassRecord[]
  claimedAt: number | undefined
  endedAt: number | undefined
  ending: RunEnding | undefined
}

export interface DeliveryRecord {
  readonly by: string
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly body: unknown
  /** Undefined when the body was no wake. */
  readonly wake: Wake | undefined
  readonly at: number
  /** What it was answered; undefined while it is not. */
  status: number | undefined
}

export interface Overlap {
  readonly first: RunRecord
  readonly second: RunRecord
}

export class RunLog {
  readonly deliveries: DeliveryRecord[] = []
  readonly runs: RunRecord[] = []

  now(): number {
    return performance.now()
  }

  delivered(delivery: Omit<DeliveryRecord, 'at' | 'status'>): DeliveryRecord {
    const record: DeliveryRecord = { ...delivery, at: this.now(), status: undefined }
    this.deliveries.push(record)
    return record
  }

  begin(by: string, wake: Wake): RunRecord {
    const run: RunRecord = {
      by,
      entity: wake.entity.url,
      wakeId: wake.wakeId,
      generation: wake.epoch,
      startedAt: this.now(),
      passes: [],
      claimedAt: undefined,
      endedAt: undefined,
      ending: undefined,
    }
    this.runs.push(run)
    return run
  }

  beginPass(run: RunRecord, messages: readonly StreamEvent[]): PassRecord {
    const pass: PassRecord = { messages: messages.map((event) => ({ key: event.key, text: textOf(event) })), ending: undefined }
    run.passes.push(pass)
    return pass
  }

  claimed(run: RunRecord): void {
    run.claimedAt = this.now()
  }

  /** The run works no longer; its ending may become known later. */
  rest(run: RunRecord): void {
    run.endedAt ??= this.now()
  }

  end(run: RunRecord, ending: RunEnding): void {
    this.rest(run)
    run.ending = ending
  }

  runsOf(entity: string): readonly RunRecord[] {
    return this.runs.filter((run) => run.entity === entity)
  }

  deliveriesTo(entity: string): readonly DeliveryRecord[] {
    return this.deliveries.filter(({ wake }) => wake?.entity.url === entity)
  }

  /** How often wakes were delivered again, each beyond its first time. */
  redeliveries(): number {
    const wakes = this.deliveries.flatMap(({ wake }) => (wake === undefined ? [] : [wake.wakeId]))
    return wakes.length - new Set(wakes).size
  }

  /** How often the message with this text was handled (L2). */
  timesHandled(text: string, entity?: string): number {
    const runs = entity === undefined ? this.runs : this.runsOf(entity)
    return runs.flatMap(finishedMessages).filter((message) => message.text === text).length
  }

  notHandled(texts: readonly string[]): readonly string[] {
    const handled = new Set(this.runs.flatMap(finishedMessages).map(({ text }) => text))
    return texts.filter((text) => !handled.has(text))
  }

  running(): readonly RunRecord[] {
    return this.runs.filter(({ ending }) => ending === undefined)
  }

  /** Runs of one generation of one entity that worked at the same time: there may never be any. */
  overlapsOfGenerations(): readonly Overlap[] {
    return overlaps(this.runs, (run) => `${run.entity} ${run.generation}`)
  }

  /** Runs of one entity at the same time: may be when a lease ended under a run that did not know it, and not otherwise. */
  overlapsOfEntities(): readonly Overlap[] {
    return overlaps(this.runs, (run) => run.entity)
  }

  expectEachHandled(texts: readonly string[]): void {
    const missing = this.notHandled(texts)
    if (missing.length > 0) throw new Error(`${missing.length} of ${texts.length} messages were never handled: ${shown(missing)}\n${this}`)
  }

  expectNoGenerationTwiceAtATime(): void {
    refuse(this.overlapsOfGenerations(), 'a generation ran twice at a time')
  }

  expectNoEntityTwiceAtATime(): void {
    refuse(this.overlapsOfEntities(), 'an entity ran twice at a time')
  }

  counts(): Readonly<Record<string, number>> {
    const ended = (kind: RunEnding['kind']): number => this.runs.filter(({ ending }) => ending?.kind === kind).length
    const handled = this.runs.flatMap(finishedMessages)
    return {
      deliveries: this.deliveries.length,
      redeliveries: this.redeliveries(),
      runs: this.runs.length,
      done: ended('done'),
      refused: ended('refused'),
      failed: ended('failed'),
      died: ended('died'),
      running: this.running().length,
      messagesHandled: new Set(handled.map(({ key }) => key)).size,
      messagesHandledAgain: handled.length - new Set(handled.map(({ key }) => key)).size,
    }
  }

  toString(): string {
    return Object.entries(this.counts())
      .map(([name, count]) => `${name} ${count}`)
      .concat(
        this.runs.flatMap(({ entity, ending }) => (ending?.kind === 'failed' ? [`${entity} failed: ${ending.reason}`] : [])).slice(0, 20),
      )
      .join(', ')
  }
}

const finishedMessages = (run: RunRecord): PassRecord['messages'] =>
  run.passes.flatMap(({ messages, ending }) => (ending === 'returned' || ending === 'threw' ? messages : []))

/** For each run that began while another with the same key still worked, that pair. */
function overlaps(runs: readonly RunRecord[], keyOf: (run: RunRecord) => string): readonly Overlap[] {
  const found: Overlap[] = []
  const latest = new Map<string, RunRecord>() // the one that works longest of those that began so far
  for (const run of runs.filter(({ claimedAt }) => claimedAt !== undefined).sort((one, other) => startOf(one) - startOf(other))) {
    const before = latest.get(keyOf(run))
    if (before !== undefined && endOf(before) > startOf(run)) found.push({ first: before, second: run })
    if (before === undefined || endOf(before) < endOf(run)) latest.set(keyOf(run), run)
  }
  return found
}

const startOf = (run: RunRecord): number => run.claimedAt ?? Number.POSITIVE_INFINITY // L3
const endOf = (run: RunRecord): number => run.endedAt ?? Number.POSITIVE_INFINITY

function refuse(found: readonly Overlap[], what: string): void {
  if (found.length === 0) return
  const line = ({ first, second }: Overlap): string =>
    `${first.entity}: ${first.by} in generation ${first.generation} from ${startOf(first).toFixed(1)} to ${first.endedAt?.toFixed(1) ?? 'now'}, ` +
    `${second.by} in generation ${second.generation} from ${startOf(second).toFixed(1)}`
  throw new Error(`${what}, ${found.length} times:\n${found.slice(0, 20).map(line).join('\n')}`)
}

const shown = (texts: readonly string[]): string => texts.slice(0, 20).join(', ') + (texts.length > 20 ? ', …' : '')
