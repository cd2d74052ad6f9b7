/** The subscription API is there twice: at the root, and below the prefix under which the public stream suite looks for it (spec/14 §7.1). */
import { errors } from '../../domain/errors.js'
import { type Mount, mounts } from '../../domain/subscriptions.js'
import { decodedParam } from '../urls.js'

export interface View {
  readonly mount: Mount
  /** All of the API is below it. */
  readonly prefix: string
  /** Makes names of operations unique. */
  readonly operation: (name: string) => string
}

export const views: readonly View[] = mounts.map((mount) => ({
  mount,
  prefix: `${mount}/__ds`,
  operation: (name) => (mount === '' ? name : `${name}OfStreams`),
}))

export interface AtSubscription {
  readonly Params: { readonly id: string }
}

/** Percent-decoded; what no row can hold names nothing. */
export function idOf({ id }: AtSubscription['Params']): string {
  const decoded = decodedParam(id)
  if (decoded === '') throw errors.CONTROL_ROUTE_NOT_FOUND()
  if (decoded.includes('\0')) throw errors.INVALID_REQUEST('Subscription ids must not contain U+0000')
  return decoded
}

const tokenRoute = /^(\/v1\/stream)?\/__ds\/subscriptions\/[^/]+\/(callback|ack|release)$/

/** Requests that a claim token alone authorises (spec/06 §2). */
export const speaksByClaimToken = (path: string): boolean => tokenRoute.test(path)
