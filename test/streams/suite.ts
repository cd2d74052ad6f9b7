/** What the parts of the port-level suite share. */
import { randomBytes } from 'node:crypto'
import type { StreamStore } from '../../src/streams/store.js'

/** Rules that a foreign server may break without harm to what the port promises. */
export type Deviation =
  | 'spec/14 §1.5: offset=now renews the TTL'
  | 'spec/14 §2.7: a control frame follows every data frame'
  | 'spec/14 §2.7: deleting a stream ends its SSE readers'
  | 'spec/14 §3.4: the path of an expired source with forks is not free'

export interface Suite {
  readonly store: () => StreamStore
  readonly otherStore: () => StreamStore
  /** `it`, for a rule that some servers break. */
  readonly rule: (line: Deviation, promise: string, proof: () => Promise<void>) => void
}

export const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
export const jsonType = 'application/json'

/** A path of its own for every use. */
export const freshPath = <Path extends string>(name = 'stream'): Path => `/suite/${name}-${randomBytes(6).toString('hex')}` as Path
