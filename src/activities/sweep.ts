/**
 * The safety net: what processes left behind when they died, and what nobody needs any more (design §3). What fails keeps nothing else from being
 * swept; it is thrown at the end, so that the sweep fails visibly, and met again by the next.
 */
import { randomUUID } from 'node:crypto'
import { endClaim, prolongClaim, takeLapsedClaims } from '../registry/attachments.js'
import { unfinishedStops } from '../registry/entity-work.js'
import { forgetLapsedForkLocks } from '../registry/fork-locks.js'
import { forgetOperations } from '../registry/operations.js'
import { abandonedReservations, dropReservations } from '../registry/spawning.js'
import { sweepWaiters } from '../registry/waiters.js'
import { forgetWakes } from '../registry/wakes.js'
import { dropAbandonedFork } from './foreign-forks.js'
import { foreignSpawnActivities } from './foreign-streams.js'
import type { Parts, SigningReport } from './parts.js'
import { Settled } from './settled.js'

/** Outcomes are kept for longer than any attempt at their operation may come. */
const keepOutcomesS = 7 * 24 * 3_600
/** A reservation this old belongs to a workflow that was ended by force: a living one would have finished or undone it. */
const abandonedAfterMs = 10 * 60_000
const perSweep = 500
/** What is forgotten goes in steps, each short: so many rows of a kind at once, and so many steps, since the next sweep comes soon. */
const perStep = 500
const maxSteps = 20
/** A stop this much older than its grace period has lost its workflow. */
const stopsOverdueMarginMs = 60_000
/** How long a sweep may take to remove what it took over. */
const claimMs = 60_000

export interface SweepReport {
  readonly landedIntents: number
  readonly droppedReservations: number
  readonly forgottenOperations: number
  readonly removedAttachments: number
  readonly forgottenWakes: number
  readonly signingKeys: SigningReport
}

export interface SweepActivities {
  sweepLeftovers(): Promise<SweepReport>
}

export const sweepActivities = (parts: Parts): SweepActivities => ({
  async sweepLeftovers() {
    const settled = new Settled()
    // What needs nothing but the database comes first: a stream server that hangs takes the time of the others.
    const cleared = await clearRows(parts, settled)
    const { appends } = parts
    const landedIntents = await settled.one(0, async () => (appends.kind === 'intents' ? await appends.sweep() : 0))
    const droppedReservations = await dropAbandoned(parts, settled)
    const removedAttachments = await removeAttachments(parts, settled)
    await finishStops(parts, settled)
    settled.throwFailures()
    return { landedIntents, droppedReservations, removedAttachments, ...cleared }
  },
})

/** Rows that nobody needs any more, and keys that are old. */
async function clearRows({ database, signing }: Parts, settled: Settled) {
  await settled.one(undefined, async () => await database.transaction((tx) => sweepWaiters(tx, perSweep)))
  await settled.one(undefined, async () => await forgetLapsedForkLocks(database))
  const forgottenOperations = await settled.one(0, async () => await inSteps(() => forgetOperations(database, keepOutcomesS, perStep)))
  const forgottenWakes = await settled.one(0, async () => await inSteps(() => forgetWakes(database, keepOutcomesS, perStep)))
  const signingKeys = await settled.one({ rotated: false, forgottenKeys: 0 }, async () => await signing.maintain())
  return { forgottenOperations, forgottenWakes, signingKeys }
}

/** Until a step leaves nothing: rows must not come faster than sweeps take them. How many went. */
async function inSteps(forget: () => Promise<number>): Promise<number> {
  let gone = 0
  for (let step = 1; step <= maxSteps; step += 1) {
    const went = await forget()
    gone += went
    if (went < perStep) break
  }
  return gone
}

async function dropAbandoned(parts: Parts, settled: Settled): Promise<number> {
  const { database, appends } = parts
  const find = async () => await abandonedReservations(database, abandonedAfterMs, perSweep)
  return await settled.each(find, async (operationId) => {
    await foreignSpawnActivities(parts).dropStreams({ operationId })
    if (appends.kind === 'intents') await dropAbandonedFork(parts, operationId)
    await dropReservations(database, operationId)
  })
}

/** Streams of attachments that were never shown, or whose removal was not finished; each while the claim on it holds. */
async function removeAttachments({ database, streams }: Parts, settled: Settled): Promise<number> {
  const find = async () => await database.transaction((tx) => takeLapsedClaims(tx, `sweep-${randomUUID()}`, claimMs, perSweep))
  return await settled.each(find, async (claim) => {
    if (!(await prolongClaim(database, claim, claimMs))) return // another sweep took it from a slow one
    await streams.delete(claim.path)
    await endClaim(database, claim)
  })
}

async function finishStops({ database, limits, wakes }: Parts, settled: Settled): Promise<void> {
  const find = async () => await unfinishedStops(database, limits.stopGraceMs + stopsOverdueMarginMs, perSweep)
  await settled.each(find, async ({ url, isOverdue }) => await wakes.finishStop(url, { despiteClaim: isOverdue }))
}
