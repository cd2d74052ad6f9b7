/**
 * Forking: a batch of forks, each all or nothing, with a verdict per fork (spec/04; docs/decisions/0012).
 *
 * K1  The same operation id means the same verdict, however often and wherever an attempt runs (A1 of `spawns.ts`).
 * K2  What a fork copies was true at one instant, in which all that had to rest was at rest (`fork-findings.ts`).
 * K3  With streams in Postgres everything is one transaction: a crash leaves nothing or all of it, and no lock outlives it. Only the entity of a
 *     caller who is new here comes before it.
 * K4  Who has to wait is recorded in the transaction that saw whom it waits for (`registry/waiters.ts`).
 * K5  Nothing is committed of a run that was given up, however late its attempt ends (`registry/given-up.ts`).
 *
 * With a foreign stream server the transaction reserves; `foreign-forks.ts` goes on from there.
 */
import { AgentsError, errors } from '../domain/errors.js'
import { forkSuffix } from '../domain/fork/names.js'
import { type ForkPlan, planFork } from '../domain/fork/plan.js'
import { type EntityUrl, type OperationId, operationId, type StreamPath, typeOf } from '../domain/ids.js'
import type { Begun, ForkBatch, ForkItem, ForkVerdict, ForkWaits } from '../domain/operations.js'
import type { Transaction } from '../registry/database.js'
import type { SubtreeBounds } from '../registry/forking.js'
import { isGivenUp } from '../registry/given-up.js'
import { findOutcomes, lockOperations, recordOutcomes } from '../registry/operations.js'
import { forgetWaiter, recordWaiter } from '../registry/waiters.js'
import { insertPlanned, NameTaken, type PlannedFork } from './fork-copies.js'
import { type Active, type Finding, type ForkLook, type Found, LookAgain, lookAt, type RootAtCut } from './fork-findings.js'
import { type ForkGround, groundOf } from './fork-ground.js'
import { givenUp } from './outcomes.js'
import type { CheckedFork, Parts } from './parts.js'
import { withPayloads } from './payloads.js'
import { makePrincipals } from './principals.js'
import { tracedBatch } from './tracing.js'
import { travelling, withBoundedList } from './travelling.js'

export interface ForkAttempt extends ForkBatch {
  /** Of the workflow; absent where its request makes the attempt. */
  readonly run?: string
  /** Who waits, where somebody must: a workflow with one fork that is in no haste. */
  readonly waiter?: { readonly workflowId: string /** The time is up: nobody waits any more. */; readonly isLast: boolean }
}

export type ForkBegun = Begun<ForkVerdict> | ForkWaits

export interface ForkActivities {
  /** Looks, and copies what may be copied; or says who is waited for. Idempotent by the forks' operation ids. */
  forkEntities(attempt: ForkAttempt): Promise<ForkBegun>
  /** Compensation: nobody waits any more. */
  forgetWaiter(waiter: { readonly workflowId: string }): Promise<void>
}

export const forkActivities = (parts: Parts): ForkActivities => ({
  async forkEntities(attempt) {
    return await tracedBatch('electric_agents.fork', attempt.items, spanAttributesOf, () => forkEntities(parts, attempt))
  },
  async forgetWaiter({ workflowId }) {
    await forgetWaiter(parts.database, workflowId)
  },
})

const spanAttributesOf = ({ source, url }: ForkItem) => ({
  'electric_agents.entity.type': typeOf(String(source) as EntityUrl), // a workflow's input may be anything
  'electric_agents.entity.url': url,
  'electric_agents.entity.forked_from': source,
})

const maxRounds = 10
/** A waiter outlives its deadline by the time that its workflow may take to hear of it. */
const graceMs = 60_000
/** Names that say whom a workflow waits for. */
const maxNamedActive = 20

/** Each fork of a batch, with what the rules say of it. */
interface Asked {
  readonly id: OperationId
  readonly item: ForkItem
  readonly answer: CheckedFork | AgentsError
}

/** Names that turned out to be taken. */
interface Taken {
  readonly urls: Set<string>
  readonly sharedStates: Set<string>
}

async function forkEntities(parts: Parts, attempt: ForkAttempt): Promise<ForkBegun> {
  const items = await withPayloads(parts, attempt.items)
  const [answers, newcomers] = await Promise.all([
    Promise.all(items.map((item, index) => parts.forkRules.checkFork(item, forkId(attempt, index)))),
    parts.rules.planPrincipals([...new Set(items.map((item) => item.principal))]),
  ])
  const asked = items.map((item, index): Asked => ({ id: forkId(attempt, index), item, answer: answers[index] as Asked['answer'] })) // one each
  const granted = new Set<string>(answers.flatMap((answer) => (answer instanceof AgentsError ? [] : answer.principal.url)))
  const wanted = newcomers.filter((plan) => granted.has(plan.entity.url)) // who is refused gets no entity
  await makePrincipals(parts, wanted) // before any stream is locked: entities come first (fork-findings.ts L1)
  const taken: Taken = { urls: new Set(), sharedStates: new Set() }
  for (let round = 1; ; round += 1) {
    try {
      return await attempted(parts, attempt, asked, taken)
    } catch (failure) {
      if (round === maxRounds || !(failure instanceof LookAgain || failure instanceof NameTaken)) throw failure
      if (failure instanceof LookAgain) continue
      for (const url of failure.urls) taken.urls.add(url)
      for (const id of failure.sharedStates) taken.sharedStates.add(id)
    }
  }
}

