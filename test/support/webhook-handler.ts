/**
 * A webhook handler as the runtime serves one (spec/06 §5–6, §12), on a port of its own, with faults to order.
 *
 * A delivery with a valid signature is answered 200 `{"ok":true}` at once and worked on afterwards. Every delivery and every run is in `log`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { RunLog } from './run-log.js'
import { parseWake, type Wake } from './wake.js'
import { baseUrlOf, type RunPoint, type RuntimeOptions } from './wake-context.js'
import { WakeRun } from './wake-run.js'
import { SignatureVerifier } from './webhook-signature.js'

export type Fault =
  /** Answers so and does not work. */
  | { readonly kind: 'status'; readonly status: number; readonly retryAfterSeconds?: number; readonly body?: string }
  /** Never answers and does not work; the connection stays open. */
  | { readonly kind: 'hang' }
  /** Works at once, answers when `until` comes. */
  | { readonly kind: 'late'; readonly until: Promise<unknown> }
  /** Answers `{"done":true}` when `until` comes (default: at once), without any run. */
  | { readonly kind: 'synchronous'; readonly until?: Promise<unknown> }
  /** Answers well and dies there: nothing more is heard of this run. */
  | { readonly kind: 'die'; readonly at: RunPoint }

export interface FaultOrder {
  /** How many deliveries it meets; default: every one until `heal`. */
  readonly times?: number
  /** Which deliveries it meets; default: all. */
  readonly when?: (wake: Wake) => boolean
}

export interface WebhookHandlerOptions extends RuntimeOptions {
  /** Default true. */
  readonly verifiesSignatures?: boolean
}

interface Order {
  readonly fault: Fault
  readonly when: (wake: Wake) => boolean
  left: number
}

export class WebhookHandler {
  readonly log: RunLog
  readonly verifier = new SignatureVerifier()
  readonly #options: WebhookHandlerOptions
  readonly #name: string
  readonly #runs = new Set<WakeRun>()
  #orders: Order[] = []
  #server: Server | undefined
  #port = 0

  private constructor(options: WebhookHandlerOptions) {
    this.#options = options
    this.#name = options.name ?? 'webhook'
    this.log = options.log ?? new RunLog()
  }

  static async start(options: WebhookHandlerOptions): Promise<WebhookHandler> {
    const handler = new WebhookHandler(options)
    await handler.open()
    return handler
  }

  /** What types and dispatch policies name as their target. */
  get url(): string {
    return `http://127.0.0.1:${this.#port}/electric-agents`
  }

  /** Deliveries meet this fault; of several orders the first that fits counts. */
  order(fault: Fault, { times = Number.POSITIVE_INFINITY, when = () => true }: FaultOrder = {}): void {
    this.#orders.push({ fault, when, left: times })
  }

  /** Takes back all orders; what hangs already hangs on. */
  heal(): void {
    this.#orders = []
  }

  /** Listens (again), always on the same port. */
  async open(): Promise<void> {
    if (this.#server !== undefined) return
    const server = createServer((request, response) => {
      this.#receive(request, response).catch((failure: unknown) => response.destroy(failure instanceof Error ? failure : undefined))
    })
    await new Promise<void>((listening, failed) => {
      server.once('error', failed)
      server.listen(this.#port, '127.0.0.1', listening)
    })
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
    this.#port = address.port
    this.#server = server
  }

  /** Refuses connections until `open`, and resets those it has; runs go on. */
  async close(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    const closed = new Promise((done) => server.close(done))
    server.closeAllConnections()
    await closed
  }

  /** Every run of this moment dies, as with its process. */
  die(): void {
    for (const run of this.#runs) run.die()
  }

  /** Ends politely: runs finish at their next checkpoint, so handlers that wait for ever have to be ended by `die` first. */
  async stop(): Promise<void> {
    await this.close()
    for (const run of this.#runs) run.finish()
    await Promise.all([...this.#runs].map(({ ended }) => ended))
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(request)
    const parsed = parseWake(jsonOf(body))
    const wake = 'wake' in parsed ? parsed.wake : undefined
    const record = this.log.delivered({ by: this.#name, headers: request.headers, body: jsonOf(body), wake })
    response.once('finish', () => {
      record.status = response.statusCode
    })
    const refusal = await this.#refusal(request, body, parsed)
    if (refusal !== undefined) answer(response, refusal.status, { error: refusal.error })
    else if (wake !== undefined) await this.#take(wake, response)
  }

  async #refusal(
    request: IncomingMessage,
    body: Buffer,
    parsed: ReturnType<typeof parseWake>,
  ): Promise<{ readonly status: number; readonly error: string } | undefined> {
    if (request.method !== 'POST') return { status: 405, error: 'Method not allowed' }
    if (this.#options.verifiesSignatures !== false) {
      const header = request.headers['webhook-signature']
      const jwksUrl = `${baseUrlOf(this.#options)}/__ds/jwks.json`
      const verdict = await this.verifier.verify(typeof header === 'string' ? header : undefined, body, jwksUrl)
      if (!verdict.ok) return verdict
    }
    if ('problem' in parsed) return { status: 400, error: `Invalid wake: ${parsed.problem}` }
    const { type } = parsed.wake.entity
    if (this.#options.types?.includes(type) === false) return { status: 503, error: `Unknown entity type: ${type}` }
    return undefined
  }

  async #take(wake: Wake, response: ServerResponse): Promise<void> {
    const fault = this.#faultFor(wake)
    switch (fault?.kind) {
      case 'status': {
        const { status, retryAfterSeconds, body = '{"error":"ordered"}' } = fault
        const headers = retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }
        response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)
        return
      }
      case 'hang':
        return
      case 'synchronous':
        await fault.until
        answer(response, 200, { done: true })
        return
      case 'late':
        this.#work(wake, undefined)
        await fault.until
        answer(response, 200, { ok: true })
        return
      case 'die':
      case undefined:
        answer(response, 200, { ok: true })
        this.#work(wake, fault?.at)
    }
  }

  #work(wake: Wake, diesAt: RunPoint | undefined): void {
    const run = WakeRun.start(wake, { ...this.#options, name: this.#name, log: this.log, diesAt: (point) => point === diesAt })
    this.#runs.add(run)
    run.ended.finally(() => this.#runs.delete(run)).catch(() => undefined) // never rejects
  }

  #faultFor(wake: Wake): Fault | undefined {
    const order = this.#orders.find(({ left, when }) => left > 0 && when(wake))
    if (order === undefined) return undefined
    order.left -= 1
    return order.fault
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}

function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return undefined
  }
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}
