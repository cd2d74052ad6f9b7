import { defaultLimits } from '../../../src/domain/limits.js'
import { Database } from '../../../src/registry/database.js'
import { PostgresStreams } from '../../../src/streams/postgres/store.js'
import { freshDatabase } from '../../support/postgres.js'
import { describeStreamStore } from '../store-suite.js'

describeStreamStore('postgres', async () => {
  const fresh = await freshDatabase()
  const other = new Database({ url: fresh.url, tenant: 'default', poolMax: 5 })
  const limits = { ...defaultLimits, longPollTimeoutMs: 1_500 }
  const store = new PostgresStreams({ database: fresh.database, limits })
  const otherStore = new PostgresStreams({ database: other, limits })
  return {
    store,
    otherStore,
    stop: async () => {
      await Promise.all([store.close(), otherStore.close()])
      await other.close()
      await fresh.drop()
    },
  }
})