/** The operation id of one fork of a batch. */
export const forkId = ({ operationId: batch, items }: ForkBatch, index: number): OperationId =>
  items[index]?.operationId ?? (items.length === 1 ? batch : operationId(`${batch}/${index}`))

async function attempted(parts: Parts, attempt: ForkAttempt, asked: readonly Asked[], taken: Taken): Promise<ForkBegun> {
  const ground = await groundOf(
    parts,
    asked.flatMap(({ answer }) => (answer instanceof AgentsError ? [] : [answer])),
  )
  const { begun, made } = await parts.database.transaction(async (tx) => {
    const attempted = await attemptIn(tx, { parts, ground, attempt, asked, taken })
    if (await isGivenUp(tx, attempt.operationId, attempt.run)) throw givenUp(attempt.operationId) // K5
    return attempted
  })
  if (begun.state !== 'done') return begun
  ground.announce(made)
  parts.deliver(attempt.operationId, begun.verdicts)
  return { state: 'done', verdicts: travelling(begun.verdicts) }
}

interface Attempting {
  readonly parts: Parts
  readonly ground: ForkGround
  readonly attempt: ForkAttempt
  readonly asked: readonly Asked[]
  readonly taken: Taken
}

interface Attempted {
  readonly begun: ForkBegun
  /** Streams to be announced after the commit. */
  readonly made: readonly StreamPath[]
}

async function attemptIn(tx: Transaction, { parts, ground, attempt, asked, taken }: Attempting): Promise<Attempted> {
  const ids = asked.map(({ id }) => id)
  const [, done] = await Promise.all([lockOperations(tx, ids), findOutcomes<ForkVerdict>(tx, ids), ground.begin(tx)]) // K1; answered in this order (database.ts D7)
  if (await ground.goesOn(tx, attempt.operationId, ids)) return { begun: { state: 'elsewhere' }, made: [] }
  const open = asked.flatMap(({ id, answer }) => (done.has(id) || answer instanceof AgentsError ? [] : [answer]))
  const look = await lookAtOpen(tx, ground, open, parts.limits)
  const findings = new Map(open.map((fork, index) => [fork.id, look.findings[index] as Finding])) // in their order
  const waits = waitsFor(attempt, open, look.findings, parts.limits)
  if (waits !== null) {
    await recordWaiter(tx, waits.workflowId, waits.urls, waits.begun.waitMs + graceMs) // K4
    return { begun: waits.begun, made: [] }
  }
  const copied = await insertedOf(tx, open, plansOf(open, findings, taken, ground))
  const verdicts = asked.map(
    (one): ForkVerdict =>
      done.get(one.id)?.[0] ??
      verdictOf(one, findings.get(one.id), copied.get(one.id), { txid: tx.txid, taken, isAlone: asked.length === 1 }),
  )
  if (attempt.waiter !== undefined) await forgetWaiter(tx, attempt.waiter.workflowId)
  const made =
    copied.size === 0 ? [] : await ground.copy(tx, { operationId: attempt.operationId, ids, verdicts, copied, tails: look.tails })
  if (made === 'elsewhere') return { begun: { state: 'elsewhere' }, made: [] }
  await recordOutcomes(tx, [
    ...asked.flatMap(({ id }, index) => (verdicts[index]?.outcome === 'busy' ? [] : [{ id, verdicts: [verdicts[index]] }])),
    { id: attempt.operationId, verdicts: verdicts.map(withBoundedList) },
  ])
  return { begun: { state: 'done', verdicts }, made }
}

const isActive = (finding: Finding): finding is Active => !(finding instanceof AgentsError) && finding.outcome === 'active'

async function lookAtOpen(tx: Transaction, ground: ForkGround, open: readonly CheckedFork[], bounds: SubtreeBounds): Promise<ForkLook> {
  if (open.length === 0) return { findings: [], tails: new Map() }
  const cuts: (RootAtCut | AgentsError | null)[] = []
  for (const fork of open) cuts.push(await ground.cutOf(tx, fork))
  const standing = open.filter((_, index) => !(cuts[index] instanceof AgentsError))
  const usable = cuts.filter((cut): cut is RootAtCut | null => !(cut instanceof AgentsError))
  const look = await lookAt(tx, standing, usable, ground.share, bounds)
  const found = look.findings.values()
  return { ...look, findings: cuts.map((cut) => (cut instanceof AgentsError ? cut : (found.next().value as Finding))) }
}

