/** A receiver of plain wakes (spec/06 §4): it keeps every delivery, and answers what it is told. */
import { createServer, type Server } from 'node:http'

export interface PlainWake {
  readonly subscription_id: string
  readonly wake_id: string
  readonly generation: number
  readonly streams: readonly {
    readonly path: string
    readonly acked_offset: string
    readonly tail_offset: string
    readonly has_pending: boolean
  }[]
  readonly callback_url: string
  readonly callback_token: string
}

export interface Delivery {
  readonly path: string
  readonly body: PlainWake & Readonly<Record<string, unknown>>
}

/** What it answers: a status, headers and a body, at once or when `until` comes. */
export interface ReceiverAnswer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: object
  readonly until?: Promise<unknown>
}

export class Receiver {
  readonly deliveries: Delivery[] = []
  answer: ReceiverAnswer = {}
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  static async start(): Promise<Receiver> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        receiver.deliveries.push({ path: request.url ?? '', body: JSON.parse(Buffer.concat(chunks).toString('utf8')) })
        const { status = 200, headers = {}, body = { ok: true }, until } = receiver.answer
        Promise.resolve(until).then(
          () => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body)),
          () => response.destroy(),
        )
      })
    })
    const receiver = new Receiver(server)
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    return receiver
  }

  url(path = '/hook'): string {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
    return `http://127.0.0.1:${address.port}${path}`
  }

  /** The deliveries of one subscription. */
  of(id: string): readonly Delivery[] {
    return this.deliveries.filter(({ body }) => body.subscription_id === id)
  }

  async stop(): Promise<void> {
    const closed = new Promise((done) => this.#server.close(done))
    this.#server.closeAllConnections()
    await closed
  }
}
