/**
 * The bytes of an upload: the first of them in memory, more of them in a temporary file without a name. A slow client holds `heldBytes` of memory at most,
 * and a crash leaves nothing. Each call of the file system is a way to another thread and back: they are few.
 */
import { createHash, randomUUID } from 'node:crypto'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AttachmentBytes } from '../../entities/attachments.js'

const heldBytes = 256 * 1_024
/** Whoever sends byte by byte would hold an object for each. */
const heldPieces = 256

export class Spool {
  readonly #hash = createHash('sha256')
  #bytes = 0
  #file: FileHandle | null = null
  #inFile = 0
  #held: Buffer[] = []

  get byteLength(): number {
    return this.#bytes
  }

  async write(chunk: Buffer): Promise<void> {
    this.#hash.update(chunk)
    this.#held.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes - this.#inFile > heldBytes) await this.#moveToFile()
    else if (this.#held.length > heldPieces) this.#held = [Buffer.concat(this.#held)]
  }

  /** What was written; nothing more can be. */
  bytes(): AttachmentBytes {
    return { byteLength: this.#bytes, sha256: this.#hash.digest('hex'), chunks: (size) => this.#chunks(size) }
  }

  async close(): Promise<void> {
    await this.#file?.close()
  }

  async #moveToFile(): Promise<void> {
    this.#file ??= await nameless()
    while (this.#inFile < this.#bytes) {
      const { bytesWritten } = await this.#file.writev(this.#held, this.#inFile)
      this.#inFile += bytesWritten
      this.#held = this.#inFile === this.#bytes ? [] : [Buffer.concat(this.#held).subarray(bytesWritten)]
    }
  }

  async *#chunks(size: number): AsyncGenerator<Buffer> {
    if (this.#file === null) yield* slices(Buffer.concat(this.#held), size)
    else {
      await this.#moveToFile()
      yield* this.#chunksOf(this.#file, size)
    }
  }

  async *#chunksOf(file: FileHandle, size: number): AsyncGenerator<Buffer> {
    for (let from = 0; from < this.#bytes; ) {
      const buffer = Buffer.allocUnsafe(Math.min(size, this.#bytes - from))
      const { bytesRead } = await file.read(buffer, 0, buffer.length, from)
      if (bytesRead === 0) throw new Error('the temporary file of an upload is shorter than what was written')
      from += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
  }
}

async function nameless(): Promise<FileHandle> {
  const path = join(tmpdir(), `agents-upload-${randomUUID()}`)
  const file = await open(path, 'wx+', 0o600)
  await unlink(path)
  return file
}

function* slices(bytes: Buffer, size: number): Generator<Buffer> {
  for (let from = 0; from < bytes.length; from += size) yield bytes.subarray(from, from + size)
}
