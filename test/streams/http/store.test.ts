import { httpStreamStore } from '../../../src/streams/http/store.js'
import { startForeignStreams } from '../../support/foreign-streams.js'
import { describeStreamStore } from '../store-suite.js'

describeStreamStore(
  'http, at @durable-streams/server',
  async () => {
    const streams = await startForeignStreams()
    const store = httpStreamStore({ url: streams.url })
    const otherStore = httpStreamStore({ url: streams.url })
    return {
      store,
      otherStore,
      stop: async () => {
        await store.close()
        await otherStore.close()
        await streams.stop()
      },
    }
  },
  {
    expectedDeviations: [
      'spec/14 §1.5: offset=now renews the TTL',
      'spec/14 §2.7: a control frame follows every data frame',
      'spec/14 §2.7: deleting a stream ends its SSE readers',
      'spec/14 §3.4: the path of an expired source with forks is not free',
    ],
  },
)
