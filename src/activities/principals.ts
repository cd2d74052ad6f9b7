/**
 * Entities of principals: made on demand by whoever needs one, without a workflow.
 *
 * With streams in Postgres row and stream are one transaction. With a foreign stream server the row is reserved under a name that every
 * process knows (`principal:<url>`) and the stream's bytes follow from the row alone: whoever comes next completes what a dead process began. Where
 * `sweep` has dropped its row meanwhile, the next row takes over the stream, which says when it was made.
 */
import { z } from 'zod'
import { type EntityUrl, mainStream, type Offset, type OperationId, operationId, zeroOffset } from '../domain/ids.js'
import { knownPrincipal, type Principal } from '../domain/principals.js'
import { principalEntry, type SpawnPlan } from '../domain/spawn-plan.js'
import { activateEntities, reservedSince } from '../registry/spawning.js'
import type { StreamStore } from '../streams/store.js'
import { endOfOurs, makeStream, type PlannedStream } from './foreign-streams.js'
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

/** With a foreign stream server: row and stream of one principal, whoever began them. Throws where the stream's place is taken by one that is not ours. */
export async function completePrincipal(parts: Parts, plan: SpawnPlan): Promise<void> {
  if (parts.appends.kind !== 'intents') return
  const { url } = plan.entity
  const id = reservationOf(plan)
  await parts.database.transaction((tx) => insertRows(tx, [plan], { reservedBy: id }))
  const createdAt = await reservedSince(parts.database, id)
  if (createdAt === null) return // somebody else has completed it
  const parsed = knownPrincipal(url)
  if ('refused' in parsed) throw new Error(`${url} is reserved for no principal: ${parsed.refused}`)
  const { appends } = parts
  const tail = await madeOrLeft(appends.streams, id, (atMs) => streamOf(url, parsed.principal, atMs), createdAt)
  if (tail === null) throw new Error(`the stream of ${url} is not ours`)
  await parts.database.transaction(async (tx) => {
    const active = await activateEntities(tx, id, [url])
    if (active.has(url)) await appends.linkIn(tx, [{ path: mainStream(url), tail }])
  })
}

const streamOf = (url: EntityUrl, principal: Principal, atMs: number): PlannedStream => ({
  url,
  first: principalEntry(principal, atMs).toString('utf8'),
  messages: [],
})

/** Where the first entry ends of the stream that is made, or that an earlier reservation has left; null: what stands there is none of these. */
async function madeOrLeft(
  store: StreamStore,
  id: OperationId,
  plannedAt: (atMs: number) => PlannedStream,
  createdAt: number,
): Promise<Offset | null> {
  const planned = plannedAt(createdAt)
  const made = await makeStream(store, planned, id)
  if (made !== null) return made
  const leftAt = await identifiedAt(store, planned.url)
  return leftAt === null ? null : await endOfOurs(store, plannedAt(leftAt))
}

const identityItem = z.looseObject({ type: z.literal('identity'), value: z.looseObject({ created_at: z.iso.datetime() }) })

/** When the stream of a principal says that it was made. */
async function identifiedAt(store: StreamStore, url: EntityUrl): Promise<number | null> {
  const read = await store.readEvents(mainStream(url), zeroOffset, 2)
  if ('outcome' in read) return null
  const identity = identityItem.safeParse(read.events[1]?.item)
  return identity.success ? Date.parse(identity.data.value.created_at) : null
}
