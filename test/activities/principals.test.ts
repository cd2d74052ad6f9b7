/** Entities of principals with a foreign stream server, whatever became of earlier attempts to make them. */
import type { Parts } from '../../src/activities/parts.js'
import { completePrincipal } from '../../src/activities/principals.js'
import { ForeignPipeline } from '../../src/dispatch/foreign-pipeline.js'
import { Waking } from '../../src/dispatch/waking.js'
import { mainStream, type OperationId } from '../../src/domain/ids.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { parsePrincipal } from '../../src/domain/principals.js'
import { planPrincipal } from '../../src/domain/spawn-plan.js'
import { sql } from '../../src/registry/database.js'
import { dropReservations } from '../../src/registry/spawning.js'
import { httpStreamStore } from '../../src/streams/http/store.js'
import type { StreamStore } from '../../src/streams/store.js'
import { type ForeignStreams, startForeignStreams } from '../support/foreign-streams.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
let foreign: ForeignStreams
let streams: StreamStore
beforeAll(async () => {
  fresh = await freshDatabase()
  foreign = await startForeignStreams()
  streams = httpStreamStore({ url: foreign.url })
})
afterAll(async () => {
  await streams.close()
  await foreign.stop()
  await fresh.drop()
})

function planned(key: string, atMs: number) {
  const parsed = parsePrincipal(key)
  if ('refused' in parsed) throw new Error(parsed.refused)
  return planPrincipal(parsed.principal, { revision: 1, inbox_schemas: null, state_schemas: null } as never, atMs) // all that is asked for
}

/** `dies`: with its first stream made, and nothing said of it. */
function parts({ dies = false } = {}): Parts {
  const { database } = fresh
  const pipeline = new ForeignPipeline({ database, streams, waking: new Waking(defaultLimits, () => undefined), limits: defaultLimits })
  const create: StreamStore['create'] = async (...request) => {
    const verdict = await streams.create(...request)
    if (dies) throw new Error('dead')
    return verdict
  }
  const store = new Proxy(streams, { get: (target, name) => (name === 'create' ? create : Reflect.get(target, name)) })
  const appends = { kind: 'intents', streams: store, linkIn: pipeline.linkIn.bind(pipeline) }
  return { database, appends } as unknown as Parts // all that is asked for
}

const statusOf = async (url: string) =>
  (await fresh.database.query(sql`SELECT reserved_by IS NULL AS visible FROM entities WHERE url = ${url}`)).rows

it('a principal whose process died with its stream made is made by the next, also when its reservation was dropped meanwhile', async () => {
  const { url } = planned('user:ann', 1).entity
  await expect(completePrincipal(parts({ dies: true }), planned('user:ann', 1_000))).rejects.toThrow('dead')
  await dropReservations(fresh.database, `principal:${url}` as OperationId) // as sweep does

  await completePrincipal(parts(), planned('user:ann', 2_000))

  expect(await statusOf(url)).toEqual([{ visible: true }])
})

it('a principal whose stream is not ours is refused, and not passed over', async () => {
  const { url } = planned('user:kim', 1).entity
  await streams.create(mainStream(url), { contentType: 'application/json', body: Buffer.from('[{"type":"other"}]') })

  await expect(completePrincipal(parts(), planned('user:kim', 1_000))).rejects.toThrow(`the stream of ${url} is not ours`)
  expect(await statusOf(url)).toEqual([{ visible: false }])
})
