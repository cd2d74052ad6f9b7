/**
 * What a fork makes, out of what it found (spec/04 §7, §9–§12, §16). Pure: the same findings make the same plan.
 *
 * K1  Every name of the plan is free as far as the findings tell; who carries it out hears of the others, and plans again with them taken.
 * K2  The copy's last event before live traffic carries `headers.forkedFrom`: by it a runtime tells the copied past from work (spec/04 §16).
 * K3  History is never rewritten: what must differ in a copy is said by events behind it.
 */
import { attachmentStream } from '../attachments.js'
import type { DispatchPolicy, EntityStatus, Json, JsonObject, Tags } from '../entity.js'
import { inbox, iso, type StateEvent, uuidFrom } from '../events.js'
import type { EntityUrl, PrincipalUrl, StreamPath } from '../ids.js'
import { sortedTags } from '../tags.js'
import type { ForkCut } from './cut.js'
import { forkedSharedStateId, forkedUrl } from './names.js'
import { attachmentOf, childOf, type Renames, remapped, renamedRow, renamedStrings, type SnapshotRow, sharedStatesOf } from './remapping.js'
import { sharedStatePairs } from './streams.js'

/** A member of the source's subtree. */
export interface ForkMember {
  readonly url: EntityUrl
  readonly type: string
  readonly parent: EntityUrl | null
  readonly status: EntityStatus
  readonly tags: Tags
  readonly spawn_args: JsonObject
  readonly dispatch_policy: DispatchPolicy | null
}

/** What was found, and what was asked for. */
export interface ForkFindings {
  /** Root first, then breadth-first. */
  readonly members: readonly ForkMember[]
  /** Of each member: the rows of its snapshot, in their order. The root's are those of the cut, if there is one. */
  readonly rows: ReadonlyMap<string, readonly SnapshotRow[]>
  /** Absent: a fork at HEAD. */
  readonly cut?: ForkCut
  /** The root's rows as they are now, if there is a cut. */
  readonly standing?: readonly SnapshotRow[]
  /** Exact, or null: made. */
  readonly rootUrl: EntityUrl | null
  readonly suffix: string
  readonly taken: { readonly urls: ReadonlySet<string>; readonly sharedStates: ReadonlySet<string> }
  readonly parent: EntityUrl | null
  readonly tags: Tags
  readonly createdBy: PrincipalUrl
  readonly initialMessage?: { readonly payload: Json }
  readonly atMs: number
  /** Names this fork within its operation. */
  readonly seed: string
}

export interface PlannedCopy {
  readonly source: EntityUrl
  readonly url: EntityUrl
  readonly parent: EntityUrl | null
  readonly tags: Tags
  readonly spawn_args: JsonObject
  /** The source's. */
  readonly dispatch_policy: DispatchPolicy | null
  /** Behind the inherited history, each an entry of its own. */
  readonly events: readonly StateEvent[]
  /** The first message, which comes when everything else is there. */
  readonly message: StateEvent | null
  /** The snapshot of the copy, as `events` leave it. */
  readonly rows: readonly SnapshotRow[]
}

export interface PlannedStream {
  readonly from: StreamPath
  readonly path: StreamPath
}

export interface ForkPlan {
  /** Root first. */
  readonly copies: readonly PlannedCopy[]
  /** Forked at HEAD; a path without a stream is left out by who carries it out. */
  readonly sharedStates: readonly (PlannedStream & { readonly id: string })[]
  readonly attachments: readonly PlannedStream[]
  /** Of the root's main stream. */
  readonly cut?: ForkCut
}

/** The members that are forked: all, or (behind a cut) the root and the children in its manifest, with everything below them. */
export function effectiveMembers<Member extends Pick<ForkMember, 'url' | 'parent'>>(
  members: readonly Member[],
  rootRows: readonly SnapshotRow[] | null,
): readonly Member[] {
  if (rootRows === null) return members
  const [root] = members
  const kept = new Set<string | null>(rootRows.map(childOf))
  const taken = new Set<string>()
  return members.filter(({ url, parent }) => {
    const isTaken = url === root?.url || (parent === root?.url ? kept.has(url) : taken.has(parent ?? ''))
    if (isTaken && url !== root?.url) taken.add(url) // below the root only: its other children are decided by the manifest
    return isTaken
  })
}

/** Breadth-first: parents before children, in the order in which `members` come within a level. */
export function breadthFirst<Member extends Pick<ForkMember, 'url' | 'parent'>>(root: EntityUrl, members: readonly Member[]): Member[] {
  const below = new Map<string, Member[]>()
  for (const member of members) {
    const siblings = below.get(member.parent ?? '')
    if (siblings === undefined) below.set(member.parent ?? '', [member])
    else siblings.push(member)
  }
  const ordered = members.filter(({ url }) => url === root)
  for (let at = 0; at < ordered.length; at += 1) ordered.push(...(below.get(ordered[at]?.url ?? '') ?? []))
  return ordered
}

export function planFork(findings: ForkFindings): ForkPlan {
  const { members, rows, cut, standing } = findings
  const [root] = members
  const rowsOf = (url: string) => rows.get(url) ?? []
  const uploadsOf = (url: string) => (url === root?.url && standing !== undefined ? standingOf(rowsOf(url), standing) : rowsOf(url))
  const kept = effectiveMembers(members, cut === undefined || root === undefined ? null : rowsOf(root.url))
  const renames = renamesOf(findings, kept)
  const strings = renamedStrings(renames)
  const copies = kept.map((member, index) => planCopy(findings, member, index === 0, rowsOf(member.url), renames, strings))
  return {
    copies,
    sharedStates: onePerPath(
      [...renames.sharedStates].flatMap(([id, to]) => sharedStatePairs(id, to).map((pair) => ({ ...pair, id: to }))),
    ),
    attachments: onePerPath(copies.flatMap(({ source, url }) => attachmentsOf(source, url, uploadsOf(source)))),
    ...(cut === undefined ? {} : { cut }),
  }
}

