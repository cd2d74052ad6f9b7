/**
 * Entities of principals: made on demand by whoever needs one, without a workflow.
 *
 * With streams in Postgres row and stream are one transaction. With a foreign stream server the row is reserved under a name that every
 * process knows (`principal:<url>`) and the stream's bytes follow from the row alone: whoever comes next completes what a dead process began.
 */
import { mainStream, type OperationId, operationId } from '../domain/ids.js'
import { parsePrincipal } from '../domain/principals.js'
import { principalEntry, type SpawnPlan } from '../domain/spawn-plan.js'
import { activateEntities, reservedSince } from '../registry/spawning.js'
import { makeStream } from './foreign-streams.js'
import { createTogether, insertRows } from './new-entities.js'
import type { Parts } from './parts.js'

/** Makes the entities of those principals that have none; a race is won by one, and all see its row. */
export async function ensurePrincipals(parts: Parts, keys: readonly string[]): Promise<void> {
  await makePrincipals(parts, await parts.rules.planPrincipals(keys))
}

/** Makes the entities of these principals, as they were planned; those that are there meanwhile stay as they are. */
export async function makePrincipals(parts: Parts, plans: readonly SpawnPlan[]): Promise<void> {
  const { appends } = parts
  if (appends.kind === 'intents') for (const plan of plans) await completePrincipal(parts, plan)
  else if (plans.length > 0) {
    await parts.database.transaction(async (tx) => tx.last((await createTogether(tx, appends, plans)).finish))
    appends.announce(plans.map((plan) => mainStream(plan.entity.url)))
  }
}

const reservationOf = (plan: SpawnPlan): OperationId => operationId(`principal:${plan.entity.url}`)

/** With a foreign stream server: row and stream of one principal, whoever began them. */
export async function completePrincipal(parts: Parts, plan: SpawnPlan): Promise<void> {
  if (parts.appends.kind !== 'intents') return
  const { url } = plan.entity
  const id = reservationOf(plan)
  await parts.database.transaction((tx) => insertRows(tx, [plan], { reservedBy: id }))
  const createdAt = await reservedSince(parts.database, id)
  if (createdAt === null) return // somebody else has completed it
  const parsed = parsePrincipal(url)
  if ('refused' in parsed) return
  const first = principalEntry(parsed.principal, createdAt).toString('utf8')
  const { appends } = parts
  const tail = await makeStream(appends.streams, { url, first, messages: [] }, id)
  if (tail === null) return
  await parts.database.transaction(async (tx) => {
    const active = await activateEntities(tx, id, [url])
    if (active.has(url)) await appends.linkIn(tx, [{ path: mainStream(url), tail }])
  })
}
