/**
 * What waits for readers of streams in this process: memory behind parts of responses that no socket has taken yet.
 *
 * H1  Memory is counted by what is really held: a part holds all of the memory it lies in, and what several readers wait for is counted once.
 * H2  When `take` returns, at most `maxBytes` are held, or what the newest reader holds alone: readers are cut off for it, whoever has stood still
 *     the longest first.
 * H3  What has left is let go at the latest when room is needed: nobody is cut off who holds nothing.
 */
import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'

export class HeldParts {
  readonly #maxBytes: number
  readonly #holders = new Map<ArrayBufferLike, number>()
  /** By when they moved last. */
  readonly #readers = new Set<HeldReader>()
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** How many bytes are held, at most. */
  get bytes(): number {
    return this.#bytes
  }

  /** Holds nothing any more when its response is closed. */
  reader(response: ServerResponse): HeldReader {
    const reader = new HeldReader(this, response)
    if (response.closed) reader.leave()
    else response.once('close', () => reader.leave())
    return reader
  }

  /** H1. */
  hold(memory: ArrayBufferLike): void {
    const holders = this.#holders.get(memory) ?? 0
    this.#holders.set(memory, holders + 1)
    if (holders === 0) this.#bytes += memory.byteLength
  }

  letGo(memory: ArrayBufferLike): void {
    const holders = this.#holders.get(memory) ?? 0
    if (holders > 1) {
      this.#holders.set(memory, holders - 1)
      return
    }
    if (this.#holders.delete(memory)) this.#bytes -= memory.byteLength
  }

  /** It is the last one now to be cut off. */
  moved(reader: HeldReader): void {
    this.#readers.delete(reader)
    this.#readers.add(reader)
  }

  left(reader: HeldReader): void {
    this.#readers.delete(reader)
  }

  /** H2, H3. */
  makeRoom(newest: HeldReader): void {
    if (this.#bytes <= this.#maxBytes) return
    for (const reader of this.#readers) reader.settle()
    for (const reader of this.#readers) {
      if (this.#bytes <= this.#maxBytes) return
      if (reader !== newest) reader.cutOff()
    }
  }
}

/** One response. */
export class HeldReader {
  readonly #all: HeldParts
  readonly #response: ServerResponse
  #memory: ArrayBufferLike[] = []
  #isWriting = false
  #hasLeft = false

  constructor(all: HeldParts, response: ServerResponse) {
    this.#all = all
    this.#response = response
  }

  /** `part` is about to be written. */
  take(part: Buffer): void {
    if (this.#hasLeft) return
    this.settle()
    this.#isWriting = true
    this.#memory.push(part.buffer)
    this.#all.hold(part.buffer)
    this.#all.moved(this)
    this.#all.makeRoom(this)
  }

  /** The socket has taken some of it. */
  moved(): void {
    if (this.#memory.length > 0) this.#all.moved(this)
  }

  /** All that was taken is written; it may wait in the socket still. */
  written(): void {
    this.#isWriting = false
    this.settle()
  }

  settle(): void {
    if (!this.#isWriting && this.#response.writableLength === 0) this.#letGo()
  }

  leave(): void {
    this.#hasLeft = true
    this.#letGo()
  }

  cutOff(): void {
    this.leave()
    this.#response.destroy()
  }

  #letGo(): void {
    for (const memory of this.#memory) this.#all.letGo(memory)
    this.#memory = []
    this.#all.left(this)
  }
}

/** What a reader must take before it counts as moving. */
export const sliceBytes = 256 * 1024

/** A body as its reader takes it: the next part is asked for when the one before has left. */
export function inParts(body: AsyncIterable<Buffer> | Iterable<Buffer>, response: ServerResponse, held: HeldParts): Readable {
  return Readable.from(slices(body, response, held.reader(response)), { objectMode: false, highWaterMark: 1 })
}

async function* slices(
  body: AsyncIterable<Buffer> | Iterable<Buffer>,
  response: ServerResponse,
  reader: HeldReader,
): AsyncGenerator<Buffer> {
  for await (const part of body) {
    reader.take(part)
    const count = Math.max(1, Math.ceil(part.length / sliceBytes))
    for (let slice = 0; slice < count; slice += 1) {
      yield part.subarray(Math.floor((slice * part.length) / count), Math.floor(((slice + 1) * part.length) / count))
      reader.moved()
    }
    await written(response)
    reader.written()
  }
}

/** The stream asks for more just before it writes what it was given last, and does not wait for the socket to take that. */
async function written(response: ServerResponse): Promise<void> {
  await null
  if (response.writableNeedDrain)
    await new Promise<void>((resolve) => {
      const settle = () => {
        response.off('drain', settle).off('close', settle)
        resolve()
      }
      response.on('drain', settle).on('close', settle)
    })
}
