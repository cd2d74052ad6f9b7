/** Readers that follow one stream live, each over a connection of its own, and say when the last of them has read a mark. */
import { Client } from 'undici'
import { type Command, type FanoutLoad, measure, type Numbers } from './measure.js'

/** Enough of the latest text to find a mark that two chunks share. */
const keptCharacters = 4_096

class LiveReader {
  readonly #client: Client
  #seen = ''
  #look: () => void = () => undefined

  private constructor(client: Client) {
    this.#client = client
  }

  /** Returns when the reader has got its first bytes: from then on it misses nothing. */
  static async open({ origin, path, query }: FanoutLoad): Promise<LiveReader> {
    const client = new Client(origin, { headersTimeout: 30_000, bodyTimeout: 0 })
    const reader = new LiveReader(client)
    const { body } = await client.request({ method: 'GET', path: `${path}${query}`, headers: { accept: 'text/event-stream' } })
    body.setEncoding('utf8')
    body.on('error', () => undefined) // closed by us
    body.on('data', (chunk: string) => {
      reader.#seen = (reader.#seen + chunk).slice(-keptCharacters)
      reader.#look()
    })
    await reader.reads((seen) => seen !== '')
    return reader
  }

  async reads(matches: (seen: string) => boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#look = () => {
        if (matches(this.#seen)) resolve()
      }
      this.#look()
    })
  }

  async close(): Promise<void> {
    await this.#client.destroy()
  }
}

/** One operation: an append, until the last reader has it. */
export async function measureFanout(command: Command, load: FanoutLoad): Promise<Numbers> {
  const writer = new Client(load.origin)
  const readers = await Promise.all(Array.from({ length: load.readers }, () => LiveReader.open(load)))
  try {
    return await measure(command, async (operation) => {
      const mark = `"mark":"${process.pid}-${operation}-${Date.now()}"`
      const all = Promise.all(readers.map((reader) => reader.reads((seen) => seen.includes(mark))))
      const { statusCode, body } = await writer.request({
        method: 'POST',
        path: load.path,
        headers: { 'content-type': 'application/json' },
        body: `{"type":"note","key":"k","value":{${mark}}}`,
      })
      await body.dump()
      if (statusCode >= 300) return `HTTP ${statusCode}`
      await all
      return null
    })
  } finally {
    await Promise.all([writer.destroy(), ...readers.map(async (reader) => await reader.close())])
  }
}
