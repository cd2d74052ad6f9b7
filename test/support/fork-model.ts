/**
 * What forks must be, said again without any of the server's rules (spec/04 §5–§7, §10–§12, §16): entities are lists of entries, entries lists of
 * items, and a fork is a prefix of the one with the rest of the chapter behind it. Times and random names are left out.
 */
import type { WireEvent } from './wire.js'

export interface Item {
  readonly type: string
  readonly key?: string
  readonly operation: unknown
  readonly value?: unknown
  readonly forkedFrom?: unknown
}

type Value = Readonly<Record<string, unknown>>

export interface ModelEntity {
  readonly url: string
  readonly type: string
  readonly parent: string | undefined
  readonly args: Value
  entries: readonly (readonly Item[])[]
  isKilled: boolean
}

/** An event as far as the model can know it. */
export function itemOf({ type, key, value = {}, headers }: WireEvent): Item {
  const { operation, forkedFrom } = headers
  const mark = typeof forkedFrom === 'string' ? { forkedFrom } : {}
  if (type === 'inbox') return { type, operation, value: { from: value.from, payload: value.payload }, ...mark }
  if (type === 'signal') return { type, operation, value: { signal: value.signal } }
  if (operation === 'delete') return { type, key, operation, ...mark }
  const { timestamp: _, ...rest } = value
  return { type, key, operation, value: type === 'entity_created' ? rest : value, ...mark }
}

/** Items that share an offset, and with it an entry. */
export function entriesOf(events: readonly WireEvent[]): readonly (readonly Item[])[] {
  const entries: Item[][] = []
  events.forEach((event, index) => {
    if (event.headers.offset === events[index - 1]?.headers.offset) entries.at(-1)?.push(itemOf(event))
    else entries.push([itemOf(event)])
  })
  return entries
}

export const message = (payload: unknown, from: string): Item => ({ type: 'inbox', operation: 'insert', value: { from, payload } })

export const created = ({ type, args, parent }: Pick<ModelEntity, 'type' | 'args' | 'parent'>, operation = 'insert'): Item => ({
  type: 'entity_created',
  key: 'entity-created',
  operation,
  value: { entity_type: type, args, ...(parent === undefined ? {} : { parent_url: parent }) },
})

/** The rows of one type as a reader reduces them: last writer wins. */
export function rowsOf(entries: readonly (readonly Item[])[], type: string): ReadonlyMap<string, Value> {
  const rows = new Map<string, Value>()
  for (const item of entries.flat()) {
    if (item.type !== type || item.key === undefined) continue
    if (item.operation === 'delete') rows.delete(item.key)
    else rows.set(item.key, item.value as Value)
  }
  return rows
}

export interface Cut {
  /** How many items of the root survive. */
  readonly keeps: number
}

/** The entries that hold the first `keeps` items; the last one may be shorter than it was. */
export function prefix(entries: readonly (readonly Item[])[], keeps: number): readonly (readonly Item[])[] {
  const kept: (readonly Item[])[] = []
  for (let left = keeps; left > 0 && kept.length < entries.length; left -= kept.at(-1)?.length ?? 0)
    kept.push((entries[kept.length] ?? []).slice(0, left))
  return kept
}

/** How many items an anchor keeps; undefined: there is no completed run. */
export function completedRun(entries: readonly (readonly Item[])[]): number | undefined {
  const index = entries.flat().findLastIndex(({ type, value, operation }) => {
    return type === 'run' && operation !== 'delete' && (value as Value).status === 'completed'
  })
  return index < 0 ? undefined : index + 1
}

const idOf = (url: string): string => url.split('/')[2] ?? ''

/** A copy as it must be, its events behind the inherited ones in groups whose inner order is free: by type, in units of what belongs together. */
export interface ExpectedCopy {
  readonly source: ModelEntity
  readonly url: string
  readonly parent: string | undefined
  readonly args: Value
  readonly inherited: readonly (readonly Item[])[]
  readonly behind: readonly (readonly (readonly Item[])[])[]
}

export interface ExpectedFork {
  readonly copies: readonly ExpectedCopy[]
  /** Old id → new id. */
  readonly boards: ReadonlyMap<string, string>
}

export class ForkModel {
  readonly entities = new Map<string, ModelEntity>()
  /** Shared states: their notes. */
  readonly boards = new Map<string, readonly string[]>()

  children(url: string): readonly ModelEntity[] {
    return [...this.entities.values()].filter(({ parent }) => parent === url)
  }

  subtree(root: ModelEntity): readonly ModelEntity[] {
    const members = [root]
    for (const { url } of members) members.push(...this.children(url))
    return members
  }

