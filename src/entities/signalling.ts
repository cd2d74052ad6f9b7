/**
 * Signals (spec/05). What may end an entity is a `closeEntities` workflow; the rest is one pass: row and event together, group-committed.
 */
import { randomUUID } from 'node:crypto'
import type { Parts as ActivityParts } from '../activities/parts.js'
import { applyButEndings, type Deferred } from '../activities/signals.js'
import { AgentsError, errors } from '../domain/errors.js'
import { GroupCommit } from '../domain/group-commit.js'
import { operationId } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import type { SignalItem, SignalVerdict } from '../domain/operations.js'
import { receive } from '../domain/signals.js'
import type { FoundEntity } from '../registry/entities.js'
import type { JudgedPrincipal } from './authorize.js'
import type { Operations } from './operations.js'
import { carriedBy, type EntityRules } from './rules.js'

export type Signalled = Extract<SignalVerdict, { outcome: 'signalled' }>

export class Signalling {
  readonly #rules: EntityRules
  readonly #operations: Operations<SignalItem, SignalVerdict>
  readonly #parts: ActivityParts
  readonly #pass: GroupCommit<SignalItem, SignalVerdict | Deferred>

  constructor(rules: EntityRules, operations: Operations<SignalItem, SignalVerdict>, parts: ActivityParts, limits: Limits) {
    this.#rules = rules
    this.#operations = operations
    this.#parts = parts
    this.#pass = new GroupCommit((items) => this.#commit(items), {
      maxBatch: limits.maxOperationBatch,
      maxWeight: limits.maxAppendBatchBytes,
      weigh: weightOf,
      maxWaiting: limits.maxWaitingOperations,
      overloaded: () => errors.OVERLOADED('signals').retryAfter(1),
    })
  }

  /** Signals `entity`; throws the refusal. Row, event and (for an ending) the closed stream are durable when this returns. */
  async signal(asked: SignalItem, entity: FoundEntity, caller: JudgedPrincipal): Promise<Signalled> {
    const item = carriedBy(caller, asked)
    await this.#rules.checkSignal(asked, entity, caller)
    const ends = receive(entity.status, item.signal)?.ends === true
    const passed = ends ? ({ outcome: 'deferred' } as const) : await this.#pass.add(item)
    const verdict = passed.outcome === 'deferred' ? await this.#operations.run(item) : passed
    if (verdict.outcome === 'refused') throw new AgentsError(verdict.refusal)
    return verdict
  }

  async drained(): Promise<void> {
    await Promise.all([this.#pass.drained(), this.#operations.drained()])
  }

  async #commit(items: readonly SignalItem[]): Promise<readonly (SignalVerdict | Deferred)[]> {
    const { database, appends } = this.#parts
    const batch = { operationId: operationId(`signal-${randomUUID()}`), items }
    const refusals = items.map(() => null) // each was checked on its way in; the status is checked again under the lock
    const applied = await database.transaction((tx) => applyButEndings(tx, this.#parts, batch, refusals))
    if (appends.kind === 'intents') await appends.landOperation(batch.operationId)
    else appends.announce(applied.appends.map(({ path }) => path))
    return applied.verdicts
  }
}

/** About as many bytes as its event has. */
const weightOf = ({ reason, payload }: SignalItem): number =>
  (reason?.length ?? 0) + (payload === undefined ? 0 : JSON.stringify(payload).length)
