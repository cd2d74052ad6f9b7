/**
 * Messages and their handler in one process: how long until it is called, and until it is done (claim, read, append, done) as a runtime does it.
 * Deliveries come over kept-alive connections, like all other requests.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { Agent, request } from 'undici'
import { type Command, measure, type Numbers, type WakesLoad } from './measure.js'

interface Wake {
  readonly wakeId: string
  readonly epoch: number
  readonly claimToken: string
  readonly callback: string
  readonly streamPath: string
  readonly streams: readonly [{ readonly path: string; readonly offset: string }]
  readonly entity: { readonly url: string }
}

/** No wake of these entities takes longer. */
const limitMs = 20_000

class Handler {
  readonly #load: WakesLoad
  readonly #agent: Agent
  readonly #waiting = new Map<string, (wrong: string | null) => void>()
  #server: Server | null = null

  constructor(load: WakesLoad, callers: number) {
    this.#load = load
    this.#agent = new Agent({ connections: callers })
  }

  async open(): Promise<void> {
    const server = createServer({ keepAliveTimeout: 60_000 }, (incoming, response) => {
      bodyOf(incoming).then(
        (wake) => {
          const isCalled = this.#load.until === 'called'
          response.writeHead(200, { 'content-type': 'application/json' }).end(isCalled ? '{"done":true}' : '{"ok":true}')
          if (isCalled) this.#settle(wake, null)
          else
            this.#work(wake).then(
              () => this.#settle(wake, null),
              (failure: unknown) => this.#settle(wake, String(failure)),
            )
        },
        () => response.writeHead(400).end(),
      )
    })
    this.#server = server
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(this.#load.handlerPort, '127.0.0.1', resolve))
  }

  async close(): Promise<void> {
    this.#server?.closeAllConnections()
    await new Promise<void>((resolve) => this.#server?.close(() => resolve()) ?? resolve())
    await this.#agent.destroy()
  }

  /** One operation. */
  async message(caller: number): Promise<string | null> {
    const entity = this.#load.entity.replace('{k}', String(caller))
    const settled = new Promise<string | null>((resolve) => {
      this.#waiting.set(entity, resolve)
      setTimeout(() => resolve('no wake'), limitMs).unref()
    })
    const status = await this.#post(`${this.#load.origin}/_electric/entities${entity}/send`, { payload: 'hello' })
    return status === 200 ? await settled : `HTTP ${status}`
  }

  async #work(wake: Wake): Promise<void> {
    const { origin } = this.#load
    const bearer = { authorization: `Bearer ${wake.claimToken}` }
    const claimed = await this.#ask('POST', wake.callback, { epoch: wake.epoch, wakeId: wake.wakeId }, bearer)
    const { writeToken } = JSON.parse(claimed.text) as { readonly writeToken: string }
    await this.#ask('GET', `${origin}${wake.streamPath}?offset=${wake.streams[0].offset.replace('~', '')}`)
    const run = (status: string, operation: string) => ({
      type: 'run',
      key: `run-${wake.epoch}`,
      value: { status },
      headers: { operation },
    })
    const { tail } = await this.#ask('POST', `${origin}${wake.streamPath}`, [run('started', 'insert'), run('completed', 'update')], {
      authorization: `Bearer ${writeToken}`,
      'producer-id': `entity-${wake.entity.url}`,
      'producer-epoch': String(wake.epoch),
      'producer-seq': '0',
    })
    await this.#ask('POST', wake.callback, { epoch: wake.epoch, acks: [{ path: wake.streamPath, offset: tail }], done: true }, bearer)
  }

  async #ask(method: 'GET' | 'POST', url: string, body?: unknown, headers: Readonly<Record<string, string>> = {}) {
    const response = await request(url, {
      dispatcher: this.#agent,
      method,
      headers: { 'content-type': 'application/json', ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    })
    const text = await response.body.text()
    if (response.statusCode >= 300) throw new Error(`${method} ${new URL(url).pathname}: ${response.statusCode} ${text}`)
    return { text, tail: String(response.headers['stream-next-offset'] ?? '') }
  }

  async #post(url: string, body: unknown): Promise<number> {
    const { statusCode, body: answer } = await request(url, {
      dispatcher: this.#agent,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    await answer.dump()
    return statusCode
  }

  #settle({ entity }: Wake, wrong: string | null): void {
    const settle = this.#waiting.get(entity.url)
    this.#waiting.delete(entity.url)
    settle?.(wrong)
  }
}

export async function measureWakes(command: Command, load: WakesLoad): Promise<Numbers> {
  const handler = new Handler(load, command.callers + 8)
  await handler.open()
  try {
    return await measure(command, async (_, caller) => await handler.message(caller))
  } finally {
    await handler.close()
  }
}

async function bodyOf(incoming: IncomingMessage): Promise<Wake> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as Wake
}
