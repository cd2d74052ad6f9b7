/**
 * Spawning: rows and streams of a batch, with a verdict per entity.
 *
 * A1  The same operation id means the same verdicts, however often and wherever an attempt runs: attempts take turns, the first one's outcome stands.
 * A2  A refusal is a value; only trouble that may pass is thrown.
 * A3  With streams in Postgres everything is one transaction: a crash leaves nothing or all of it.
 * A4  With a foreign stream server the rows are reserved first (nobody sees them), then the streams are made, then all become visible at once.
 *     A crash in between is continued or undone by the workflow; what an operation reserved is found by its id.
 */
import { AgentsError, errors } from '../domain/errors.js'
import type { EntityUrl } from '../domain/ids.js'
import type { Begun, SpawnBatch, SpawnItem, SpawnVerdict } from '../domain/operations.js'
import type { SpawnPlan } from '../domain/spawn-plan.js'
import { findOutcome, findPayloads, insertPayloads, lockOperation, recordOutcome } from '../registry/operations.js'
import type { StreamAppend } from '../streams/store.js'
import { foreignStreamsRow } from './foreign-streams.js'
import { createTogether, insertRows } from './new-entities.js'
import type { Parts } from './parts.js'
import { ensurePrincipals } from './principals.js'

export interface SpawnActivities {
  /** Everything, or (with a foreign stream server) the reservation. Idempotent by `operationId`. */
  createEntities(batch: SpawnBatch): Promise<Begun<SpawnVerdict>>
}

export const spawnActivities = (parts: Parts): SpawnActivities => ({
  async createEntities(batch) {
    const done = await findOutcome<SpawnVerdict>(parts.database, batch.operationId)
    if (done !== null) return { state: 'done', verdicts: done }
    const items = await withPayloads(parts, batch.items)
    const answers = await Promise.all(items.map((item, index) => parts.rules.planSpawn(item, `${batch.operationId}/${index}`)))
    const callers = [...new Set(answers.filter(isPlan).flatMap((plan) => plan.entity.created_by ?? []))] // in one spelling
    if (parts.appends.kind === 'intents') await ensurePrincipals(parts, callers)
    return await carryOut(parts, batch, answers, parts.appends.kind === 'intents' ? [] : await parts.rules.planPrincipals(callers))
  },
})

type Answer = SpawnPlan | AgentsError

const isPlan = (answer: Answer): answer is SpawnPlan => !(answer instanceof AgentsError)

async function withPayloads(parts: Parts, items: readonly SpawnItem[]): Promise<readonly SpawnItem[]> {
  const ids = items.flatMap((item) => (item.payloadId === undefined ? [] : [item.payloadId]))
  if (ids.length === 0) return items
  const payloads = await findPayloads(parts.database, ids)
  return items.map((item) => (item.payloadId === undefined ? item : { ...item, ...JSON.parse(payloads.get(item.payloadId) ?? '{}') }))
}

async function carryOut(
  parts: Parts,
  batch: SpawnBatch,
  answers: readonly Answer[],
  callers: readonly SpawnPlan[],
): Promise<Begun<SpawnVerdict>> {
  const { appends } = parts
  const begun = await parts.database.transaction(
    async (tx): Promise<Begun<SpawnVerdict> & { readonly written?: readonly StreamAppend[] }> => {
      await lockOperation(tx, batch.operationId) // A1
      const done = await findOutcome<SpawnVerdict>(tx, batch.operationId)
      if (done !== null) return { state: 'done', verdicts: done }
      const plans = uniquePlans([...answers.filter(isPlan), ...callers])
      if (appends.kind === 'transaction') {
        const { spawned, written } = await createTogether(tx, appends, plans)
        const verdicts = verdictsOf(batch, answers, spawned, tx.txid)
        await recordOutcome(tx, batch.operationId, verdicts)
        return { state: 'done', verdicts, written }
      }
      const reserved = await insertRows(tx, plans, batch.operationId)
      const mine = plans.filter((plan) => reserved.has(plan.entity.url))
      await insertPayloads(tx, [foreignStreamsRow(batch, answers, mine)])
      return { state: 'elsewhere' }
    },
  )
  if (begun.state === 'elsewhere') return begun
  if (appends.kind === 'transaction' && begun.written !== undefined) appends.announce(begun.written)
  parts.deliver(batch.operationId, begun.verdicts)
  return { state: 'done', verdicts: begun.verdicts }
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
