/**
 * Messages and their handler in one process: how long until it is called, and until it is done (claim, read, append, done) as a runtime does it.
 * Deliveries come over kept-alive connections, like all other requests; each caller has two connections, one of them for its entity's handler.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { Client } from 'undici'
import { exchange } from './exchange.js'
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

interface Caller {
  readonly entity: string
  readonly sends: Client
  readonly handles: Client
  /** Told when the wake of its message is over: null, or what was wrong. */
  settle: (wrong: string | null) => void
}

const jsonHeaders = { 'content-type': 'application/json' } as const

class Handler {
  readonly #load: WakesLoad
  readonly #callers: readonly Caller[]
  readonly #byEntity: ReadonlyMap<string, Caller>
  #server: Server | null = null

  constructor(load: WakesLoad, callers: number) {
    this.#load = load
    this.#callers = Array.from({ length: callers }, (_, caller) => ({
      entity: load.entity.replace('{k}', String(caller)),
      sends: new Client(load.origin),
      handles: new Client(load.origin),
      settle: () => undefined,
    }))
    this.#byEntity = new Map(this.#callers.map((caller) => [caller.entity, caller]))
  }

  async open(): Promise<void> {
    const server = createServer({ keepAliveTimeout: 60_000 }, (incoming, response) => {
      bodyOf(incoming, (wake) => {
        const isCalled = this.#load.until === 'called'
        response.writeHead(200, jsonHeaders).end(isCalled ? '{"done":true}' : '{"ok":true}')
        const caller = this.#byEntity.get(wake.entity.url)
        if (caller === undefined) return
        if (isCalled) caller.settle(null)
        else
          this.#work(caller.handles, wake).then(
            () => caller.settle(null),
            (failure: unknown) => caller.settle(String(failure)),
          )
      })
    })
    this.#server = server
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(this.#load.handlerPort, '127.0.0.1', resolve))
  }

  async close(): Promise<void> {
    this.#server?.closeAllConnections()
    await new Promise<void>((resolve) => this.#server?.close(() => resolve()) ?? resolve())
    await Promise.all(this.#callers.flatMap(({ sends, handles }) => [sends.destroy(), handles.destroy()]))
  }

  /** One operation. */
  async message(number: number): Promise<string | null> {
    const caller = this.#callers[number] as Caller // one for each
    const settled = new Promise<string | null>((resolve) => {
      const overdue = setTimeout(() => resolve('no wake'), limitMs)
      caller.settle = (wrong) => {
        clearTimeout(overdue)
        resolve(wrong)
      }
    })
    const path = `/_electric/entities${caller.entity}/send`
    const { status } = await exchange(caller.sends, { method: 'POST', path, headers: jsonHeaders, body: '{"payload":"hello"}' })
    return status === 200 ? await settled : `HTTP ${status}`
  }

  async #work(client: Client, wake: Wake): Promise<void> {
    const bearer = { authorization: `Bearer ${wake.claimToken}` }
    const callback = new URL(wake.callback).pathname
    const claimed = await ask(client, 'POST', callback, { epoch: wake.epoch, wakeId: wake.wakeId }, bearer)
    const { writeToken } = JSON.parse(claimed.text) as { readonly writeToken: string }
    await ask(client, 'GET', `${wake.streamPath}?offset=${wake.streams[0].offset.replace('~', '')}`)
    const run = (status: string, operation: string) => ({
      type: 'run',
      key: `run-${wake.epoch}`,
      value: { status },
      headers: { operation },
    })
    const appended = await ask(client, 'POST', wake.streamPath, [run('started', 'insert'), run('completed', 'update')], {
      authorization: `Bearer ${writeToken}`,
      'producer-id': `entity-${wake.entity.url}`,
      'producer-epoch': String(wake.epoch),
      'producer-seq': '0',
    })
    const acks = [{ path: wake.streamPath, offset: appended.header('stream-next-offset') }]
    await ask(client, 'POST', callback, { epoch: wake.epoch, acks, done: true }, bearer)
  }
}

async function ask(client: Client, method: 'GET' | 'POST', path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}) {
  const text = body === undefined ? null : JSON.stringify(body)
  const answer = await exchange(client, { method, path, headers: { ...jsonHeaders, ...headers }, body: text }, { keep: true })
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`)
  return answer
}

export async function measureWakes(command: Command, load: WakesLoad): Promise<Numbers> {
  const handler = new Handler(load, command.callers)
  await handler.open()
  try {
    return await measure(command, async (_, caller) => await handler.message(caller))
  } finally {
    await handler.close()
  }
}

function bodyOf(incoming: IncomingMessage, take: (wake: Wake) => void): void {
  const chunks: Buffer[] = []
  incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
  incoming.on('end', () => take(JSON.parse(Buffer.concat(chunks).toString('utf8')) as Wake))
}
