/** Rows and streams of new entities: one statement per table for the whole batch. */
import { entryOf } from '../domain/events.js'
import { mainStream, type OperationId } from '../domain/ids.js'
import type { SpawnPlan } from '../domain/spawn-plan.js'
import type { Transaction } from '../registry/database.js'
import { insertEntities, insertUsers, removeEntities } from '../registry/spawning.js'
import { sharePatterns } from '../registry/subscriptions.js'
import type { Appends } from './parts.js'

/** Inserts what is free, in one statement per table. The URLs that were. */
export async function insertRows(
  tx: Transaction,
  plans: readonly SpawnPlan[],
  { reservedBy = null, unlessDone = null }: { readonly reservedBy?: OperationId | null; readonly unlessDone?: OperationId | null },
): Promise<ReadonlySet<string>> {
  if (plans.length === 0) return new Set()
  const inserted = await insertEntities(
    tx,
    plans.map((plan) => ({ ...plan.entity, reserved_by: reservedBy })),
    { unlessDone },
  )
  const rows = plans.filter((plan) => inserted.has(plan.entity.url)).map((plan) => plan.entity)
  const users = rows.flatMap((row) => (row.type === 'principal' && row.spawn_args.kind === 'user' ? [String(row.spawn_args.id)] : []))
  if (users.length > 0) await insertUsers(tx, users)
  return inserted
}

export interface Created {
  readonly spawned: ReadonlySet<string>
  /** Asks for what is left, on which nothing depends (database.ts D9). */
  finish(): Promise<unknown>
}

/**
 * Rows, streams with their first entry, first messages. A row whose stream's place is taken by a foreign stream does not stay. `unlessDone`: nothing is
 * made where this operation, whose turn it is, has an outcome already.
 */
export async function createTogether(
  tx: Transaction,
  appends: Extract<Appends, { kind: 'transaction' }>,
  plans: readonly SpawnPlan[],
  { unlessDone = null }: { readonly unlessDone?: OperationId | null } = {},
): Promise<Created> {
  const [, inserted] = await Promise.all([sharePatterns(tx), insertRows(tx, plans, { unlessDone })]) // in this order (database.ts D7): patterns before any row
  const mine = plans.filter((plan) => inserted.has(plan.entity.url))
  if (mine.length === 0) return { spawned: new Set(), finish: async () => undefined }
  const { verdicts, wake } = await appends.createIn(tx, mine.map(streamOf))
  const lost = mine.filter((_, index) => verdicts[index]?.outcome !== 'created').map((plan) => plan.entity.url)
  return {
    spawned: new Set(mine.map((plan) => plan.entity.url).filter((url) => !lost.includes(url))),
    finish: () => Promise.all([wake(), lost.length > 0 ? removeEntities(tx, lost) : undefined]),
  }
}

const streamOf = (plan: SpawnPlan) => ({
  path: mainStream(plan.entity.url),
  dispatch: plan.entity.dispatch_policy,
  contentType: 'application/json',
  body: plan.firstEntry,
  more: plan.messages.map((event) => entryOf([event])),
})
