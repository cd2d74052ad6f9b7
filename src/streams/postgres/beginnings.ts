/**
 * What streams begin with, as this process read it last: whoever follows an entity reads its stream from the start, again and again.
 *
 * B1  Entries never change, and no other stream gets this one's id: the bytes stay right, unless Postgres begins anew and has lost some of them
 *     (`Database.era`). Whether the stream is there, who stands at its path, and where it ends is asked anew for every read (`opening.ts` O1).
 * B2  Bounded in bytes. What is not here is read: dropping it at any time costs a read.
 */
import { LRUCache } from 'lru-cache'
import type { Chunk } from './reading.js'

/** A larger one comes in several chunks. */
const maxBeginningBytes = 1024 * 1024
/** What a beginning takes beside its bytes. */
const overheadBytes = 512

export interface Beginning extends Chunk {
  /** Of the stream. */
  readonly id: number
  /** Of the database, when it was read. */
  readonly era: number
}

export class Beginnings {
  readonly #kept: LRUCache<string, Beginning>

  constructor(maxBytes: number) {
    this.#kept = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: Math.min(maxBytes, maxBeginningBytes + overheadBytes),
      sizeCalculation: ({ data }, path) => data.length + 2 * path.length + overheadBytes,
    })
  }

  at(path: string): Beginning | undefined {
    return this.#kept.get(path)
  }

  keep(path: string, beginning: Beginning): void {
    this.#kept.set(path, { ...beginning, data: alone(beginning.data) })
  }
}

/** In memory of its own: a piece of a larger one would hold all of that. */
function alone(data: Buffer): Buffer {
  if (data.buffer.byteLength === data.length) return data
  const own = Buffer.allocUnsafeSlow(data.length)
  data.copy(own)
  return own
}
