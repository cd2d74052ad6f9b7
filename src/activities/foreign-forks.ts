/**
 * Forking with a foreign stream server, after the reservation: streams in parallel, then everything becomes visible at once (docs/decisions/0012).
 *
 * Streams are forked at the offsets up to which their projections had been drawn when the subtree was looked at: nothing that is appended meanwhile
 * matters. Rows are taken as they stand: a tag whose event is still on its way is on the copy, and its event is not. What is to be made was written
 * down by the reservation, one row for each fork: each step reads it, so that a repeated step makes the same.
 * Until `activateForks` everything is undone by `dropForks`; after it nothing is left to do.
 */
import { ApplicationFailure, Context } from '@temporalio/activity'
import { errors } from '../domain/errors.js'
import { entryOf, isReconciliation, type StateEvent } from '../domain/events.js'
import type { ForkPlan, PlannedCopy } from '../domain/fork/plan.js'
import { type EntityUrl, mainStream, type Offset, type OperationId, type StreamPath, zeroOffset } from '../domain/ids.js'
import type { ForkVerdict } from '../domain/operations.js'
import type { Transaction } from '../registry/database.js'
import { unlockFork } from '../registry/fork-locks.js'
import { giveUp } from '../registry/given-up.js'
import { findOutcomes, findPayloads, lockOperations, putPayloads, recordOutcomes } from '../registry/operations.js'
import { activateEntities, dropReservations, reservedBy } from '../registry/spawning.js'
import { isRefused, type StreamStore } from '../streams/store.js'
import type { Operation } from './foreign-streams.js'
import { materialise } from './fork-copies.js'
import { inParallel } from './parallel.js'
import type { Parts } from './parts.js'
import { Standing, unlessFinished } from './standing.js'
import { travelling, withBoundedList } from './travelling.js'

export interface ForeignForkActivities {
  /** Makes the streams of all forks of a batch. Idempotent: a stream that this fork made counts as made. */
  copyStreams(operation: Operation): Promise<StreamsCopied>
  /** One transaction: rows, projections and links become visible, the outcome is recorded. The verdicts of the batch, as they travel. */
  activateForks(copied: StreamsCopied): Promise<readonly ForkVerdict[]>
  /** Compensation: gives the run up, and removes streams and rows of those forks of a batch that nobody sees yet. */
  dropForks(operation: Operation & { readonly run?: string }): Promise<void>
}

export interface StreamsCopied extends Operation {
  /** Forks one of whose streams' places was taken by a stream that is not ours. */
  readonly taken: readonly OperationId[]
}

/** Everything that later steps need of one fork. */
export interface ReservedFork {
  readonly id: OperationId
  readonly plan: ForkPlan
  /** Where each main stream of the sources is cut; the root's by `plan.cut`, if there is one. */
  readonly offsets: readonly Offset[]
}

/** A batch, as its reservation left it: verdicts that were final already, and the forks that go on. */
interface ReservedBatch {
  readonly verdicts: readonly (ForkVerdict | { readonly outcome: 'goes on'; readonly id: OperationId })[]
}

const itemsPerPage = 1_000

const batchRow = (id: OperationId): string => `${id}/forks`
const forkRow = (id: OperationId): string => `${id}/fork`
const endsRow = (id: OperationId): string => `${id}/ends`

/** Whether this batch has been reserved by an earlier attempt. */
export const isReserved = async (tx: Transaction, id: OperationId): Promise<boolean> => (await findPayloads(tx, [batchRow(id)])).size > 0

/** What the reservation writes down. */
export async function writeReserved(tx: Transaction, id: OperationId, batch: ReservedBatch, forks: readonly ReservedFork[]): Promise<void> {
  await putPayloads(tx, [
    { id: batchRow(id), payload: JSON.stringify(batch) },
    ...forks.map((fork) => ({ id: forkRow(fork.id), payload: JSON.stringify(fork) })),
  ])
}

export const foreignForkActivities = (parts: Parts): ForeignForkActivities => ({
  async copyStreams({ operationId }) {
    const forks = await readForks(parts, await readBatch(parts, operationId))
    const store = foreignStore(parts)
    return await unlessFinished<StreamsCopied>(parts.database, operationId, { operationId, taken: [] }, async () => {
      const taken: OperationId[] = []
      for (const fork of forks) if (!(await copied(parts, store, fork))) taken.push(fork.id)
      return { operationId, taken }
    })
  },

  async activateForks({ operationId, taken }) {
    const batch = await readBatch(parts, operationId)
    const forks = await readForks(parts, batch)
    const store = foreignStore(parts)
    for (const fork of forks.filter(({ id }) => taken.includes(id))) await dropFork(parts, store, fork)
    const ends = await findPayloads(
      parts.database,
      forks.map(({ id }) => endsRow(id)),
    )
    const endsOf = (id: OperationId) => JSON.parse(ends.get(endsRow(id)) ?? '{"mains":[],"others":[]}') as MadeStreams // written by `copied`
    const verdicts = await parts.database.transaction((tx) => activateIn(tx, parts, operationId, batch, forks, taken, endsOf))
    parts.deliver(operationId, verdicts)
    return travelling(verdicts)
  },

  async dropForks({ operationId, run }) {
    await giveUp(parts.database, operationId, run) // first: what an attempt that is late has reserved is found, and nothing comes after it
    for (const fork of await readForks(parts, await readBatch(parts, operationId))) await dropFork(parts, foreignStore(parts), fork)
  },
})

