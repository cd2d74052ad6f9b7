/**
 * Signalling and closing: row, event and (for an ending) the closed stream, for a batch, with a verdict per entity.
 *
 * C1  The transition is decided under the row's lock, by the table in `domain/signals.ts`; nothing leaves a terminal status.
 * C2  An ending closes the stream in the same step as it changes the row: one transaction, or (with a foreign stream server) an intent
 *     written in that transaction, which is carried out until it has happened. Closing only goes forward.
 * C3  The same operation id means the same verdicts (A1 of `spawns.ts`).
 */

import type { EntityStatus } from '../domain/entity.js'
import { AgentsError, errors } from '../domain/errors.js'
import { entryOf, signalEvent } from '../domain/events.js'
import { type EntityUrl, mainStream, type OperationId } from '../domain/ids.js'
import type { Begun, SignalBatch, SignalItem, SignalVerdict } from '../domain/operations.js'
import { receive, type SignalEffect } from '../domain/signals.js'
import type { Transaction } from '../registry/database.js'
import { workedOn } from '../registry/entity-work.js'
import { findOutcome, operationTransaction, recordOutcome } from '../registry/operations.js'
import { type EntityState, lockEntities, setStatuses } from '../registry/statuses.js'
import { unlinkEntities } from '../registry/subscriptions.js'
import type { StreamAppend } from '../streams/store.js'
import type { Operation } from './foreign-streams.js'
import type { Parts } from './parts.js'
import { withPayloads } from './payloads.js'
import { tracedBatch } from './tracing.js'
import { travelling } from './travelling.js'

export interface SignalActivities {
  /** Rows and events of a batch. Idempotent by `operationId`. */
  applySignals(batch: SignalBatch): Promise<Begun<SignalVerdict>>
  /** Carries out what `applySignals` wrote down for a foreign stream server, and reports the outcome. */
  landSignals(operation: Operation): Promise<readonly SignalVerdict[]>
}

export const signalActivities = (parts: Parts): SignalActivities => ({
  async applySignals(batch) {
    const attributesOf = ({ url, signal }: SignalItem) => ({ 'electric_agents.entity.url': url, 'electric_agents.signal': signal })
    return await tracedBatch('electric_agents.signal', batch.items, attributesOf, () => carryOut(parts, batch))
  },

  async landSignals({ operationId }) {
    if (parts.appends.kind === 'intents') await parts.appends.landOperation(operationId)
    const verdicts = (await findOutcome<SignalVerdict>(parts.database, operationId)) ?? []
    parts.deliver(operationId, verdicts)
    return travelling(verdicts)
  },
})

async function carryOut(parts: Parts, batch: SignalBatch): Promise<Begun<SignalVerdict>> {
  const items = await withPayloads(parts, batch.items)
  const refusals = await Promise.all(items.map((item) => parts.rules.refuseSignal(item)))
  const { verdicts, appends } = await operationTransaction(parts.database, batch.operationId, async (tx) => {
    const [done, locked] = await Promise.all([
      findOutcome<SignalVerdict>(tx, batch.operationId),
      lockEntities(tx, admitted(items, refusals)), // in vain where it is done
    ])
    if (done !== null) return { verdicts: done, appends: [] }
    const applied = await applyIn(tx, parts, { batch: { operationId: batch.operationId, items }, refusals, locked })
    tx.last(() => Promise.all([applied.write(), recordOutcome(tx, batch.operationId, applied.verdicts)]))
    return applied
  })
  if (parts.appends.kind === 'intents') return { state: 'elsewhere' }
  parts.appends.announce(appends.map(({ path }) => path))
  parts.deliver(batch.operationId, verdicts)
  return { state: 'done', verdicts: travelling(verdicts) }
}

export interface AppliedSignals<Answer = SignalVerdict> {
  readonly verdicts: readonly Answer[]
  /** To be announced, or landed, after the commit. */
  readonly appends: readonly StreamAppend[]
}

interface Applying {
  readonly batch: SignalBatch
  /** Those of `rules.refuseSignal`; the status is looked at once more, under the lock. */
  readonly refusals: readonly (AgentsError | null)[]
  /** The entities of those that are not refused. */
  readonly locked: ReadonlyMap<string, EntityState>
}

const admitted = (items: readonly SignalItem[], refusals: Applying['refusals']): EntityUrl[] => [
  ...new Set(items.filter((_, index) => refusals[index] === null).map((item) => item.url)),
]

interface Decision {
  readonly item: SignalItem
  readonly previousStatus: EntityStatus
  readonly effect: SignalEffect
  readonly seed: string
}

/** An ending that a pass without endings has left alone. */
export interface Deferred {
  readonly outcome: 'deferred'
}

/**
 * C1, C2 inside the caller's transaction. Signals to one entity take effect in the order given. `write` asks for what is left, on which nothing depends
 * (database.ts D9).
 */
async function applyIn(tx: Transaction, parts: Parts, applying: Applying): Promise<AppliedSignals & Pick<Decided, 'write'>> {
  const { decisions, appends, atMs, write } = await decideIn(tx, parts, applying, () => false)
  const verdicts = decisions.map((decision, index) =>
    verdictOf(decision as Decision | AgentsError, applying.batch.items[index] as SignalItem, atMs, tx.txid),
  )
  return { verdicts, appends, write }
}

