/**
 * Use cases of runners: register, list, health, heartbeat, enable, disable (spec/07 §2–3).
 *
 * R1  A runner has one owner for ever: nobody else registers its id, sees or changes it.
 * R2  Row and wake stream of a registration are one; with a foreign stream server the row comes first, and the next registration makes what is missing.
 * R3  The offset that a registration answers is taken before outstanding wakes are announced again: a client that starts there misses none.
 * R4  `admin_status` is an operator's word: only the first registration sets it.
 * R5  No pattern links its wake stream, neither before the registration nor after; nor does what others than its owner had subscribed to before.
 *
 * A crash before the commit leaves nothing; behind it, at most an announcement that whoever announces repeats by itself.
 */
import { errors } from '../domain/errors.js'
import type { Offset, PrincipalUrl, StreamPath } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import { knownPrincipal, type Principal } from '../domain/principals.js'
import { type Diagnostics, knownDiagnostics } from '../domain/runner-health.js'
import { type AdvertisedProfile, isRunnerId, type Runner, type RunnerAdminStatus, type RunnerKind } from '../domain/runners.js'
import type { AdvertisedProfiles } from '../domain/sandbox.js'
import type { Database, Queryable, Transaction } from '../registry/database.js'
import { findRunnerWork, type RunnerWork } from '../registry/runner-work.js'
import {
  findRunnerRuntime,
  findRunners,
  findRunnersByWakeStream,
  listOfferedProfiles,
  listRunners,
  type RunnerRegistration,
  type RunnerRuntime,
  recordHeartbeat,
  setRunnerAdminStatus,
  upsertRunner,
} from '../registry/runners.js'
import { keepLinksOfOwner, sharePatterns } from '../registry/subscriptions.js'
import { type CreateVerdict, isRefused, type StreamStore } from '../streams/store.js'
import { authorizeRunner } from './authorize.js'
import type { Directory } from './directory.js'
import { leaseOf, refuseLongTexts } from './runner-forms.js'
import { wakeStreamFor } from './wake-streams.js'

export interface RunnersOptions {
  readonly database: Database
  readonly streams: StreamStore
  readonly directory: Directory
  readonly limits: Limits
  /**
   * An enabled runner has just become able to take wakes: registered, enabled, or back after its lease was over. What is outstanding for it is
   * announced again then (spec/07 §6.3): in the transaction that made it able, where one did; where it fails the request does too.
   */
  readonly onAvailable?: (queryable: Queryable, runnerId: string) => Promise<void>
}

export interface RunnerSent {
  readonly id: string
  readonly label: string
  readonly owner_principal?: string
  readonly kind?: RunnerKind
  readonly admin_status?: RunnerAdminStatus
  readonly wake_stream?: string
  readonly sandbox_profiles?: readonly AdvertisedProfile[]
}

export interface HeartbeatSent {
  readonly lease_ms?: number
  readonly liveness_lease_expires_at?: string
  readonly wake_stream_offset?: string
  readonly diagnostics?: Readonly<Record<string, unknown>>
}

export interface RegisteredRunner {
  readonly runner: Runner
  /** The end of its wake stream (R3). */
  readonly wake_stream_offset: Offset
}

export interface SeenRunner {
  readonly runner: Runner
  readonly last_seen_at: Date
  readonly liveness_lease_expires_at: Date
  /** As this heartbeat had them. */
  readonly wake_stream_offset?: string
  readonly diagnostics?: Diagnostics
}

export interface RunnerHealth {
  readonly runner: Runner
  readonly runtime: RunnerRuntime | null
  readonly work: RunnerWork
}

const defaultLeaseMs = 30_000
const jsonType = 'application/json'

export class Runners {
  readonly #options: RunnersOptions

  constructor(options: RunnersOptions) {
    this.#options = options
  }

