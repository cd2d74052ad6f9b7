/** Streams of a spawn whose step is repeated: where the first entry ends stays what it was, whatever stands behind it by then. */
import { makeStream } from '../../src/activities/foreign-streams.js'
import { type EntityUrl, mainStream, type OperationId } from '../../src/domain/ids.js'
import { httpStreamStore } from '../../src/streams/http/store.js'
import type { StreamStore } from '../../src/streams/store.js'
import { type ForeignStreams, startForeignStreams } from '../support/foreign-streams.js'

let foreign: ForeignStreams
let streams: StreamStore
beforeAll(async () => {
  foreign = await startForeignStreams()
  streams = httpStreamStore({ url: foreign.url })
})
afterAll(async () => {
  await streams.close()
  await foreign.stop()
})

it('a first message that a former attempt has landed stands behind it, and wakes its entity', async () => {
  const operation = 'repeated' as OperationId
  const url = '/chat/repeated' as EntityUrl
  const event = (type: string) => JSON.stringify([{ type, key: 'k', headers: { operation: 'insert' } }])
  const planned = { url, first: event('entity_created'), messages: [] }
  const first = await makeStream(streams, planned, operation)
  await streams.append(mainStream(url), { contentType: 'application/json', body: Buffer.from(event('inbox')) })

  expect(await makeStream(streams, planned, operation)).toBe(first)
})