function foreignStore(parts: Parts): StreamStore {
  if (parts.appends.kind === 'intents') return parts.appends.streams
  throw new Error('streams in Postgres are forked in the transaction of their rows')
}

async function readBatch(parts: Parts, id: OperationId): Promise<ReservedBatch> {
  const payload = (await findPayloads(parts.database, [batchRow(id)])).get(batchRow(id))
  return payload === undefined ? { verdicts: [] } : (JSON.parse(payload) as ReservedBatch) // written by `writeReserved` alone
}

async function readForks(parts: Parts, { verdicts }: ReservedBatch): Promise<readonly ReservedFork[]> {
  const ids = verdicts.flatMap((verdict) => (verdict.outcome === 'goes on' ? [forkRow(verdict.id)] : []))
  return [...(await findPayloads(parts.database, ids)).values()].map((payload) => JSON.parse(payload) as ReservedFork) // as above
}

/** False when a stream of somebody else's stands in the way. */
async function copied(parts: Parts, store: StreamStore, { id, plan, offsets }: ReservedFork): Promise<boolean> {
  const standing = new Standing(parts.database, id)
  const mains = await inParallel(plan.copies, async (copy, index) => {
    refuseCancelled()
    await standing.check()
    const request = requestOf(plan, copy, index, offsets)
    const verdict = await store.create(mainStream(copy.url), { ...request, operation: id })
    return isRefused(verdict) ? null : await beginHistory(store, copy, id, request.fork.offset ?? zeroOffset)
  })
  if (mains.includes(null)) return false
  const others = await inParallel(othersOf(plan), async ({ path, from, closed }) => {
    refuseCancelled()
    await standing.check()
    const verdict = await store.create(path, { fork: { from }, ...(closed ? { closed } : {}), operation: id })
    if (!isRefused(verdict)) return [{ path, tail: verdict.head.tail }]
    // Nothing to copy: a shared state that nobody has written yet has no stream (404); what is gone, while other forks still read it, is no source
    // (409). Attachments that stand are held by our lock (and none was being removed before: `fork-ground.ts`).
    return verdict.because === 'fork' && (verdict.status === 404 || verdict.status === 409) ? [] : null
  })
  if (others.includes(null)) return false
  const made = { mains, others: others.flatMap((one) => one ?? []) }
  await putPayloads(parts.database, [{ id: endsRow(id), payload: JSON.stringify(made) }])
  return true
}

function requestOf(plan: ForkPlan, copy: PlannedCopy, index: number, offsets: readonly Offset[]) {
  const cut = index === 0 && plan.cut !== undefined ? plan.cut : { after: offsets[index], items: 0 }
  return {
    contentType: 'application/json',
    fork: {
      from: mainStream(copy.source),
      ...(cut.after === undefined ? {} : { offset: cut.after }),
      ...(cut.items === 0 ? {} : { subOffset: cut.items }),
    },
  }
}

const othersOf = (plan: ForkPlan): readonly { readonly path: StreamPath; readonly from: StreamPath; readonly closed: boolean }[] => [
  ...plan.sharedStates.map((stream) => ({ ...stream, closed: false })),
  ...plan.attachments.map((stream) => ({ ...stream, closed: true })),
]

/** Where the main stream of a copy ends, and where the copied past does: what is behind it wakes. */
interface CopyEnds {
  readonly acked: Offset
  readonly tail: Offset
}

/** What `copied` writes down for the step after it: main streams in the order of the copies, and the other streams that there are. */
interface MadeStreams {
  readonly mains: readonly CopyEnds[]
  readonly others: readonly { readonly path: StreamPath; readonly tail: Offset }[]
}

/** The events behind the inherited history, each an entry of its own. Idempotent: as a producer of the fork's own name. */
async function beginHistory(store: StreamStore, { url, events, message }: PlannedCopy, id: OperationId, from: Offset): Promise<CopyEnds> {
  const append = async (event: StateEvent, seq: number) => {
    const verdict = await store.append(mainStream(url), {
      contentType: 'application/json',
      body: entryOf([event]),
      producer: { id: `${id}${url}`, epoch: 0, seq },
      mayHaveLandedAfter: from,
    })
    if (isRefused(verdict)) throw new Error(`an event of the copy ${url} was refused: ${verdict.reason}`)
  }
  for (const [seq, event] of [...events, ...(message === null ? [] : [message])].entries()) await append(event, seq)
  const found = await store.head(mainStream(url))
  if (isRefused(found)) throw new Error(`the copy ${url} has lost its stream`)
  const { tail } = found.head
  return { tail, acked: message === null ? tail : await endOfCopiedPast(store, url, from) }
}