/** Several rows may name one attachment, and two ids of shared state be two spellings of one path. */
const onePerPath = <Stream extends PlannedStream>(streams: readonly Stream[]): readonly Stream[] => [
  ...new Map(streams.map((stream) => [stream.path, stream])).values(),
]

/** K1. Ids of shared state are handled in sorted order (spec/04 §10). */
function renamesOf({ rows, rootUrl, suffix, taken }: ForkFindings, kept: readonly ForkMember[]): Renames {
  const urls = new Set<string>(taken.urls)
  const entities = new Map<string, EntityUrl>()
  for (const [index, { url }] of kept.entries()) {
    const to = index === 0 && rootUrl !== null ? rootUrl : forkedUrl(url, suffix, (made) => urls.has(made))
    urls.add(to)
    entities.set(url, to)
  }
  const ids = new Set(kept.flatMap(({ url }) => (rows.get(url) ?? []).flatMap(sharedStatesOf)))
  const sharedIds = new Set<string>(taken.sharedStates)
  const sharedStates = new Map<string, string>()
  for (const id of [...ids].sort()) {
    const to = forkedSharedStateId(id, suffix, (made) => sharedIds.has(made))
    sharedIds.add(to)
    sharedStates.set(id, to)
  }
  return { entities, sharedStates }
}

function planCopy(
  findings: ForkFindings,
  member: ForkMember,
  isRoot: boolean,
  rows: readonly SnapshotRow[],
  renames: Renames,
  strings: ReadonlyMap<string, string>,
): PlannedCopy {
  const url = renames.entities.get(member.url) as EntityUrl // every kept member has a name
  const parent = isRoot ? findings.parent : (renames.entities.get(member.parent ?? '') ?? null)
  const spawn_args = remapped(member.spawn_args, strings)
  const renamed = rows.map((row) => ({ row, to: renamedRow(row, renames, strings) }))
  const sign = signed(member.url, `${findings.seed}${url}`)
  const events = [
    sign('update', 'entity_created', 'entity-created', createdValue(member, spawn_args, parent, findings.atMs)),
    ...orderedTypes.flatMap((type) => renamed.filter(({ row }) => row.type === type).flatMap(({ row, to }) => rowEvents(row, to, sign))),
  ]
  return {
    source: member.url,
    url,
    parent,
    tags: isRoot ? sortedTags({ ...member.tags, ...findings.tags }) : member.tags,
    spawn_args,
    dispatch_policy: member.dispatch_policy,
    events,
    message: isRoot ? firstMessage(findings) : null,
    rows: renamed.map(({ row, to }) => to ?? row),
  }
}

const orderedTypes = ['manifest', 'child_status', 'replay_watermark'] as const

type Sign = (operation: 'insert' | 'update' | 'delete', type: string, key: string, value?: JsonObject) => StateEvent

/** spec/04 §16: one `txid` per entity, and whose copy it is. */
function signed(source: EntityUrl, seed: string): Sign {
  const txid = `fork-${uuidFrom(`fork txid ${seed}`)}`
  return (operation, type, key, value) => ({
    type,
    key,
    ...(value === undefined ? {} : { value }),
    headers: { txid, forkedFrom: source, operation },
  })
}

const createdValue = (member: ForkMember, args: JsonObject, parent: EntityUrl | null, atMs: number): JsonObject => ({
  entity_type: member.type,
  timestamp: iso(atMs),
  args,
  ...(parent === null ? {} : { parent_url: parent }),
})

/** A new key: `delete` of the old one, `insert` of the new one; the same key: `update`; unchanged: nothing. */
function rowEvents(row: SnapshotRow, to: SnapshotRow | null, sign: Sign): readonly StateEvent[] {
  if (to === null) return []
  if (to.key === row.key) return [sign('update', row.type, row.key, to.value)]
  return [sign('delete', row.type, row.key), sign('insert', row.type, to.key, to.value)]
}

/** An ordinary message (spec/04 §18): from the parent, if there is one, else from the caller. */
function firstMessage({ initialMessage, parent, createdBy, atMs, seed }: ForkFindings): StateEvent | null {
  if (initialMessage === undefined) return null
  return inbox({ from: parent ?? createdBy, payload: initialMessage.payload, mode: 'immediate', atMs, seed }).event
}

/**
 * The rows of a cut whose uploads stand still: an id that was removed is free, and the bytes under it may be those of a later upload. What stands there
 * no more has no stream in the copy.
 */
function standingOf(rows: readonly SnapshotRow[], standing: readonly SnapshotRow[]): readonly SnapshotRow[] {
  const uploads = new Set(standing.map(uploadIn))
  return rows.filter((row) => uploads.has(uploadIn(row)))
}

/** What tells one upload under an id from another; of a row that is none, null. */
function uploadIn(row: SnapshotRow): string | null {
  const { createdAt, sha256, byteLength } = row.value
  const attachment = attachmentOf(row)
  return attachment === null ? null : JSON.stringify([attachment.path, createdAt, sha256, byteLength])
}

/** Only streams at the canonical paths of the source's own attachments: a manifest may name any path, and whoever writes it is a client. */
const attachmentsOf = (source: EntityUrl, url: EntityUrl, rows: readonly SnapshotRow[]): readonly PlannedStream[] =>
  rows.flatMap((row) => {
    const found = attachmentOf(row)
    if (found === null || !found.id.isWellFormed() || found.path !== attachmentStream(source, found.id)) return []
    return [{ from: found.path as StreamPath, path: attachmentStream(url, found.id) }]
  })
