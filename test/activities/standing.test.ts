/** A process that stands still while its operation is undone: what it had under way lands, and it begins nothing more. */
import { jest } from '@jest/globals'
import { foreignSpawnActivities } from '../../src/activities/foreign-streams.js'
import type { Parts } from '../../src/activities/parts.js'
import { type EntityUrl, mainStream, type OperationId } from '../../src/domain/ids.js'
import { sql } from '../../src/registry/database.js'
import { putPayloads } from '../../src/registry/operations.js'
import { dropReservations } from '../../src/registry/spawning.js'
import { httpStreamStore } from '../../src/streams/http/store.js'
import { isRefused, type StreamStore } from '../../src/streams/store.js'
import { eventually } from '../support/eventually.js'
import { type ForeignStreams, startForeignStreams } from '../support/foreign-streams.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

const operationId = 'frozen' as OperationId
const atOnce = 16
const urls = Array.from({ length: 40 }, (_, index) => `/chat/${index}` as EntityUrl)

let fresh: FreshDatabase
let foreign: ForeignStreams
let streams: StreamStore
beforeAll(async () => {
  fresh = await freshDatabase()
  foreign = await startForeignStreams()
  streams = httpStreamStore({ url: foreign.url })
})
afterAll(async () => {
  jest.restoreAllMocks()
  await streams.close()
  await foreign.stop()
  await fresh.drop()
})

const standing = async () =>
  (await Promise.all(urls.map(async (url) => await streams.head(mainStream(url))))).filter((head) => !isRefused(head))

it('makes no stream of an operation that was undone meanwhile', async () => {
  const { database } = fresh
  await database.query(sql`
    INSERT INTO entities (url, type, status, created_at, updated_at, reserved_by)
    SELECT i.url, 'chat', 'idle', 1, 1, ${operationId} FROM unnest(${urls}::text[]) AS i (url)`)
  const planned = urls.map((url) => ({ url, first: JSON.stringify([{ type: 'entity_created', key: url, headers: {} }]), messages: [] }))
  await putPayloads(database, [{ id: `${operationId}/streams`, payload: JSON.stringify({ items: [], streams: planned }) }])
  let begun = 0
  let thaw: () => void = () => undefined
  const thawed = new Promise<void>((resolve) => {
    thaw = resolve
  })
  const create: StreamStore['create'] = async (...request) => {
    begun += 1
    await thawed
    return await streams.create(...request)
  }
  const store: StreamStore = new Proxy(streams, {
    get: (target, name) => (name === 'create' ? create : Reflect.get(target, name)),
  })
  const parts = { database, appends: { kind: 'intents', streams: store } } as unknown as Parts // all that is asked for

  const making = foreignSpawnActivities(parts).createStreams({ operationId })
  making.catch(() => undefined)
  await eventually(() => begun === atOnce)
  await dropReservations(database, operationId)
  const now = Date.now()
  jest.spyOn(Date, 'now').mockImplementation(() => now + 60_000)
  thaw()

  await expect(making).rejects.toThrow('the reservations of operation frozen are gone')
  expect(begun).toBe(atOnce)
  expect(await standing()).toHaveLength(atOnce)
})
