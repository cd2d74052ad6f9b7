/** Branded identifiers. Each brand is made by its parser and nowhere else. */

declare const brand: unique symbol
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name }

/** `/{type}/{instanceId}`, segments exactly as sent (percent-encoding kept), at most 1,000 bytes (spec/01 §4). */
export type EntityUrl = Branded<string, 'EntityUrl'>
/** The raw request path of a stream, percent-encoding kept, case-sensitive (spec/14 §1.1). */
export type StreamPath = Branded<string, 'StreamPath'>
/** `<16 digits>_<16 digits>`: the end position of a log entry; string order is log order (spec/14 §1.2). */
export type Offset = Branded<string, 'Offset'>
/** Names one operation for ever: the same id means the same verdict, however often it is carried out. */
export type OperationId = Branded<string, 'OperationId'>
/** `/principal/<encodeURIComponent(kind:id)>`: the canonical form that is stored and compared (spec/12 §1.1). */
export type PrincipalUrl = Branded<string, 'PrincipalUrl'>

/** Bytes of UTF-8. */
export const maxEntityUrlBytes = 1_000
/** Bytes of UTF-8; longer paths are refused with 400 instead of breaking an index. */
export const maxStreamPathBytes = 2_000
/** Bytes of UTF-8; longer ids are refused with 400 instead of breaking an index. Those of the runtime hold an entity URL and a shared-state id. */
export const maxProducerIdBytes = 2_600

/**
 * Visible ASCII without `*`, which would be a subscription pattern, and without what cannot stand in a request path: URL parsers cut at `?` and `#`, take
 * `\` for `/`, and encode the others, so the stream of an entity that had one in its URL could not be addressed.
 */
const segment = /^[!$-)+-.0-;=@-[\]-_a-z|~]+$/

/** URL parsers resolve these, so nobody could address what is called so. */
const dots = /^(\.|%2e){1,2}$/i

/** The URL of `/{type}/{instanceId}`, or null where the segments make none. */
export function entityUrl(type: string, instanceId: string): EntityUrl | null {
  if (!segment.test(type) || !segment.test(instanceId) || type.startsWith('_') || dots.test(type) || dots.test(instanceId)) return null
  const url = `/${type}/${instanceId}`
  return url.length <= maxEntityUrlBytes ? (url as EntityUrl) : null
}

/** Parses a whole entity URL. */
export function parseEntityUrl(text: string): EntityUrl | null {
  const [empty, type, instanceId, ...more] = text.split('/')
  if (empty !== '' || type === undefined || instanceId === undefined || more.length > 0) return null
  return entityUrl(type, instanceId)
}

export const typeOf = (url: EntityUrl): string => url.slice(1, url.indexOf('/', 1))

/** The main stream of an entity: always derived, never stored (spec/01 §4). */
export const mainStream = (url: EntityUrl): StreamPath => `${url}/main` as StreamPath

/** The entity whose main stream `path` is, or null. */
export function entityOfMainStream(path: string): EntityUrl | null {
  return path.endsWith('/main') ? parseEntityUrl(path.slice(0, -'/main'.length)) : null
}

const zeroHalf = '0'.repeat(16)

export const zeroOffset = `${zeroHalf}_${zeroHalf}` as Offset

export function parseOffset(text: string): Offset | null {
  return /^\d{16}_\d{16}$/.test(text) ? (text as Offset) : null
}

/** The offset of position `position` (an integer ≥ 0, at most 16 digits). */
export const offsetOf = (position: number | bigint | string): Offset => `${zeroHalf}_${String(position).padStart(16, '0')}` as Offset

/** The position of one of our own offsets; `Number.MAX_SAFE_INTEGER` where it lies beyond every stream. */
export function positionOf(offset: Offset): number {
  if (!offset.startsWith(zeroHalf)) return Number.MAX_SAFE_INTEGER
  return Math.min(Number(offset.slice(17)), Number.MAX_SAFE_INTEGER)
}

export const operationId = (text: string): OperationId => text as OperationId
