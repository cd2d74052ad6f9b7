/** All activities of a worker. */
import { foreignForkActivities } from './foreign-forks.js'
import { foreignSpawnActivities } from './foreign-streams.js'
import { forkActivities } from './forks.js'
import { outcomeActivities } from './outcomes.js'
import type { Parts } from './parts.js'
import { signalActivities } from './signals.js'
import { spawnActivities } from './spawns.js'
import { sweepActivities } from './sweep.js'
import { wakeActivities } from './wakes.js'

export const allActivities = (parts: Parts) => ({
  ...spawnActivities(parts),
  ...foreignSpawnActivities(parts),
  ...forkActivities(parts),
  ...foreignForkActivities(parts),
  ...outcomeActivities(parts),
  ...signalActivities(parts),
  ...sweepActivities(parts),
  ...wakeActivities(parts),
})

export type Activities = ReturnType<typeof allActivities>
