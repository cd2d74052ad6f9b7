/** The demo agent beside the servers of a house, in this process: what `npm start` puts together, with replicas and streams to choose. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfiguration } from '../../src/config.js'
import { type DemoAgent, startDemoAgent } from '../../src/dev/demo-agent.js'
import { eventually } from '../support/eventually.js'
import { Wire, type WireEvent } from '../support/wire.js'

/** What completed runs have said, in the order in which they began. */
export function saidIn(events: readonly WireEvent[]): readonly string[] {
  const runs = [...new Set(events.filter(({ type }) => type === 'run').map(({ key }) => key))]
  const isCompleted = (run: string): boolean =>
    events.some(({ type, key, value }) => type === 'run' && key === run && value?.status === 'completed')
  const textOf = (run: string): string =>
    events
      .filter(({ type, value }) => type === 'text_delta' && value?.run_id === run)
      .map(({ value }) => String(value?.delta))
      .join('')
  return runs.filter(isCompleted).map(textOf)
}

export class EchoStage {
  readonly wire: Wire
  /** What it said to the person at the terminal. */
  readonly lines: string[] = []
  readonly #folder: string
  #agent: DemoAgent | undefined

  private constructor(wire: Wire, folder: string) {
    this.wire = wire
    this.#folder = folder
  }

  static async start(streams: 'postgres' | 'http' = 'postgres'): Promise<EchoStage> {
    const stage = new EchoStage(await Wire.start({ streams }), await mkdtemp(join(tmpdir(), 'agents-echo-')))
    await stage.startAgent()
    return stage
  }

  async startAgent(environment: Readonly<Record<string, string>> = {}): Promise<string | undefined> {
    const configuration = loadConfiguration({ DATABASE_URL: this.wire.house.databaseUrl, AGENTS_DATA_DIR: this.#folder, ...environment })
    this.#agent = await startDemoAgent({ configuration, serverUrl: this.wire.house.url, say: (line) => this.lines.push(line) })
    return await this.#agent.serverIsReady()
  }

  async stopAgent(): Promise<void> {
    await this.#agent?.stop()
  }

  async stop(): Promise<void> {
    await this.stopAgent()
    await this.wire.stop()
    await rm(this.#folder, { recursive: true, force: true })
  }

  /** Where wakes of the type go. */
  async handlerUrl(): Promise<string> {
    const { body } = await this.wire.ask('GET', '/_electric/entity-types/echo')
    return (body as { default_dispatch_policy: { targets: [{ url: string }] } }).default_dispatch_policy.targets[0].url
  }

  async says(url: string, texts: readonly string[], withinMs = 30_000): Promise<void> {
    await eventually(
      async () => {
        const said = saidIn(await this.wire.events(url))
        if (JSON.stringify(said) !== JSON.stringify(texts)) throw new Error(JSON.stringify(said))
        return true
      },
      { withinMs },
    )
  }

  /** Nobody works on it, nothing is left to work on. */
  async rests(url: string, status = 'idle', withinMs = 30_000): Promise<void> {
    const unfinished = `SELECT s.id FROM subscriptions s WHERE s.wake_id IS NOT NULL AND s.entity_url = $1`
    await eventually(async () => (await this.wire.statusOf(url)) === status && (await this.wire.sql(unfinished, url)).length === 0, {
      withinMs,
    })
  }
}
