/**
 * The bytes of an upload, in a temporary file without a name: a slow client holds no memory, and a crash leaves nothing.
 */
import { createHash, randomUUID } from 'node:crypto'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AttachmentBytes } from '../../entities/attachments.js'

export class Spool {
  readonly #file: FileHandle
  readonly #hash = createHash('sha256')
  #bytes = 0

  private constructor(file: FileHandle) {
    this.#file = file
  }

  static async open(): Promise<Spool> {
    const path = join(tmpdir(), `agents-upload-${randomUUID()}`)
    const file = await open(path, 'wx+', 0o600)
    await unlink(path)
    return new Spool(file)
  }

  get byteLength(): number {
    return this.#bytes
  }

  async write(chunk: Buffer): Promise<void> {
    this.#hash.update(chunk)
    for (let from = 0; from < chunk.length; ) {
      const { bytesWritten } = await this.#file.write(chunk, from, chunk.length - from, this.#bytes)
      from += bytesWritten
      this.#bytes += bytesWritten
    }
  }

  /** What was written; nothing more can be. */
  bytes(): AttachmentBytes {
    return { byteLength: this.#bytes, sha256: this.#hash.digest('hex'), chunks: (size) => this.#chunks(size) }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async *#chunks(size: number): AsyncGenerator<Buffer> {
    for (let from = 0; from < this.#bytes; ) {
      const buffer = Buffer.allocUnsafe(Math.min(size, this.#bytes - from))
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, from)
      if (bytesRead === 0) throw new Error('the temporary file of an upload is shorter than what was written')
      from += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
  }
}
