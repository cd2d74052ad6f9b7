/**
 * Writes to main streams as an agent's runtime does, with the consequences that its appends have. Until claims hand out write tokens this goes
 * around HTTP: a pipeline of the test's own on the house's database and streams, like one more replica.
 */
import { ForeignPipeline } from '../../src/dispatch/foreign-pipeline.js'
import type { Pipeline } from '../../src/dispatch/pipeline.js'
import { PostgresPipeline } from '../../src/dispatch/postgres-pipeline.js'
import { Waking } from '../../src/dispatch/waking.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { Database } from '../../src/registry/database.js'
import { httpStreamStore } from '../../src/streams/http/store.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'
import type { StreamStore } from '../../src/streams/store.js'
import type { House } from './house.js'

export class RuntimeWriter {
  readonly #database: Database
  readonly #streams: StreamStore
  readonly #pipeline: Pipeline

  constructor(house: House) {
    this.#database = new Database({ url: house.databaseUrl, tenant: 'default', poolMax: 4 })
    const waking = new Waking(defaultLimits, () => undefined) // its wakes are delivered by the house, when they lapse
    if (house.streamsUrl === undefined) {
      const streams = new PostgresStreams({ database: this.#database })
      this.#streams = streams
      this.#pipeline = new PostgresPipeline({
        database: this.#database,
        streams: streams.transactional,
        waking,
        limits: defaultLimits,
      })
    } else {
      this.#streams = httpStreamStore({ url: house.streamsUrl })
      this.#pipeline = new ForeignPipeline({ database: this.#database, streams: this.#streams, waking, limits: defaultLimits })
    }
  }

  /** One entry with these events on the main stream of `url`. Its end offset, where it is told. */
  async append(url: string, ...events: readonly object[]): Promise<string> {
    const body = Buffer.from(JSON.stringify(events))
    const verdict = await this.#pipeline.append({ path: `${url}/main` as never, contentType: 'application/json', body }) // the path of an entity
    if (verdict.outcome !== 'appended') throw new Error(`the append to ${url} was ${JSON.stringify(verdict)}`)
    return verdict.tail
  }

  async close(): Promise<void> {
    await this.#pipeline.drained()
    await this.#streams.close()
    await this.#database.close()
  }
}

type Operation = 'insert' | 'update' | 'delete' | 'upsert'

export const rowEvent = (
  type: string,
  key: string,
  value: Readonly<Record<string, unknown>> | undefined,
  operation: Operation = 'insert',
) => ({
  type,
  key,
  ...(value === undefined ? {} : { value }),
  headers: { operation },
})

export const manifestEvent = (key: string, value: object, operation: Operation = 'insert') =>
  rowEvent('manifest', key, { key, ...value }, operation)

/** A manifest row as a runtime writes it for a child that it has spawned. */
export function childEvent(url: string, more: object = {}) {
  const [, type, id] = url.split('/')
  return manifestEvent(`child:${type}:${id}`, { kind: 'child', id, entity_type: type, entity_url: url, observed: true, ...more })
}

export const runEvent = (
  key: string,
  status: 'started' | 'completed' | 'failed',
  operation: Operation = status === 'started' ? 'insert' : 'update',
) => rowEvent('run', key, { status, ...(status === 'started' ? {} : { finish_reason: 'stop' }) }, operation)