  /** Registers or updates; the checks of spec/07 §3.1 in their order, everything before anything is written. */
  async register(caller: Principal, sent: RunnerSent): Promise<RegisteredRunner> {
    const { limits } = this.#options
    if (!isRunnerId(sent.id)) throw errors.INVALID_RUNNER_ID()
    const owner = ownerOf(caller, sent.owner_principal)
    refuseLongTexts(sent, limits)
    const registered = await this.#write({
      id: sent.id,
      owner_principal: owner,
      label: sent.label,
      kind: sent.kind ?? 'local',
      admin_status: sent.admin_status ?? 'enabled',
      wake_stream: wakeStreamFor(sent.id, sent.wake_stream),
      ...(sent.sandbox_profiles === undefined ? {} : { sandbox_profiles: sent.sandbox_profiles.map(knownMembers) }),
    })
    await this.#available(this.#options.database, registered.runner) // repeated by whoever registers again
    return registered
  }

  /** The caller's own, newest first. */
  list(caller: Principal, owner: string | undefined): AsyncGenerator<readonly Runner[]> {
    const { database, limits } = this.#options
    return listRunners(database, ownerOf(caller, owner), { limit: limits.maxListedRunners, maxBytes: limits.maxListPortionBytes })
  }

  /** 404, 403. */
  async owned(caller: Principal, id: string): Promise<Runner> {
    const runner = await this.#options.directory.runner(id)
    if (runner === null) throw errors.RUNNER_UNKNOWN()
    authorizeRunner(caller, runner)
    return runner
  }

  async health(caller: Principal, id: string): Promise<RunnerHealth> {
    const { database, limits } = this.#options
    const runner = await this.owned(caller, id)
    const [runtime, work] = await Promise.all([findRunnerRuntime(database, id), findRunnerWork(database, id, limits.maxListedClaims)])
    return { runner, runtime, work }
  }

  async heartbeat(caller: Principal, id: string, sent: HeartbeatSent): Promise<SeenRunner> {
    const { database, limits } = this.#options
    const runner = await this.owned(caller, id)
    const lease = leaseOf(sent, defaultLeaseMs, limits)
    refuseLongTexts({ wake_stream_offset: sent.wake_stream_offset }, limits)
    const diagnostics = sent.diagnostics === undefined ? null : knownDiagnostics(sent.diagnostics, limits.maxRunnerTextLength)
    const told = {
      ...(sent.wake_stream_offset === undefined ? {} : { wake_stream_offset: sent.wake_stream_offset }),
      ...(diagnostics === null ? {} : { diagnostics }),
    }
    const seen = await database.transaction(async (tx) => {
      const liveness = await recordHeartbeat(tx, { runner, lease, maxLeaseMs: limits.maxRunnerLeaseMs, ...told })
      if (liveness?.hadLapsed === true) await this.#available(tx, runner) // the next heartbeat would not know any more
      return liveness
    })
    if (seen === null) throw errors.INVALID_REQUEST(`A lease lasts ${limits.maxRunnerLeaseMs} ms at most`)
    const { hadLapsed: _, ...times } = seen
    return { runner, ...times, ...told }
  }

  /** Enables or disables: further claims only, running wakes go on (spec/07 §3.6). */
  async administer(caller: Principal, id: string, status: RunnerAdminStatus): Promise<Runner> {
    await this.owned(caller, id)
    return await this.#options.database.transaction(async (tx) => {
      const runner = await setRunnerAdminStatus(tx, id, status)
      if (runner === null) throw errors.RUNNER_UNKNOWN()
      await this.#available(tx, runner)
      return runner
    })
  }

  async #available(queryable: Queryable, { id, admin_status }: Runner): Promise<void> {
    if (admin_status === 'enabled') await this.#options.onAvailable?.(queryable, id)
  }

  /** R1, R2. Registrations take turns: of several for one id, or one path, the first wins and the others are refused. */
  async #write(registration: RunnerRegistration): Promise<RegisteredRunner> {
    const { database, streams } = this.#options
    const { transactional } = streams
    const path = registration.wake_stream
    const lock = { lock: 'runners' }
    if (transactional !== undefined) {
      const made = await database.transaction(async (tx) => {
        await sharePatterns(tx) // before streams, as whoever makes patterns or streams
        await refuseTaken(tx, registration)
        const [verdict] = await transactional.create(tx, [{ path, contentType: jsonType }])
        const wake_stream_offset = tailOf(path, verdict)
        return { runner: await withoutOthers(tx, registration), wake_stream_offset }
      }, lock)
      transactional.announce([path])
      return made
    }
    const standing = await streams.head(path)
    if (!isRefused(standing) && (standing.head.contentType !== jsonType || standing.head.closed)) {
      await refuseTaken(database, registration)
      throw errors.WAKE_STREAM_TAKEN(path)
    }
    const runner = await database.transaction((tx) => written(tx, registration), lock)
    return { runner, wake_stream_offset: tailOf(path, await streams.create(path, { contentType: jsonType })) }
  }
}

async function written(tx: Transaction, registration: RunnerRegistration): Promise<Runner> {
  await sharePatterns(tx)
  await refuseTaken(tx, registration)
  return await withoutOthers(tx, registration)
}

/** R5. The caller shares the patterns: who makes one has linked the stream already, or will see the runner. */
async function withoutOthers(tx: Transaction, registration: RunnerRegistration): Promise<Runner> {
  const runner = await upsertRunner(tx, registration)
  await keepLinksOfOwner(tx, registration.wake_stream, registration.owner_principal)
  return runner
}

/** Rows 5 and 6 of spec/07 §3.1. */
async function refuseTaken(queryable: Queryable, { id, owner_principal, wake_stream }: RunnerRegistration): Promise<void> {
  const former = (await findRunners(queryable, [id])).get(id)
  if (former !== undefined) authorizeRunner({ url: owner_principal }, former)
  const holder = (await findRunnersByWakeStream(queryable, [wake_stream])).get(wake_stream)
  if (holder !== undefined && holder.id !== id) throw errors.WAKE_STREAM_TAKEN(wake_stream)
}

/** A stream of another kind that stands at the path is somebody's: it is left alone. */
function tailOf(path: StreamPath, verdict: CreateVerdict | undefined): Offset {
  if (verdict === undefined || isRefused(verdict)) throw errors.WAKE_STREAM_TAKEN(path)
  return verdict.head.tail
}

/** Rows 3 and 4: the caller, however it spells itself. */
function ownerOf(caller: Principal, owner: string | undefined): PrincipalUrl {
  if (owner === undefined) return caller.url
  const parsed = owner.startsWith('/principal/') ? knownPrincipal(owner) : null
  if (parsed === null || 'refused' in parsed) throw errors.INVALID_RUNNER_OWNER(owner)
  if (parsed.principal.url !== caller.url) throw errors.RUNNER_OWNER_MISMATCH()
  return caller.url
}

const knownMembers = ({ name, label, description, remote }: AdvertisedProfile): AdvertisedProfile => ({
  name,
  label,
  ...(description === undefined ? {} : { description }),
  ...(remote === undefined ? {} : { remote }),
})

/** What runners offer to a spawn (spec/02 §8). */
export const advertisedBy =
  (database: Queryable, directory: Directory): AdvertisedProfiles =>
  async (runnerId) =>
    runnerId === null ? await listOfferedProfiles(database) : ((await directory.runner(runnerId))?.sandbox_profiles ?? [])