/** Whom the fork of a batch of one waits for; null where it does not, or there is no time to. */
function waitsFor({ waiter, items }: ForkAttempt, open: readonly CheckedFork[], findings: readonly Finding[], limits: Parts['limits']) {
  const [fork] = open
  const [finding] = findings
  if (waiter === undefined || waiter.isLast || items.length !== 1 || fork === undefined || finding === undefined || !isActive(finding))
    return null
  const waitMs = Math.min(fork.item.waitTimeoutMs ?? limits.forkWaitMs, limits.maxForkWaitMs)
  if (waitMs <= 0) return null
  const { urls } = finding
  const begun: ForkWaits = { state: 'waits', active: urls.slice(0, maxNamedActive), count: urls.length, waitMs }
  return { workflowId: waiter.workflowId, urls, begun }
}

function plansOf(
  open: readonly CheckedFork[],
  findings: ReadonlyMap<OperationId, Finding>,
  taken: Taken,
  { reserves }: ForkGround,
): Map<OperationId, PlannedFork> {
  const plans = new Map<OperationId, PlannedFork>()
  for (const fork of open) {
    const finding = findings.get(fork.id)
    if (finding === undefined || finding instanceof AgentsError || finding.outcome !== 'found') continue
    if (fork.rootUrl !== null && taken.urls.has(fork.rootUrl)) continue // a foreign stream stands there
    const atMs = Date.now()
    const reservedBy = reserves ? fork.id : null
    plans.set(fork.id, { plan: planOf(fork, finding, taken, atMs), createdBy: fork.principal.url, atMs, reservedBy })
  }
  return plans
}

function planOf({ id, item, rootUrl, parent, principal }: CheckedFork, found: Found, taken: Taken, atMs: number): ForkPlan {
  return planFork({
    members: found.members,
    rows: found.rows,
    ...found.atCut,
    rootUrl,
    suffix: forkSuffix(id),
    taken,
    parent,
    tags: item.tags ?? {},
    createdBy: principal.url,
    ...(item.initialMessage === undefined ? {} : { initialMessage: item.initialMessage }),
    atMs,
    seed: id,
  })
}

/** The forks whose rows are inserted. A fork whose asked-for name is taken is not among them; made names that are taken are made anew. */
async function insertedOf(
  tx: Transaction,
  open: readonly CheckedFork[],
  plans: ReadonlyMap<OperationId, PlannedFork>,
): Promise<ReadonlyMap<OperationId, PlannedFork>> {
  const exact = new Map(open.map(({ id, rootUrl }) => [id, rootUrl]))
  const taken = await insertPlanned(tx, [...plans.values()])
  const forks = [...plans].map(([id, fork], index) => ({ id, fork, lost: taken[index] ?? [] }))
  const urls = forks.flatMap(({ id, lost }) => (lost.some((url) => url === exact.get(id)) ? [] : lost))
  if (urls.length > 0) throw new NameTaken({ urls })
  return new Map(forks.filter(({ lost }) => lost.length === 0).map(({ id, fork }) => [id, fork]))
}

function verdictOf(
  { id, item, answer }: Asked,
  finding: Finding | undefined,
  fork: PlannedFork | undefined,
  { txid, taken, isAlone }: { readonly txid: number; readonly taken: Taken; readonly isAlone: boolean },
): ForkVerdict {
  const { url } = item
  if (answer instanceof AgentsError) return { outcome: 'refused', url, refusal: answer.refusal }
  if (finding instanceof AgentsError) return { outcome: 'refused', url, refusal: finding.refusal }
  if (finding === undefined) throw new Error(`nobody looked at fork ${id}`)
  if (finding.outcome === 'active') {
    if ((item.hasty === true || !isAlone) && item.waitTimeoutMs !== 0) return { outcome: 'busy', url }
    const whose = item.pointer === undefined && item.anchor === undefined ? 'subtree' : 'descendants'
    return { outcome: 'refused', url, refusal: errors.FORK_WAIT_TIMEOUT(whose).withDetails({ active: finding.urls }).refusal }
  }
  const root = answer.rootUrl ?? url
  if (fork === undefined) {
    const refusal = taken.urls.has(root) ? errors.STREAM_NOT_FREE(root) : errors.DUPLICATE_URL(root)
    return { outcome: 'refused', url, refusal: refusal.refusal }
  }
  const urls = fork.plan.copies.map((copy) => copy.url)
  return { outcome: 'forked', url: urls[0] ?? root, entities: urls.length, urls, txid }
}
