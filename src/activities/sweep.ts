/** The safety net: what processes left behind when they died, and what nobody needs any more (design §3). */
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

/** Outcomes are kept for longer than any attempt at their operation may come. */
const keepOutcomesS = 7 * 24 * 3_600
/** A reservation this old belongs to a workflow that was ended by force: a living one would have finished or undone it. */
const abandonedAfterMs = 10 * 60_000
const perSweep = 500
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
    const [landed] = await Promise.allSettled([parts.appends.kind === 'intents' ? parts.appends.sweep() : 0])
    const abandoned = await abandonedReservations(parts.database, abandonedAfterMs, perSweep)
    for (const operationId of abandoned) {
      await foreignSpawnActivities(parts).dropStreams({ operationId })
      if (parts.appends.kind === 'intents') await dropAbandonedFork(parts, operationId)
      await dropReservations(parts.database, operationId)
    }
    await parts.database.transaction((tx) => sweepWaiters(tx, perSweep))
    await forgetLapsedForkLocks(parts.database)
    const forgottenOperations = await forgetOperations(parts.database, keepOutcomesS, perSweep)
    const removedAttachments = await removeAttachments(parts)
    const overdueMs = parts.limits.stopGraceMs + stopsOverdueMarginMs
    for (const { url, isOverdue } of await unfinishedStops(parts.database, overdueMs, perSweep))
      await parts.wakes.finishStop(url, { despiteClaim: isOverdue })
    const forgottenWakes = await forgetWakes(parts.database, keepOutcomesS, perSweep)
    const signingKeys = await parts.signing.maintain()
    if (landed.status === 'rejected') throw landed.reason // a stream server that refuses keeps nothing else from being swept
    return {
      landedIntents: landed.value,
      droppedReservations: abandoned.length,
      forgottenOperations,
      removedAttachments,
      forgottenWakes,
      signingKeys,
    }
  },
})

/** Streams of attachments that were never shown, or whose removal was not finished; each while the claim on it holds. */
async function removeAttachments({ database, streams }: Parts): Promise<number> {
  const lapsed = await database.transaction((tx) => takeLapsedClaims(tx, `sweep-${randomUUID()}`, claimMs, perSweep))
  for (const claim of lapsed) {
    if (!(await prolongClaim(database, claim, claimMs))) continue // another sweep took it from a slow one
    await streams.delete(claim.path)
    await endClaim(database, claim)
  }
  return lapsed.length
}
