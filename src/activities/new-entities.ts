/** Rows and streams of new entities: one statement per table for the whole batch. */
import { entryOf } from '../domain/events.js'
import { mainStream, type OperationId } from '../domain/ids.js'
import type { SpawnPlan } from '../domain/spawn-plan.js'
import type { Transaction } from '../registry/database.js'
import { insertEntities, insertLineage, insertUsers, removeEntities } from '../registry/spawning.js'
import { sharePatterns } from '../registry/subscriptions.js'
import type { Appends } from './parts.js'

/** Inserts what is free, in one statement per table. The URLs that were. */
export async function insertRows(
  tx: Transaction,
  plans: readonly SpawnPlan[],
  reservedBy: OperationId | null,
): Promise<ReadonlySet<string>> {
  if (plans.length === 0) return new Set()
  const inserted = await insertEntities(
    tx,
    plans.map((plan) => ({ ...plan.entity, reserved_by: reservedBy })),
  )
  const rows = plans.filter((plan) => inserted.has(plan.entity.url)).map((plan) => plan.entity)
  if (rows.length > 0) await insertLineage(tx, rows)
  const users = rows.flatMap((row) => (row.type === 'principal' && row.spawn_args.kind === 'user' ? [String(row.spawn_args.id)] : []))
  if (users.length > 0) await insertUsers(tx, users)
  return inserted
}

/** Rows, streams with their first entry, first messages. A row whose stream's place is taken by a foreign stream does not stay. */
export async function createTogether(tx: Transaction, appends: Extract<Appends, { kind: 'transaction' }>, plans: readonly SpawnPlan[]) {
  const [, inserted] = await Promise.all([sharePatterns(tx), insertRows(tx, plans, null)]) // in this order (database.ts D7): patterns before any row
  const mine = plans.filter((plan) => inserted.has(plan.entity.url))
  if (mine.length === 0) return { spawned: new Set<string>() }
  const made = await appends.createIn(tx, mine.map(streamOf))
  const lost = mine.filter((_, index) => made[index]?.outcome !== 'created').map((plan) => plan.entity.url)
  if (lost.length > 0) await removeEntities(tx, lost)
  return { spawned: new Set<string>(mine.map((plan) => plan.entity.url).filter((url) => !lost.includes(url))) }
}

const streamOf = (plan: SpawnPlan) => ({
  path: mainStream(plan.entity.url),
  dispatch: plan.entity.dispatch_policy,
  contentType: 'application/json',
  body: plan.firstEntry,
  more: plan.messages.map((event) => entryOf([event])),
})
