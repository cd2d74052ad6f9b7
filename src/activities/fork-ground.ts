/** What differs between streams in Postgres, where a fork is one transaction, and a foreign stream server, where the transaction reserves. */
import type { AgentsError } from '../domain/errors.js'
import { mainStream, type Offset, type OperationId, type StreamPath } from '../domain/ids.js'
import type { ForkVerdict } from '../domain/operations.js'
import { isAnyClaimed } from '../registry/attachments.js'
import type { Transaction } from '../registry/database.js'
import { lockForFork } from '../registry/fork-locks.js'
import { subtreeOf } from '../registry/forking.js'
import { shareProgress } from '../registry/projections.js'
import { reservedByAny } from '../registry/spawning.js'
import { sharePatterns } from '../registry/subscriptions.js'
import { foreignRootAtCut } from './foreign-cuts.js'
import { isReserved, writeReserved } from './foreign-forks.js'
import { createStreams, type PlannedFork } from './fork-copies.js'
import { rootAtCut } from './fork-cuts.js'
import { LookAgain, type RootAtCut, type ShareStreams } from './fork-findings.js'
import { inParallel } from './parallel.js'
import type { Appends, CheckedFork, Parts } from './parts.js'

/** Forks whose rows are inserted. */
export interface Inserted {
  readonly operationId: OperationId
  /** Of all forks of the batch, in their order; their verdicts so far. */
  readonly ids: readonly OperationId[]
  readonly verdicts: readonly ForkVerdict[]
  readonly copied: ReadonlyMap<OperationId, PlannedFork>
  readonly tails: ReadonlyMap<StreamPath, Offset>
}

export interface ForkGround {
  /** Whether rows are reserved first. */
  readonly reserves: boolean
  /** To be called before any row is locked: who makes a pattern holds rows while it keeps others from sharing (registry/subscriptions.ts). */
  begin(tx: Transaction): Promise<void>
  /** Whether an earlier attempt has reserved, so that the operation goes on elsewhere. */
  goesOn(tx: Transaction, id: OperationId, forks: readonly OperationId[]): Promise<boolean>
  cutOf(tx: Transaction, fork: CheckedFork): Promise<RootAtCut | AgentsError | null>
  readonly share: ShareStreams
  /** The streams that were made; or what is to be made is written down. */
  copy(tx: Transaction, inserted: Inserted): Promise<readonly StreamPath[] | 'elsewhere'>
  announce(paths: readonly StreamPath[]): void
}

/** `forks`: those that the rules have nothing against. */
export async function groundOf(parts: Parts, forks: readonly CheckedFork[]): Promise<ForkGround> {
  return parts.appends.kind === 'transaction' ? postgresGround(parts.appends) : await foreignGround(parts, parts.appends, forks)
}

type Kind<Name extends Appends['kind']> = Extract<Appends, { kind: Name }>

function postgresGround(appends: Kind<'transaction'>): ForkGround {
  const { streams } = appends
  return {
    reserves: false,
    goesOn: async () => false,
    cutOf: async (tx, fork) => await rootAtCut(tx, streams.history, fork),
    begin: async (tx) => await sharePatterns(tx),
    share: async (tx, paths) => await streams.share(tx, paths),
    copy: async (tx, { copied, tails }) => {
      const plans = [...copied.values()].map(({ plan }) => plan)
      return await createStreams(tx, appends, plans, tails)
    },
    announce: (paths) => appends.announce(paths),
  }
}

/** Reads what is on the stream server before the transaction: cuts, and what has not been drawn yet of the streams that will be looked at. */
async function foreignGround(parts: Parts, appends: Kind<'intents'>, forks: readonly CheckedFork[]): Promise<ForkGround> {
  const cuts = await inParallel(forks, async (fork) => await foreignRootAtCut(appends.streams, fork))
  const cutOf = new Map(forks.map(({ id }, index) => [id, cuts[index] ?? null]))
  const members = await Promise.all(
    [...new Set(forks.map(({ source }) => source))].map(
      async (root) => await subtreeOf(parts.database, root, parts.limits.maxForkEntities),
    ),
  )
  await appends.catchUp([...new Set(members.flat().map(mainStream))])
  return {
    reserves: true,
    begin: async () => undefined,
    goesOn: async (tx, id, ids) => {
      if (!(await reservedByAny(tx, ids))) return false
      if (await isReserved(tx, id)) return true
      throw new Error('this fork is being carried out by another workflow') // again, until that one has its outcome
    },
    cutOf: async (_, { id }) => cutOf.get(id) ?? null,
    share: async (tx, paths) => {
      const drawn = await shareProgress(tx, paths)
      if (paths.some((path) => path.endsWith('/main') && !drawn.has(path))) throw new LookAgain() // somebody new
      return drawn
    },
    copy: async (tx, { operationId, ids, verdicts, copied, tails }) => {
      const attachments = [...copied.values()].flatMap(({ plan }) => plan.attachments.map(({ from }) => from))
      if (await isAnyClaimed(tx, attachments)) throw new LookAgain() // its removal has not been drawn yet
      for (const [id, { plan }] of copied)
        await lockForFork(
          tx,
          plan.copies.map(({ source }) => source),
          id,
          parts.limits.forkLockMs,
        )
      const reserved = [...copied].map(([id, { plan }]) => ({
        id,
        plan,
        offsets: plan.copies.map(({ source }) => tails.get(mainStream(source)) as Offset),
      })) // `share` saw to it
      const batch = {
        verdicts: verdicts.map((verdict, index) =>
          copied.has(ids[index] as OperationId) ? { outcome: 'goes on' as const, id: ids[index] as OperationId } : verdict,
        ),
      }
      await writeReserved(tx, operationId, batch, reserved)
      return 'elsewhere'
    },
    announce: () => undefined,
  }
}