  /** Who is copied: root first, then breadth-first. */
  members(root: ModelEntity, cut: Cut | null): readonly ModelEntity[] {
    if (cut === null) return this.subtree(root)
    const named = new Set([...rowsOf(prefix(root.entries, cut.keeps), 'manifest').values()].map(({ entity_url }) => entity_url))
    const kept = this.children(root.url).filter(({ url }) => named.has(url))
    const members = [root, ...kept]
    for (const { url } of members.slice(1)) members.push(...this.subtree(this.entities.get(url) ?? root).slice(1))
    return members
  }

  /** What the fork must be. `suffix` is what the server has drawn. */
  fork(
    root: ModelEntity,
    cut: Cut | null,
    asked: { readonly url: string; readonly parent: string | undefined },
    suffix: string,
  ): ExpectedFork {
    const members = this.members(root, cut)
    const inherited = new Map(members.map(({ url, entries }) => [url, entries]))
    if (cut !== null) inherited.set(root.url, prefix(root.entries, cut.keeps))
    const urls = new Map(members.map(({ url, type }) => [url, `/${type}/${idOf(url)}-fork-${suffix}`]))
    urls.set(root.url, asked.url)
    const shared = [...inherited.values()].flatMap((entries) => [...rowsOf(entries, 'manifest').values()].flatMap(sharedIds))
    const boards = new Map(shared.map((id) => [id, `${id}-fork-${suffix}`]))
    const renames = { urls, boards }
    const copies = members.map((source): ExpectedCopy => {
      const entries = inherited.get(source.url) ?? []
      const copy = {
        source,
        url: urls.get(source.url) ?? '',
        parent: source === root ? asked.parent : urls.get(source.parent ?? ''),
        args: remapped(source.args, renames) as Value,
        inherited: entries,
      }
      const says = { ...created({ ...copy, type: source.type }, 'update'), forkedFrom: source.url }
      return { ...copy, behind: [[[says]], ...reconciliation(entries, source.url, renames)] }
    })
    return { copies, boards }
  }
}

const sharedIds = (row: Value): string[] => (row.kind === 'shared-state' ? [String(row.id)] : [])

interface Renames {
  readonly urls: ReadonlyMap<string, string>
  readonly boards: ReadonlyMap<string, string>
}

/** spec/04 §12: strings that are equal as a whole. */
function remapped(value: unknown, { urls, boards }: Renames): unknown {
  if (typeof value === 'string') {
    const [, shared] = /^\/_electric\/shared-state\/(.*)$/.exec(value) ?? []
    if (shared !== undefined) return boards.has(shared) ? `/_electric/shared-state/${boards.get(shared)}` : value
    const [, main] = /^(.*)\/main$/.exec(value) ?? []
    if (main !== undefined) return urls.has(main) ? `${urls.get(main)}/main` : value
    return urls.get(value) ?? boards.get(value) ?? value
  }
  if (Array.isArray(value)) return value.map((item) => remapped(item, { urls, boards }))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, remapped(member, { urls, boards })]))
}

/** spec/04 §16.2 and §16.3, for the kinds that the test writes. */
function reconciliation(
  entries: readonly (readonly Item[])[],
  forkedFrom: string,
  renames: Renames,
): readonly (readonly (readonly Item[])[])[] {
  const mark = { forkedFrom }
  const moved = (type: string, key: string, newKey: string, value: Value): Item[] => [
    { type, key, operation: 'delete', ...mark },
    { type, key: newKey, operation: 'insert', value: { ...value, key: newKey }, ...mark },
  ]
  const manifest = [...rowsOf(entries, 'manifest')].flatMap(([key, row]): Item[][] => {
    const url = renames.urls.get(String(row.entity_url))
    if (row.kind === 'child' && url !== undefined)
      return [moved('manifest', key, `child:${row.entity_type}:${idOf(url)}`, { ...row, id: idOf(url), entity_url: url })]
    const board = row.kind === 'shared-state' ? renames.boards.get(String(row.id)) : undefined
    return board === undefined ? [] : [moved('manifest', key, `shared-state:${board}`, { ...row, id: board })]
  })
  const statuses = [...rowsOf(entries, 'child_status')].flatMap(([key, row]): Item[][] => {
    const url = renames.urls.get(String(row.entity_url))
    return url === undefined
      ? []
      : [[{ type: 'child_status', key, operation: 'update', value: { ...row, entity_url: url, entity_type: url.split('/')[1] }, ...mark }]]
  })
  const watermarks = [...rowsOf(entries, 'replay_watermark')].flatMap(([key, row]): Item[][] => {
    const url = renames.urls.get(String(row.source_id))
    return url === undefined ? [] : [moved('replay_watermark', key, url, { ...row, source_id: url })]
  })
  return [manifest, statuses, watermarks]
}
