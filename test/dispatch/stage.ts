/** The stage on which the reference handler is tried: a fake server, a webhook handler, and what they did. */
import { eventually } from '../support/eventually.js'
import type { RunRecord } from '../support/run-log.js'
import { type StreamEvent, textOf } from '../support/wake.js'
import type { WakeContext, WakeHandler } from '../support/wake-context.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { FakeServer, type Heard } from './fake-server.js'

export const main = '/chat/a/main'
export const entity = '/chat/a'
export const callback = /wake-callbacks/
export const inbox = (text: string, more: object = {}, key = text) => ({
  type: 'inbox',
  key,
  value: {
    from: '/principal/user%3Asam',
    payload: { text },
    timestamp: '2026-11-25T10:00:00.000Z',
    mode: 'immediate',
    status: 'processed',
    ...more,
  },
  headers: { operation: 'insert' },
})
export const created = {
  type: 'entity_created',
  key: 'entity-created',
  value: { entity_type: 'chat', args: {} },
  headers: { operation: 'insert' },
}
export const tag = { type: 'tags', key: 'color', value: { key: 'color', value: 'blue' }, headers: { operation: 'insert' } }
export const signal = (name: string, status = 'unhandled') => ({
  type: 'signal',
  key: `sig-${name}`,
  value: { signal: name, status, sender: '/_electric/server', timestamp: '2026-11-25T10:00:00.000Z' },
  headers: { operation: 'insert' },
})
export const row = (text: string) => ({ type: 'state:notes', key: text, value: { text }, headers: { operation: 'insert' as const } })
const isDone = ({ body }: Heard): boolean => typeof body === 'object' && body !== null && 'done' in body
/** Until SIGINT, SIGKILL or a failure. */
export const untilAborted = async ({ signal: aborted }: WakeContext): Promise<never> =>
  await new Promise((_, reject) => aborted.addEventListener('abort', () => reject(new Error('aborted'))))

export class Stage {
  readonly server: FakeServer
  readonly handler: WebhookHandler
  /** What the handler was called with, texts of each pass. */
  readonly passes: string[][] = []
  /** What the handler does. */
  work: WakeHandler = async () => undefined

  private constructor(server: FakeServer, start: (handle: WakeHandler) => WebhookHandler) {
    this.server = server
    this.handler = start(this.handle)
  }

  /** `idleMs`: how long a handler that has nothing to do waits for more before it is done. */
  static async start({ idleMs = 60 }: { readonly idleMs?: number } = {}): Promise<Stage> {
    const server = await FakeServer.start()
    let handle: WakeHandler = async () => undefined
    const handler = await WebhookHandler.start({
      baseUrl: server.url,
      heartbeatMs: 40,
      idleMs,
      handler: async (context) => await handle(context),
    })
    return new Stage(server, (theirs) => {
      handle = theirs
      return handler
    })
  }

  readonly handle: WakeHandler = async (context) => {
    this.passes.push(context.events.map(textOf))
    await this.work(context)
  }

  async stop(): Promise<void> {
    this.handler.die()
    await this.handler.stop()
    await this.server.stop()
  }

  async delivered(from: string, more: Readonly<Record<string, unknown>> = {}): Promise<void> {
    expect(await this.server.deliver(this.handler.url, this.server.wake(entity, from, more))).toEqual({ status: 200, body: { ok: true } })
  }

  /** The run of this index, once it has ended. */
  async ended(index = 0): Promise<RunRecord> {
    return await eventually(() => (this.handler.log.runs[index]?.ending === undefined ? undefined : this.handler.log.runs[index]))
  }

  /** Once the handler was called. */
  async begun(): Promise<void> {
    await eventually(() => this.passes.length > 0)
  }

  dones(): readonly Heard[] {
    return this.server.callsTo(callback).filter(isDone)
  }

  written(): readonly Heard[] {
    return this.server.callsTo(/\/main$/)
  }

  signalRows(): readonly StreamEvent[] {
    return this.server.events(main).filter(({ type }) => type === 'signal')
  }
}
