/** Carrying out plans with streams in Postgres: everything of a batch of forks, one statement per table, inside the transaction that has looked. */
import { entryOf } from '../domain/events.js'
import type { ForkPlan, PlannedCopy } from '../domain/fork/plan.js'
import { type EntityUrl, mainStream, type Offset, type OperationId, type PrincipalUrl, type StreamPath } from '../domain/ids.js'
import { storableKey } from '../domain/projection.js'
import { sharedStateLinks } from '../domain/shared-state.js'
import type { Transaction } from '../registry/database.js'
import { insertCopiedLineage, insertCopies } from '../registry/forking.js'
import { type ProjectionRow, project } from '../registry/projections.js'
import { changeLinks } from '../registry/shared-state.js'
import { removeEntities } from '../registry/spawning.js'
import type { CreateVerdict, NewStream } from '../streams/store.js'
import type { Appends, DispatchedStream } from './parts.js'

export interface PlannedFork {
  readonly plan: ForkPlan
  readonly createdBy: PrincipalUrl
  readonly atMs: number
  /** With a foreign stream server: who reserves. */
  readonly reservedBy: OperationId | null
}

/** A name that the plan took for free is not (`domain/fork/plan.ts` K1). */
export class NameTaken extends Error {
  readonly urls: readonly EntityUrl[]
  readonly sharedStates: readonly string[]

  constructor(names: { readonly urls?: readonly EntityUrl[]; readonly sharedStates?: readonly string[] }) {
    super('a name for a copy is taken')
    this.urls = names.urls ?? []
    this.sharedStates = names.sharedStates ?? []
  }
}

/** Rows and lineage, of those forks whose names are all free; of the others nothing is left. The names of each fork that are taken. */
export async function insertPlanned(tx: Transaction, forks: readonly PlannedFork[]): Promise<readonly (readonly EntityUrl[])[]> {
  const rows = forks.flatMap(({ plan, createdBy, atMs, reservedBy }) =>
    plan.copies.map(({ source, url, parent, tags, spawn_args }) => ({
      source,
      url,
      parent,
      tags,
      spawn_args,
      created_by: createdBy,
      created_at: atMs,
      reserved_by: reservedBy,
    })),
  )
  if (rows.length === 0) return []
  const inserted = await insertCopies(tx, rows)
  const claimed = new Set<string>()
  const taken = forks.map(({ plan }) => {
    const urls = plan.copies.map(({ url }) => url)
    const lost = urls.filter((url) => !inserted.has(url) || claimed.has(url))
    if (lost.length === 0) for (const url of urls) claimed.add(url)
    return lost
  })
  const leftOver = [...inserted].filter((url) => !claimed.has(url)) as EntityUrl[] // out of the plans
  if (leftOver.length > 0) await removeEntities(tx, leftOver)
  const made = forks.filter((_, index) => taken[index]?.length === 0).flatMap(({ plan }) => plan.copies)
  if (made.length > 0) await insertCopiedLineage(tx, made)
  return taken
}

/**
 * Streams with the events that begin the copies' own history, projections, links. `tails`: the source streams that live, as they are shared.
 * The streams that were made.
 */
export async function createStreams(
  tx: Transaction,
  appends: Extract<Appends, { kind: 'transaction' }>,
  plans: readonly ForkPlan[],
  tails: ReadonlyMap<StreamPath, Offset>,
): Promise<readonly StreamPath[]> {
  const mains = plans.flatMap((plan) => plan.copies.map((copy, index) => mainOf(copy, index === 0 ? plan.cut : undefined)))
  const others = plans.flatMap((plan) => [
    ...plan.sharedStates.filter(({ from }) => tails.has(from)).map(({ from, path }) => ({ path, fork: { from } })),
    ...plan.attachments.filter(({ from }) => tails.has(from)).map(({ from, path }) => ({ path, fork: { from }, closed: true })),
  ])
  const { verdicts: made, wake } = await appends.createIn(tx, [...mains, ...others])
  refuseTaken(plans, [...mains, ...others], made)
  await wake()
  await materialise(
    tx,
    plans.flatMap((plan) => plan.copies),
    made.slice(0, mains.length).map(tailOf),
  )
  return [...mains, ...others].map(({ path }) => path)
}

function mainOf({ source, url, events, message, dispatch_policy }: PlannedCopy, cut: ForkPlan['cut']): DispatchedStream {
  const [first, ...more] = [...events, ...(message === null ? [] : [message])].map((event) => entryOf([event]))
  return {
    path: mainStream(url),
    fork: {
      from: mainStream(source),
      ...(cut === undefined ? {} : { offset: cut.after }),
      ...(cut === undefined || cut.items === 0 ? {} : { subOffset: cut.items }),
    },
    ...(first === undefined ? {} : { body: first }),
    more,
    dispatch: dispatch_policy,
    waking: message === null ? 0 : 1, // the copied past wakes nobody (spec/04 §18)
  }
}

function refuseTaken(plans: readonly ForkPlan[], wanted: readonly NewStream[], made: readonly CreateVerdict[]): void {
  const lost = new Set<string>(wanted.filter((_, index) => made[index]?.outcome !== 'created').map(({ path }) => path))
  if (lost.size === 0) return
  const urls = plans.flatMap(({ copies }) => copies.map(({ url }) => url)).filter((url) => lost.has(mainStream(url)))
  const sharedStates = plans.flatMap((plan) => plan.sharedStates.filter(({ path }) => lost.has(path)).map(({ id }) => id))
  if (urls.length + sharedStates.length > 0) throw new NameTaken({ urls, sharedStates })
  const [verdict] = made.filter(({ outcome }) => outcome !== 'created')
  throw new Error(`a stream could not be forked: ${JSON.stringify(verdict)}`)
}

/**
 * What the manifests of the copies stand for, changed rows and unchanged ones (spec/04 §17), in the transaction that shows the copies: both kinds of
 * stream stores end here. Their rows are known, so no event is read. Whatever else a manifest row means (registered wakes, timers, ticks) begins here
 * as well, once there is such a thing. `tails`: of their main streams, in the order of the copies.
 */
export async function materialise(tx: Transaction, copies: readonly PlannedCopy[], tails: readonly Offset[]): Promise<void> {
  const rows = copies.flatMap((copy, index) => projectionOf(copy, tails[index] as Offset)) // one each
  if (rows.length > 0) await project(tx, rows)
  const links = sharedStateLinks(rows)
  if (links.length > 0) await changeLinks(tx, links)
}

const tailOf = (verdict: CreateVerdict | undefined): Offset => {
  if (verdict === undefined || verdict.outcome === 'refused') throw new Error('a copy without a stream')
  return verdict.head.tail
}

/** One row per key: of two that were renamed to one key, the last. */
function projectionOf({ url, rows }: PlannedCopy, entry: Offset): readonly ProjectionRow[] {
  const byKey = new Map(
    rows.map(({ type, key, value }) => [
      `${type} ${key}`,
      { entity_url: url, type, key: storableKey(key), value: JSON.stringify(value), entry },
    ]),
  )
  return [...byKey.values()]
}
