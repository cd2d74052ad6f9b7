/**
 * For services that have a Temporal client and nothing else of ours:
 *
 *   import { AgentsError, spawn } from 'temporal-agents-server/client'
 *   const { txid } = await spawn(client, { url: '/chat/a', principal: 'service:billing', args: { topic: 'x' } })
 *
 * Batches of up to 256 entities: start `spawnEntities`, `forkSubtree` or `closeEntities` with a `SpawnBatch`, `ForkBatch` or `SignalBatch`; the result
 * is one verdict per item. Of several forks in one batch none waits: who would have to is told `busy`. What is no batch fails its workflow at once;
 * refusals that say more than 512 KiB together lose their details.
 */

export type { DispatchPolicy, EntityStatus, Json, JsonObject, Tags } from '../domain/entity.js'
export { AgentsError, type Refusal } from '../domain/errors.js'
export type { ForkAnchor, ForkPointer } from '../domain/fork/cut.js'
export type {
  ForkBatch,
  ForkItem,
  ForkVerdict,
  SignalBatch,
  SignalItem,
  SignalVerdict,
  SpawnBatch,
  SpawnItem,
  SpawnVerdict,
} from '../domain/operations.js'
export { type Signal, signals } from '../domain/signals.js'
export type { OperationOptions } from './operation.js'
export { refusalOf } from './refusals.js'
export {
  type CloseRequest,
  close,
  type Forked,
  type ForkRequest,
  fork,
  type Signalled,
  type SignalRequest,
  type Spawned,
  type SpawnRequest,
  signal,
  spawn,
} from './requests.js'
export { defaultTaskQueue, searchAttributes } from './starts.js'
