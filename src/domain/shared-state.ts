/** Shared-state streams and the links that say whose they are (spec/03 §9.2, spec/08 §7.2, spec/12 §9). Pure. */
import type { EntityUrl } from './ids.js'
import type { ProjectionChange } from './projection.js'

const prefix = '/_electric/shared-state/'
/** Bytes of UTF-8. An id stands in an index, beside the URL of its owner; so does the key of its manifest row. */
export const maxSharedStateIdBytes = 1_000
const maxManifestKeyBytes = 1_100

export type SharedStatePath = { readonly id: string } | { readonly refused: string }

/** The id that the one segment of `path` names, percent-decoded; null where `path` is no shared-state stream. */
export function sharedStateOf(path: string): SharedStatePath | null {
  const segment = path.startsWith(prefix) ? path.slice(prefix.length) : ''
  if (segment === '' || segment.includes('/')) return null
  const id = decoded(segment)
  if (id === null) return { refused: 'Malformed percent-encoding in the path' }
  if (!isStorable(id, maxSharedStateIdBytes))
    return { refused: `Shared-state ids are at most ${maxSharedStateIdBytes} bytes, without U+0000` }
  return { id }
}

function decoded(segment: string): string | null {
  try {
    return decodeURIComponent(segment)
  } catch {
    return null
  }
}

const isStorable = (text: string, maxBytes: number): boolean =>
  text !== '' && text.isWellFormed() && !text.includes('\0') && Buffer.byteLength(text) <= maxBytes

/** Whether a text can be the id of a shared state at all. */
export const isSharedStateId = (id: string): boolean => isStorable(id, maxSharedStateIdBytes)

/** The manifest key of the link that a bootstrap stores. */
export const sharedStateKey = (id: string): string => `shared-state:${id}`

export interface SharedStateLinkChange {
  readonly owner_url: string
  readonly manifest_key: string
  /** What the key is linked to from now on; null: nothing. */
  readonly id: string | null
}

/** What manifest rows mean for the links of their entity: a row replaces what its key owned before (spec/08 §7.1). */
export function sharedStateLinks(rows: readonly (ProjectionChange & { readonly entity_url: EntityUrl })[]): SharedStateLinkChange[] {
  return rows
    .filter(({ type, key }) => type === 'manifest' && isStorable(key, maxManifestKeyBytes))
    .map(({ entity_url, key, value }) => ({ owner_url: entity_url, manifest_key: key, id: linkedId(value) }))
}

interface ManifestRow {
  readonly kind?: unknown
  readonly id?: unknown
  readonly sourceType?: unknown
  readonly sourceRef?: unknown
  readonly config?: { readonly id?: unknown } | null
}

/** The rows of spec/08 §7.2 that link shared state; all others, and ids that no row can hold, link nothing. */
function linkedId(text: string | null): string | null {
  const row: unknown = text === null ? null : JSON.parse(text)
  if (typeof row !== 'object' || row === null) return null
  const id = idOf(row)
  return typeof id === 'string' && isStorable(id, maxSharedStateIdBytes) ? id : null
}

function idOf({ kind, id, sourceType, sourceRef, config }: ManifestRow): unknown {
  if (kind === 'shared-state') return id
  if (kind !== 'source' || sourceType !== 'db') return null
  return typeof config?.id === 'string' ? config.id : sourceRef
}
