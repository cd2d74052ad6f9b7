/** What the server has made, held against the model (fork-model.ts). */
import { type ExpectedFork, entriesOf, type ForkModel, type Item, type ModelEntity } from './fork-model.js'
import type { Copies, Forker } from './forker.js'
import { expectStatus, type WireEvent } from './wire.js'

/** What the commands have seen and made, so that nobody takes silence for proof. */
export const nothingSeen = () => ({ head: 0, pointer: 0, inEntry: 0, anchor: 0, refused: 0, members: 0, boards: 0, forksOfForks: 0 })

export class Real {
  readonly forker: Forker
  readonly seen: ReturnType<typeof nothingSeen>

  constructor(forker: Forker, seen: ReturnType<typeof nothingSeen>) {
    this.forker = forker
    this.seen = seen
  }

  async read({ url, entries }: Pick<ModelEntity, 'url' | 'entries'>): Promise<readonly WireEvent[]> {
    const events = await this.forker.wire.events(url)
    expect({ url, entries: entriesOf(events) }).toEqual({ url, entries })
    return events
  }

  async notes(id: string): Promise<readonly string[]> {
    const { body } = expectStatus(200, await this.forker.wire.ask('GET', `/_electric/shared-state/${id}?offset=-1`))
    return (body as readonly WireEvent[]).map(({ value }) => String(value?.text))
  }

  async readAll(model: ForkModel): Promise<void> {
    for (const entity of model.entities.values()) {
      await this.read(entity)
      expect(await this.forker.wire.statusOf(entity.url)).toBe(entity.isKilled ? 'killed' : 'idle')
    }
    for (const [id, notes] of model.boards) expect({ id, notes: await this.notes(id) }).toEqual({ id, notes })
  }
}

/** What the server has drawn for the names of this fork; a root that was named shows it in its other copies, or in its board's row. */
export async function suffixOf(real: Real, { root, entities }: Copies, source: string, isNamed: boolean): Promise<string> {
  const other = isNamed ? entities[1]?.url : root.url
  if (other !== undefined) return other.slice(-8)
  const own = (await real.forker.ownEvents(root.url)).filter(({ type, headers }) => type === 'manifest' && headers.forkedFrom === source)
  return own.find(({ headers }) => headers.operation === 'insert')?.key.slice(-8) ?? ''
}

/** The copies are as they should be; from now on they are entities like any other. */
export async function adopted(
  model: ForkModel,
  real: Real,
  copies: Copies,
  { copies: expected, boards }: ExpectedFork,
  messages: readonly Item[],
): Promise<void> {
  expect(copies.entities[0]).toEqual(copies.root)
  const shown = (
    all: readonly { readonly url: string; readonly parent?: string | undefined; readonly spawn_args?: unknown; readonly args?: unknown }[],
  ) => all.map(({ url, parent, args, spawn_args }) => ({ url, parent, args: args ?? spawn_args })).sort((a, b) => (a.url < b.url ? -1 : 1))
  expect(shown(copies.entities)).toEqual(shown(expected))
  for (const copy of expected) {
    const events = await real.forker.wire.events(copy.url)
    const entries = entriesOf(events)
    const own = entries.slice(copy.inherited.length)
    expect({ url: copy.url, entries: entries.slice(0, copy.inherited.length) }).toEqual({ url: copy.url, entries: copy.inherited })
    const ofRoot = copy.url === copies.root.url ? messages : []
    let at = 0
    for (const units of [...copy.behind, ofRoot.map((one) => [one])]) {
      const size = units.flat().length
      expect(unitsOf(own.slice(at, at + size))).toEqual(units.map((unit) => canonical(unit)).sort())
      at += size
    }
    expect(own.slice(at)).toEqual([])
    expect(await sameOffsets(real, copy.source.url, events, copy.inherited)).toBe(true)
    model.entities.set(copy.url, { url: copy.url, type: copy.source.type, parent: copy.parent, args: copy.args, entries, isKilled: false })
  }
  for (const [from, to] of boards) {
    model.boards.set(to, model.boards.get(from) ?? [])
    expect({ to, notes: await real.notes(to) }).toEqual({ to, notes: model.boards.get(to) })
  }
}

/** Equal trees are equal texts, whatever the order of their members. */
const canonical = (tree: unknown): string =>
  JSON.stringify(tree, (_, value: unknown) =>
    typeof value !== 'object' || value === null || Array.isArray(value)
      ? value
      : Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1))),
  )

/** Entries of one event each; a delete and the insert behind it belong together. */
function unitsOf(entries: readonly (readonly Item[])[]): readonly string[] {
  const units: Item[][] = []
  for (const entry of entries) {
    const [item, ...more] = entry
    expect(more).toEqual([])
    if (item === undefined) continue
    if (units.at(-1)?.at(-1)?.operation === 'delete') units.at(-1)?.push(item)
    else units.push([item])
  }
  return units.map((unit) => canonical(unit)).sort()
}

/** What was inherited as a whole keeps its offsets (spec/04 §15). */
async function sameOffsets(
  real: Real,
  source: string,
  copy: readonly WireEvent[],
  inherited: readonly (readonly Item[])[],
): Promise<boolean> {
  const whole = inherited.slice(0, -1).flat().length
  const theirs = (await real.forker.wire.events(source)).slice(0, whole)
  return copy.slice(0, whole).every((one, nth) => one.headers.offset === theirs[nth]?.headers.offset)
}

export function counted(seen: Real['seen'], root: ModelEntity, how: unknown, { copies, boards }: ExpectedFork): void {
  const kind = how === 'head' || how === 'anchor' ? how : 'pointer'
  const kept = copies[0]?.inherited ?? []
  seen[kind] += 1
  seen.members += copies.length
  seen.boards += boards.size
  if (kept.at(-1)?.length !== root.entries[kept.length - 1]?.length) seen.inEntry += 1
  if (root.entries.flat().some(({ forkedFrom }) => forkedFrom !== undefined)) seen.forksOfForks += 1
}