/** The same for signals that are no operation of their own: endings are left to `closeEntities`. It is all that its transaction does. */
export async function applyButEndings(
  tx: Transaction,
  parts: Parts,
  batch: SignalBatch,
  refusals: readonly (AgentsError | null)[],
): Promise<AppliedSignals<SignalVerdict | Deferred>> {
  const locked = await lockEntities(tx, admitted(batch.items, refusals))
  const { decisions, appends, atMs, write } = await decideIn(tx, parts, { batch, refusals, locked }, (effect) => effect.ends)
  tx.last(write)
  const verdicts = decisions.map((decision, index) =>
    decision === 'deferred' ? ({ outcome: decision } as const) : verdictOf(decision, batch.items[index] as SignalItem, atMs, tx.txid),
  )
  return { verdicts, appends }
}

interface Decided {
  readonly decisions: readonly (Decision | AgentsError | 'deferred')[]
  readonly appends: readonly StreamAppend[]
  readonly atMs: number
  write(): Promise<unknown>
}

async function decideIn(
  tx: Transaction,
  parts: Parts,
  { batch, refusals, locked }: Applying,
  defers: (effect: SignalEffect) => boolean,
): Promise<Decided> {
  const atMs = Date.now()
  const statuses = new Map<EntityUrl, EntityStatus>([...locked.values()].map((row) => [row.url, row.status]))
  const paused = [...statuses].filter(([, status]) => status === 'paused').map(([url]) => url)
  const active = paused.length === 0 ? new Set<string>() : await workedOn(tx, paused)
  const decisions = batch.items.map(
    (item, index) => refusals[index] ?? decide(item, statuses, `${batch.operationId}/${index}`, defers, active.has(item.url)),
  )
  const taken = decisions.filter((decision): decision is Decision => typeof decision === 'object' && !(decision instanceof AgentsError))
  const appends = taken.map((decision) => appendOf(decision, atMs, tx.txid))
  if (taken.length === 0) return { decisions, appends, atMs, write: async () => undefined }
  const [, append] = await Promise.all([
    setStatuses(tx, changesOf(taken, statuses, atMs)),
    decideAppends(tx, parts, batch.operationId, appends), // finds the new statuses (database.ts D7)
  ])
  const ended = urlsOf(taken, ({ effect }) => effect.ends)
  const stopping = urlsOf(taken, ({ effect, previousStatus }) => effect.newStatus === 'stopping' && previousStatus !== 'stopping')
  if (stopping.length > 0) tx.afterCommit(() => parts.wakes.stopping(stopping))
  return { decisions, appends, atMs, write: () => Promise.all([append(), unlinkEntities(tx, ended, ended.map(mainStream))]) }
}

const urlsOf = (taken: readonly Decision[], which: (decision: Decision) => boolean): EntityUrl[] => [
  ...new Set(taken.filter(which).map(({ item }) => item.url)),
]

/** One change per entity: where its last signal left it. */
function changesOf(taken: readonly Decision[], statuses: ReadonlyMap<EntityUrl, EntityStatus>, atMs: number) {
  const last = new Map(taken.map(({ item, effect }) => [item.url, statuses.get(item.url) ?? effect.newStatus]))
  return [...last].map(([url, status]) => ({ url, status, atMs }))
}

/** Moves `statuses` along, so that the next signal to the same entity meets the new status. */
function decide(
  item: SignalItem,
  statuses: Map<EntityUrl, EntityStatus>,
  seed: string,
  defers: (effect: SignalEffect) => boolean,
  isWorkedOn: boolean,
): Decision | AgentsError | 'deferred' {
  const previousStatus = statuses.get(item.url)
  if (previousStatus === undefined) return errors.ENTITY_GONE()
  const effect = receive(previousStatus, item.signal, isWorkedOn)
  if (effect === null) return errors.SIGNAL_LOST_RACE()
  if (defers(effect)) return 'deferred'
  statuses.set(item.url, effect.newStatus)
  return { item, previousStatus, effect, seed }
}

function appendOf({ item, effect, previousStatus, seed }: Decision, atMs: number, txid: number): StreamAppend {
  const event = signalEvent({
    signal: item.signal,
    effect,
    previousStatus,
    ...(item.reason === undefined ? {} : { reason: item.reason }),
    ...(item.payload === undefined ? {} : { payload: item.payload }),
    atMs,
    txid,
    seed,
  })
  return { path: mainStream(item.url), contentType: 'application/json', body: entryOf([event]), close: effect.ends }
}

/** A stream that is closed or gone already takes no event; the row's change stands (spec/05 §4). What is still to be asked for. */
async function decideAppends(
  tx: Transaction,
  parts: Parts,
  id: OperationId,
  appends: readonly StreamAppend[],
): Promise<() => Promise<unknown>> {
  if (parts.appends.kind === 'transaction') return (await parts.appends.decideIn(tx, appends)).write
  await parts.appends.intendIn(tx, id, appends)
  return async () => undefined
}

function verdictOf(decision: Decision | AgentsError, item: SignalItem, at: number, txid: number): SignalVerdict {
  if (decision instanceof AgentsError) return { outcome: 'refused', url: item.url, refusal: decision.refusal }
  const { previousStatus, effect } = decision
  return { outcome: 'signalled', url: item.url, signal: item.signal, previousStatus, newStatus: effect.newStatus, at, txid }
}
