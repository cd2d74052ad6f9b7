import { withPayloads } from '../../src/activities/payloads.js'
import { insertPayloads } from '../../src/registry/operations.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(async () => await fresh.drop())

it('an item comes with what waits for it in the registry, and not at all where that is gone', async () => {
  await insertPayloads(fresh.database, [{ id: 'there', payload: '{"args":{"a":1}}' }])

  expect(await withPayloads(fresh, [{ url: '/t/a' }, { url: '/t/b', payloadId: 'there' }])).toEqual([
    { url: '/t/a' },
    { url: '/t/b', payloadId: 'there', args: { a: 1 } },
  ])
  await expect(withPayloads(fresh, [{ url: '/t/b', payloadId: 'there' }, { payloadId: 'gone' }])).rejects.toThrow('has been forgotten')
})
