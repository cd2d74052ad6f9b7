/** What the operations of this adapter share: the way to the server, the lane for writes, and what this process knows of streams. */
import { LRUCache } from 'lru-cache'
import { type Offset, type StreamPath, zeroOffset } from '../../domain/ids.js'
import type { HeadVerdict, Producer } from '../store.js'
import type { Exchange } from './exchange.js'
import { WriteLane } from './lane.js'
import { gone, headIn, missing, tailIn } from './verdicts.js'

export interface Connection {
  readonly exchange: Exchange
  readonly lane: WriteLane
  readonly memory: StreamMemory
  /** Called with the evidence when the server lost a write: from then on one write at a time. */
  distrust(evidence: { readonly path: StreamPath; readonly reason: string }): void
}

/** The same connection for a task that holds the lane already. */
export const insideLane = (connection: Connection): Connection => ({
  ...connection,
  lane: new WriteLane({ width: Number.POSITIVE_INFINITY, maxWaiting: 0, maxWaitMs: 0 }),
})

/** Hints of this process: droppable at any time, each only ever saves or sharpens a check. */
export class StreamMemory {
  /** The highest tail that the server has acknowledged to us. */
  readonly #tails = new LRUCache<StreamPath, Offset>({ max: 20_000 })
  /** Streams whose metadata lags behind their data (spec/14 §5 D1b). */
  readonly #damaged = new LRUCache<StreamPath, true>({ max: 20_000 })

  /** Appends whose outcome a caller was not told, with the tail that was known before they were first sent. */
  readonly #doubts = new LRUCache<string, { readonly before: Offset | undefined }>({ max: 20_000 })

  tailOf(path: StreamPath): Offset | undefined {
    return this.#tails.get(path)
  }

  saw(path: StreamPath, tail: Offset): void {
    if (tail > (this.#tails.get(path) ?? '')) this.#tails.set(path, tail)
  }

  doubtOf(path: StreamPath, producer: Producer): { readonly before: Offset | undefined } | undefined {
    return this.#doubts.get(doubtKey(path, producer))
  }

  doubts(path: StreamPath, producer: Producer, before: Offset | undefined): void {
    this.#doubts.set(doubtKey(path, producer), { before })
  }

  settled(path: StreamPath, producer: Producer): void {
    this.#doubts.delete(doubtKey(path, producer))
  }

  isDamaged(path: StreamPath): boolean {
    return this.#damaged.has(path)
  }

  damaged(path: StreamPath): void {
    this.#damaged.set(path, true)
  }

  healed(path: StreamPath): void {
    this.#damaged.delete(path)
  }

  forget(path: StreamPath): void {
    this.#tails.delete(path)
    this.#damaged.delete(path)
  }
}

const doubtKey = (path: StreamPath, { id, epoch, seq }: Producer): string => JSON.stringify([path, id, epoch, seq])

/** Checks ask the server itself, not a cache before it. */
export const uncached = { 'cache-control': 'no-cache' }

export async function headOf({ exchange, memory }: Connection, path: StreamPath): Promise<HeadVerdict> {
  const message = { method: 'HEAD', path, headers: uncached } as const
  const answer = await exchange.ask(message)
  switch (answer.status) {
    case 200: {
      const head = headIn(answer, tailIn(exchange, message, answer))
      memory.saw(path, head.tail)
      return { outcome: 'found', head }
    }
    case 404:
      return missing()
    case 410:
      return gone()
    default:
      throw exchange.unavailable(message, `HEAD answered ${answer.status}`)
  }
}

/** The bytes after `offset`, whole: for checks of one entry or few. */
export async function readAfter(
  { exchange }: Connection,
  path: StreamPath,
  offset: Offset,
): Promise<{ readonly stored: Buffer; readonly next: Offset }> {
  const message = { method: 'GET', path, query: `?offset=${offset === zeroOffset ? '-1' : offset}`, headers: uncached } as const
  const answer = await exchange.ask(message)
  if (answer.status !== 200) throw exchange.unavailable(message, `a check read answered ${answer.status}`)
  return { stored: answer.body, next: tailIn(exchange, message, answer) }
}
