/**
 * What a fork finds: looked at under locks, so that it was true at one instant (docs/decisions/0012).
 *
 * L1  Entity rows are shared by URL, then streams by id; both before anything is inserted. Status changes, closes, appends and deletes wait for the
 *     transaction; other forks do not.
 * L2  Projections and the list of members are read once more under these locks. What the first look could not know of makes the look start again.
 * L3  A root behind a cut is what its history says up to there, which never changes: it is read before any lock, and nobody waits for the root.
 */
import { isTerminal } from '../domain/entity.js'
import { AgentsError, errors } from '../domain/errors.js'
import type { ForkCut } from '../domain/fork/cut.js'
import { breadthFirst, effectiveMembers, type ForkMember } from '../domain/fork/plan.js'
import { attachmentOf, type SnapshotRow, sharedStatesOf } from '../domain/fork/remapping.js'
import { sharedStateStreams } from '../domain/fork/streams.js'
import { type EntityUrl, mainStream, type Offset, type StreamPath } from '../domain/ids.js'
import type { Transaction } from '../registry/database.js'
import { type MemberRow, type SubtreeBounds, shareSubtrees, snapshotsBelow, subtreeUrls } from '../registry/forking.js'
import type { CheckedFork } from './parts.js'

/** A root as it was at a cut. */
export interface RootAtCut {
  readonly cut: ForkCut
  readonly rows: readonly SnapshotRow[]
}

export interface Found {
  readonly outcome: 'found'
  /** Those that are copied: root first, then breadth-first. */
  readonly members: readonly ForkMember[]
  readonly rows: ReadonlyMap<string, readonly SnapshotRow[]>
  /** A root behind a cut is as it was there in `rows`, and as it is now in `standing`. */
  readonly atCut?: { readonly cut: ForkCut; readonly standing: readonly SnapshotRow[] }
}

export interface Active {
  readonly outcome: 'active'
  /** Who is in the way. */
  readonly urls: readonly EntityUrl[]
}

export type Finding = Found | Active | AgentsError

export interface ForkLook {
  /** In the order of the forks. */
  readonly findings: readonly Finding[]
  /** The streams that live, with their tails. */
  readonly tails: ReadonlyMap<StreamPath, Offset>
}

/** The world moved between two looks of one transaction (L2). */
export class LookAgain extends Error {
  constructor() {
    super('a subtree changed while it was looked at')
  }
}

/** How source streams are kept as they are: locked where they are ours. */
export type ShareStreams = (tx: Transaction, paths: readonly StreamPath[]) => Promise<ReadonlyMap<StreamPath, Offset>>

export async function lookAt(
  tx: Transaction,
  forks: readonly CheckedFork[],
  cuts: readonly (RootAtCut | null)[],
  share: ShareStreams,
  { maxForkEntities, maxForkRows }: SubtreeBounds,
): Promise<ForkLook> {
  const roots = [...new Set(forks.map(({ source }) => source))]
  const parents = [...new Set(forks.flatMap(({ parent }) => parent ?? []))]
  const [shared, drafts] = await Promise.all([shareSubtrees(tx, roots, parents), snapshotsBelow(tx, roots, maxForkRows)])
  const members = new Map<string, MemberRow>(shared.map((row) => [row.url, row]))
  const byAge = [...shared].sort((a, b) => a.created_at - b.created_at || (a.url < b.url ? -1 : 1))
  const subtrees = new Map(roots.map((root) => [root, breadthFirst(root, byAge)]))
  const heavy = new Set(roots.filter((root) => snapshotOf(subtrees.get(root) ?? [], drafts).length > maxForkRows)) // some of their rows were read, and none counts
  const light = roots.filter((root) => !heavy.has(root)).flatMap((root) => subtrees.get(root) ?? [])
  const paths = streamsOf([...subtrees.values()].flat(), [snapshotOf(light, drafts), ...cuts.map((cut) => cut?.rows ?? [])])
  const tails = await share(tx, [...paths])
  const [rows, urls] = await Promise.all([snapshotsBelow(tx, roots, maxForkRows), subtreeUrls(tx, roots)]) // answered after the locks (database.ts D7)
  if ([...urls].some((url) => !members.has(url))) throw new LookAgain()
  if ([...streamsOf([], [snapshotOf(light, rows)])].some((path) => !paths.has(path))) throw new LookAgain()
  const findings = forks.map((fork, index) => {
    const below = subtrees.get(fork.source) ?? []
    if (below.length > maxForkEntities) return errors.FORK_TOO_LARGE(maxForkEntities)
    const found = Math.max(snapshotOf(below, rows).length, cuts[index]?.rows.length ?? 0)
    if (heavy.has(fork.source) || found > maxForkRows) return errors.FORK_TOO_MANY_ROWS(maxForkRows)
    return judged(fork, below, members, rows, cuts[index] ?? null)
  })
  return { findings, tails }
}

const snapshotOf = (members: readonly MemberRow[], rows: ReadonlyMap<string, readonly SnapshotRow[]>): readonly SnapshotRow[] =>
  members.flatMap(({ url }) => rows.get(url) ?? [])

/** Every stream that may be forked. */
function streamsOf(members: readonly MemberRow[], snapshots: readonly (readonly SnapshotRow[])[]): Set<StreamPath> {
  const named = snapshots.flat()
  return new Set([
    ...members.map(({ url }) => mainStream(url)),
    ...named.flatMap(sharedStatesOf).flatMap(sharedStateStreams),
    ...named.flatMap((row) => attachmentOf(row)?.path ?? []),
  ] as StreamPath[])
}

/** Rows 12–15 of spec/04 §3, under the locks. */
function judged(
  fork: CheckedFork,
  below: readonly MemberRow[],
  all: ReadonlyMap<string, MemberRow>,
  rows: ReadonlyMap<string, readonly SnapshotRow[]>,
  atCut: RootAtCut | null,
): Finding {
  const [root] = below
  if (root === undefined) return errors.ENTITY_GONE()
  if (root.parent !== null) return errors.FORK_NOT_TOP_LEVEL()
  const parent = fork.parent === null ? undefined : all.get(fork.parent)
  if (fork.parent !== null && parent === undefined) return errors.PARENT_NOT_FOUND()
  if (parent !== undefined && isTerminal(parent.status)) return errors.NOT_RUNNING()
  if (isTerminal(root.status)) return errors.FORK_TERMINAL(root.url)
  const kept = effectiveMembers(below, atCut?.rows ?? null)
  const mustRest = atCut === null ? kept : kept.filter(({ url }) => url !== root.url) // L3
  const ended = mustRest.find(({ status }) => isTerminal(status))
  if (ended !== undefined) return errors.FORK_TERMINAL(ended.url)
  const active = mustRest.filter(({ status }) => status !== 'idle' && status !== 'paused').map(({ url }) => url)
  if (active.length > 0) return { outcome: 'active', urls: active }
  if (atCut === null) return { outcome: 'found', members: kept, rows }
  const standing = rows.get(root.url) ?? []
  return { outcome: 'found', members: kept, rows: new Map([...rows, [root.url, atCut.rows]]), atCut: { cut: atCut.cut, standing } }
}

export const isRefusal = (finding: Finding): finding is AgentsError => finding instanceof AgentsError