/** The end of the last entry that says whose copy it is; the stream is read from where it leaves its source. */
async function endOfCopiedPast(store: StreamStore, url: EntityUrl, from: Offset): Promise<Offset> {
  let end = from
  for (let after = from; ; ) {
    const read = await store.readEvents(mainStream(url), after, itemsPerPage)
    if ('outcome' in read) throw new Error(`the copy ${url} has lost its stream`)
    for (const { entry, item } of read.events) if (isReconciliation(item)) end = entry
    if (read.upToDate) return end
    after = read.next
  }
}

/** A step that its workflow has given up makes nothing more. */
function refuseCancelled(): void {
  Context.current().cancellationSignal.throwIfAborted()
}

async function activateIn(
  tx: Transaction,
  parts: Parts,
  operationId: OperationId,
  { verdicts }: ReservedBatch,
  forks: readonly ReservedFork[],
  taken: readonly OperationId[],
  endsOf: (id: OperationId) => MadeStreams,
): Promise<readonly ForkVerdict[]> {
  const ids = verdicts.flatMap((verdict) => (verdict.outcome === 'goes on' ? [verdict.id] : []))
  const [, done] = await Promise.all([lockOperations(tx, ids), findOutcomes<ForkVerdict>(tx, ids)])
  const answers = new Map<OperationId, ForkVerdict>()
  for (const fork of forks) {
    const known = done.get(fork.id)?.[0]
    answers.set(fork.id, known ?? (await shown(tx, parts, fork, taken.includes(fork.id), endsOf(fork.id))))
  }
  await unlockFork(tx, ids)
  const all = verdicts.map((verdict): ForkVerdict => (verdict.outcome === 'goes on' ? (answers.get(verdict.id) as ForkVerdict) : verdict))
  await recordOutcomes(tx, [
    ...[...answers].map(([id, verdict]) => ({ id, verdicts: [verdict] })),
    { id: operationId, verdicts: all.map(withBoundedList) },
  ])
  return all
}

async function shown(
  tx: Transaction,
  parts: Parts,
  { id, plan }: ReservedFork,
  isTaken: boolean,
  { mains, others }: MadeStreams,
): Promise<ForkVerdict> {
  const urls = plan.copies.map(({ url }) => url)
  const [root] = urls
  if (root === undefined) throw new Error(`fork ${id} has no copies`)
  if (isTaken) return { outcome: 'refused', url: root, refusal: errors.STREAM_NOT_FREE(root).refusal }
  const active = await activateEntities(tx, id, urls)
  if (active.size < urls.length) throw ApplicationFailure.nonRetryable(`the reservations of fork ${id} are gone`) // swept: it took too long
  await materialise(
    tx,
    plan.copies,
    mains.map(({ tail }) => tail),
  )
  if (parts.appends.kind === 'intents')
    await parts.appends.linkIn(tx, [
      ...plan.copies.map(({ url, dispatch_policy: policy }, index) => {
        const { tail, acked } = mains[index] as CopyEnds
        return { path: mainStream(url), tail, copied: acked, ...(policy === null ? {} : { dispatch: { policy, acked } }) }
      }),
      ...others.map(({ path, tail }) => ({ path, tail, copied: tail })),
    ])
  return { outcome: 'forked', url: root, entities: urls.length, urls, txid: tx.txid }
}

/** What a fork has made before anybody saw it. */
async function dropFork(parts: Parts, store: StreamStore, fork: ReservedFork): Promise<void> {
  const { id, plan, offsets } = fork
  if ((await reservedBy(parts.database, id)).length > 0) {
    await inParallel(plan.copies, async (copy, index) => await dropOurs(store, mainStream(copy.url), requestOf(plan, copy, index, offsets)))
    await inParallel(
      othersOf(plan),
      async ({ path, from, closed }) => await dropOurs(store, path, { fork: { from }, ...(closed ? { closed } : {}) }),
    )
    await dropReservations(parts.database, id)
  }
  await unlockFork(parts.database, [id])
}

/** A stream that would be made just so is ours: our paths are reserved, or have a random part. */
async function dropOurs(store: StreamStore, path: StreamPath, request: Parameters<StreamStore['create']>[1]): Promise<void> {
  if (isRefused(await store.head(path))) return
  if (!isRefused(await store.create(path, request))) await store.delete(path)
}

/** For `sweep`: the fork `id`, if it was one, whose workflow was ended by force. */
export async function dropAbandonedFork(parts: Parts, id: OperationId): Promise<void> {
  const payload = (await findPayloads(parts.database, [forkRow(id)])).get(forkRow(id))
  if (payload !== undefined) await dropFork(parts, foreignStore(parts), JSON.parse(payload) as ReservedFork)
}
