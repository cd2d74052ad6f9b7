/**
 * Spawning: rows and streams of a batch, with a verdict per entity.
 *
 * A1  The same operation id means the same verdicts, however often and wherever an attempt runs: attempts take turns, the first one's outcome stands.
 * A2  A refusal is a value; only trouble that may pass is thrown.
 * A3  With streams in Postgres everything is one transaction: a crash leaves nothing or all of it.
 * A4  With a foreign stream server the rows are reserved first (nobody sees them), then the streams are made, then all become visible at once.
 *     A crash in between is continued or undone by the workflow; what an operation reserved is found by its id.
 * A5  Nothing is committed of a run that was given up; who gives one up waits for the attempt under way (`registry/given-up.ts`).
 */
import { AgentsError, errors } from '../domain/errors.js'
import { type EntityUrl, mainStream, typeOf } from '../domain/ids.js'
import type { Begun, SpawnBatch, SpawnItem, SpawnVerdict } from '../domain/operations.js'
import type { SpawnPlan } from '../domain/spawn-plan.js'
import { isGivenUp } from '../registry/given-up.js'
import { findOutcome, insertPayloads, operationTransaction, recordOutcome } from '../registry/operations.js'
import { foreignStreamsRow } from './foreign-streams.js'
import { createTogether, insertRows } from './new-entities.js'
import { givenUp } from './outcomes.js'
import type { Parts } from './parts.js'
import { withPayloads } from './payloads.js'
import { completePrincipal } from './principals.js'
import { tracedBatch } from './tracing.js'
import { travelling } from './travelling.js'

export interface SpawnAttempt extends SpawnBatch {
  /** Of the workflow; absent where its request makes the attempt. */
  readonly run?: string
}

export interface SpawnActivities {
  /** Everything, or (with a foreign stream server) the reservation. Idempotent by `operationId`. */
  createEntities(attempt: SpawnAttempt): Promise<Begun<SpawnVerdict>>
}

export const spawnActivities = (parts: Parts): SpawnActivities => ({
  async createEntities(batch) {
    return await tracedBatch('electric_agents.spawn', batch.items, spanAttributesOf, () => createEntities(parts, batch))
  },
})

/** spec/13 §7. */
const spanAttributesOf = ({ url, parent }: SpawnItem) => ({
  'electric_agents.entity.type': typeOf(String(url) as EntityUrl), // a workflow's input may be anything
  'electric_agents.entity.url': url,
  ...(parent === undefined ? {} : { 'electric_agents.entity.parent': parent }),
})

async function createEntities(parts: Parts, batch: SpawnAttempt): Promise<Begun<SpawnVerdict>> {
  const items = await withPayloads(parts, batch.items)
  const [answers, newcomers] = await Promise.all([
    Promise.all(items.map((item, index) => parts.rules.planSpawn(item, `${batch.operationId}/${index}`))),
    parts.rules.planPrincipals([...new Set(items.map((item) => item.principal))]),
  ])
  const callers = new Set<string>(answers.filter(isPlan).flatMap((plan) => plan.entity.created_by ?? []))
  const wanted = newcomers.filter((plan) => callers.has(plan.entity.url)) // who is refused gets no entity
  if (parts.appends.kind === 'intents') for (const plan of wanted) await completePrincipal(parts, plan)
  return await carryOut(parts, batch, answers, parts.appends.kind === 'intents' ? [] : wanted)
}

type Answer = SpawnPlan | AgentsError

const isPlan = (answer: Answer): answer is SpawnPlan => !(answer instanceof AgentsError)

async function carryOut(
  parts: Parts,
  batch: SpawnAttempt,
  answers: readonly Answer[],
  callers: readonly SpawnPlan[],
): Promise<Begun<SpawnVerdict>> {
  const { appends } = parts
  const begun = await operationTransaction(
    parts.database,
    batch.operationId, // A1
    async (tx): Promise<Begun<SpawnVerdict> & { readonly spawned?: ReadonlySet<string> }> => {
      const plans = uniquePlans([...answers.filter(isPlan), ...callers])
      const [late, done, created] = await Promise.all([
        isGivenUp(tx, batch.operationId, batch.run), // A5
        findOutcome<SpawnVerdict>(tx, batch.operationId),
        appends.kind === 'transaction' ? createTogether(tx, appends, plans, { unlessDone: batch.operationId }) : null,
      ])
      if (done !== null) return { state: 'done', verdicts: done }
      if (late) throw givenUp(batch.operationId)
      if (created !== null) {
        const verdicts = verdictsOf(batch, answers, created.spawned, tx.txid)
        tx.last(() => Promise.all([created.finish(), recordOutcome(tx, batch.operationId, verdicts)]))
        return { state: 'done', verdicts, spawned: created.spawned }
      }
      const reserved = await insertRows(tx, plans, { reservedBy: batch.operationId })
      const mine = plans.filter((plan) => reserved.has(plan.entity.url))
      await insertPayloads(tx, [foreignStreamsRow(batch, answers, mine)])
      return { state: 'elsewhere' }
    },
  )
  if (begun.state === 'elsewhere') return begun
  if (appends.kind === 'transaction') appends.announce([...(begun.spawned ?? [])].map((url) => mainStream(url as EntityUrl)))
  parts.deliver(batch.operationId, begun.verdicts)
  return { state: 'done', verdicts: travelling(begun.verdicts) }
}

/** The first plan for each URL; a second spawn of one URL within a batch has lost. */
function uniquePlans(plans: readonly SpawnPlan[]): readonly SpawnPlan[] {
  const first = new Map<string, SpawnPlan>()
  for (const plan of plans) if (!first.has(plan.entity.url)) first.set(plan.entity.url, plan)
  return [...first.values()]
}

/** One verdict per item, in their order; of several items with one URL the first may have won. */
function verdictsOf(batch: SpawnBatch, answers: readonly Answer[], spawned: ReadonlySet<string>, txid: number): SpawnVerdict[] {
  const taken = new Set<EntityUrl>()
  return batch.items.map((item, index): SpawnVerdict => {
    const answer = answers[index]
    if (answer instanceof AgentsError) return { outcome: 'refused', url: item.url, refusal: answer.refusal }
    if (answer === undefined || taken.has(item.url) || !spawned.has(item.url))
      return { outcome: 'refused', url: item.url, refusal: errors.DUPLICATE_URL(item.url).refusal }
    taken.add(item.url)
    return { outcome: 'spawned', url: item.url, txid, createdAt: answer.entity.created_at }
  })
}
