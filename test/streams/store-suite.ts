/**
 * What every caller of the StreamStore port depends on, run against each adapter. `spec/14` lines that a server behind an adapter is known to break
 * are named in `expectedDeviations`: their tests must fail, so that a deviation that goes away is noticed.
 */
import type { StreamStore } from '../../src/streams/store.js'
import { describeAppends } from './store-suite-appends.js'
import { describeCreates } from './store-suite-creates.js'
import { describeForks } from './store-suite-forks.js'
import { describeReads } from './store-suite-reads.js'
import type { Deviation, Suite } from './suite.js'

export interface StartedStore {
  readonly store: StreamStore
  /** A second one on the same streams, as another process would have. */
  readonly otherStore?: StreamStore
  stop(): Promise<void>
}

export interface SuiteOptions {
  readonly expectedDeviations?: readonly Deviation[]
}

export function describeStreamStore(
  name: string,
  start: () => Promise<StartedStore>,
  { expectedDeviations = [] }: SuiteOptions = {},
): void {
  describe(`the StreamStore port: ${name}`, () => {
    let started: StartedStore
    beforeAll(async () => {
      started = await start()
    })
    afterAll(async () => {
      await started.stop()
    })
    const suite: Suite = {
      store: () => started.store,
      otherStore: () => started.otherStore ?? started.store,
      rule: (line, promise, proof) => (expectedDeviations.includes(line) ? it.failing : it)(`${promise} (${line})`, proof),
    }
    describeCreates(suite)
    describeAppends(suite)
    describeReads(suite)
    describeForks(suite)
  })
}
