/**
 * The HTTP side of the echo agent: takes deliveries of wakes, answers at once, works afterwards (spec/06 §6.1).
 *
 * R1  Nothing is believed that the server has not signed, and nothing is read beyond `maxBodyBytes`.
 * R2  A wake that is delivered again while its run goes on gets no second run.
 * R3  While it stops it takes nothing: 503, and the server tries again when it may.
 */
import { setMaxListeners } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { runEcho } from './run.js'
import { Signatures } from './signatures.js'
import { parseWake, type Wake } from './wake.js'

export interface ReceiverOptions {
  readonly serverUrl: string
  readonly type: string
  /** Runs that ended before their done. */
  readonly onFailure: (wake: Wake, failure: unknown) => void
}

interface Answer {
  readonly status: number
  readonly body: { readonly ok: true } | { readonly error: string }
}

/** A wake brings the arguments of its entity's spawn. */
const maxBodyBytes = 16 * 1024 * 1024
/** Runs need two calls for their last words; who waits for the end is not kept waiting for one that cannot say them. */
const stopWithinMs = 2_000

const refusal = (status: number, error: string): Answer => ({ status, body: { error } })

export class Receiver {
  readonly #options: ReceiverOptions
  readonly #signatures: Signatures
  readonly #stopping = new AbortController()
  readonly #cutOff = new AbortController()
  readonly #runs = new Map<string, Promise<void>>()
  readonly #server: Server

  constructor(options: ReceiverOptions) {
    this.#options = options
    this.#signatures = new Signatures(options.serverUrl)
    setMaxListeners(0, this.#stopping.signal, this.#cutOff.signal) // every run listens: more than ten are no leak
    this.#server = createServer((request, response) => {
      this.#receive(request).then(
        (answer) => send(response, answer),
        () => response.destroy(), // the sender is gone
      )
    })
  }

  /** Rejects when the port cannot be had. */
  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, '127.0.0.1', () => resolve())
    })
  }

  /** Lets runs that are under way say their last words. */
  async stop(): Promise<void> {
    this.#stopping.abort() // R3
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, stopWithinMs)
    })
    await Promise.race([Promise.all(this.#runs.values()), late])
    clearTimeout(timer)
    this.#cutOff.abort()
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeAllConnections()
    await closed
  }

  async #receive(request: IncomingMessage): Promise<Answer> {
    if (request.method !== 'POST') return refusal(405, 'Method not allowed')
    const body = await bodyOf(request)
    if (body === undefined) return refusal(413, 'Body too large')
    const header = request.headers['webhook-signature']
    const refused = await this.#signatures.refusal(typeof header === 'string' ? header : undefined, body)
    if (refused !== undefined) return refusal(refused.status, refused.error)
    const wake = parseWake(body.toString('utf8'))
    if (wake === undefined) return refusal(400, 'Invalid wake')
    if (wake.entity.type !== this.#options.type) return refusal(503, `Unknown entity type: ${wake.entity.type}`)
    if (this.#stopping.signal.aborted) return refusal(503, 'Stopping')
    this.#work(wake)
    return { status: 200, body: { ok: true } }
  }

  #work(wake: Wake): void {
    if (this.#runs.has(wake.wakeId)) return // R2
    const { serverUrl, onFailure } = this.#options
    const run = runEcho({ wake, serverUrl, stopping: this.#stopping.signal, cutOff: this.#cutOff.signal })
      .catch((failure: unknown) => onFailure(wake, failure))
      .finally(() => this.#runs.delete(wake.wakeId))
    this.#runs.set(wake.wakeId, run)
  }
}

/** Undefined: it is too large. */
async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes > maxBodyBytes) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function send(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}
