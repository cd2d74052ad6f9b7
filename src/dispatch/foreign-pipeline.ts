/**
 * The pipeline with a foreign stream server: an intent row closes the gap between an append and its consequences (design §4).
 *
 * F1  An append to a main stream is written down (with its bytes) before it is sent; its producer id is the intent's, so repeating it is harmless.
 * F2  Whoever writes an intent works on it for `appendIntentOwnedMs` at most; afterwards it belongs to `sweep`, on any replica. It stands until the
 *     consequences of its entry have been drawn (`foreign-consequences.ts` C2), or none can come.
 *     Who repeats it after a crash knows behind what it stands, if it landed: a server that forgets producers (spec/14 §5 D13) gets it once.
 * F3  An append through the stream protocol goes on as it came, producer and all: only that it may have landed is written down, so that its
 *     consequences are drawn. One that nobody was told of need not land. What a handler appended whose claim ended meanwhile leaves no run open
 *     (`fenced-runs.ts`).
 * F4  Links go with their stream, and those of the next one of its name stay, though nobody can hold the name on a foreign server: a deletion takes
 *     the links that stood before it, and then looks whether there is a stream again; who has made one looks whether it is linked. Whichever of the
 *     two comes last sees what the other has done, and links the stream to the patterns that name it.
 * F5  What an operation has to say of an entity that stands is not given up because its stream is not found, or its bytes are not liked, once: a rolling
 *     restart, and what stands between the servers, say so too. `sweep` tries again for a while (intents.ts `giveUpIntent`).
 * F6  A message of which nothing can have reached the stream server is refused for good: whoever was told so sends it again, and it must not come twice.
 *
 * A process that dies leaves intents; `sweep` lands them and draws their consequences. Recovery costs what was in flight, never a scan of all streams.
 */
import { randomUUID } from 'node:crypto'
import type { EntityStatus } from '../domain/entity.js'
import { type AgentsError, errors } from '../domain/errors.js'
import { type BatchObserver, GroupCommit } from '../domain/group-commit.js'
import { entityOfMainStream, type Offset, type OperationId, operationId, type StreamPath, zeroOffset } from '../domain/ids.js'
import type { Limits } from '../domain/limits.js'
import type { MadeStream } from '../domain/subscriptions.js'
import { writeTokenHashes } from '../registry/claims.js'
import type { Database, Transaction } from '../registry/database.js'
import {
  type AppendIntent,
  deleteIntents,
  giveUpIntent,
  insertIntents,
  intentsUpTo,
  type NewIntent,
  takeLapsedIntents,
} from '../registry/intents.js'
import { advanceProgress, progressOf } from '../registry/projections.js'
import { resumePaused, statusesOf } from '../registry/statuses.js'
import { forgetProgress } from '../registry/subscription-editing.js'
import { dropLinksOf, forgetAcks, linkedPaths, subscribersOf } from '../registry/subscriptions.js'
import {
  type AppendRequest,
  type AppendVerdict,
  type CreateRequest,
  type CreateVerdict,
  type DeleteVerdict,
  isRefused,
  type StreamRefusal,
  type StreamStore,
  Unreached,
} from '../streams/store.js'
import { begunBy, endBegunRuns } from './fenced-runs.js'
import { ForeignConsequences } from './foreign-consequences.js'
import {
  barOf,
  entitiesAskedBy,
  type Pipeline,
  type PipelineAppend,
  type PipelineVerdict,
  resumedBy,
  type Together,
  writtenBy,
} from './pipeline.js'
import type { Waking } from './waking.js'

const intentsPerSweep = 200
const parallelStreams = 16

interface Admitted {
  readonly append: PipelineAppend
  readonly intent: NewIntent
}

/** `intent` null: nobody waits for the stream, and nothing follows from its entries. */
type Admission = Admitted | { readonly append: PipelineAppend; readonly intent: null } | { readonly error: AgentsError }

export interface ForeignPipelineParts {
  readonly database: Database
  readonly streams: StreamStore
  readonly waking: Waking
  readonly limits: Limits
  readonly observe?: BatchObserver | undefined
  /** Told what a stream server did that it must not. */
  readonly warn?: (facts: object, text: string) => void
}

export class ForeignPipeline implements Pipeline {
  readonly #database: Database
  readonly #streams: StreamStore
  readonly #waking: Waking
  readonly #consequences: ForeignConsequences
  readonly #admissions: GroupCommit<PipelineAppend, Admission>
  readonly #ownedMs: number
  #inFlight = 0
  #idle: (() => void)[] = []

  constructor({ database, streams, waking, limits, observe, warn = () => undefined }: ForeignPipelineParts) {
    this.#database = database
    this.#streams = streams
    this.#waking = waking
    this.#consequences = new ForeignConsequences({ database, streams, waking, warn })
    this.#ownedMs = limits.appendIntentOwnedMs
    this.#admissions = new GroupCommit((appends) => this.#admit(appends), {
      turns: database.turns,
      maxBatch: limits.maxAppendBatch,
      maxWeight: limits.maxAppendBatchBytes,
      weigh: (append) => append.body.length,
      maxWaiting: limits.maxWaitingAppends,
      overloaded: () => errors.OVERLOADED('appends').retryAfter(1),
      ...(observe === undefined ? {} : { observe }),
    })
  }

  /** Streams for which nobody waits go straight through. */
  async append(append: PipelineAppend): Promise<PipelineVerdict> {
    return await this.#counted(async () => {
      const admission = await this.#admissions.add(append)
      if ('error' in admission) return { outcome: 'barred', error: admission.error }
      if (admission.intent === null) return await this.#appendUnlinked(append)
      return isWatch(admission.intent) ? await this.#passOn(append, admission.intent) : await this.#landNew(admission.intent)
    })
  }

  /**
   * Linked before it is made; a repeated create finds its wake to be started, where a crash came between. What a fork inherits is passed over once it
   * stands: a crash before that makes it news, as does a first entry that comes with it, since nobody knows then where the past ends.
   */
  async create(path: StreamPath, request: CreateRequest): Promise<CreateVerdict> {
    return await this.#counted(async () => {
      await this.#forgetFormer(path)
      const isLinked = await this.#link(path)
      const verdict = await this.#streams.create(path, request)
      if (isLinked && verdict.outcome === 'created' && !(await this.#isLinked(path))) await this.#link(path) // F4
      if (isLinked && verdict.outcome === 'created' && isBareFork(path, request)) await this.#consequences.passOver(path, verdict.head.tail)
      if (verdict.outcome !== 'refused' && (isLinked || (await this.#isLinked(path)))) await this.#consequences.draw(path, null)
      return verdict
    })
  }

  /** What the registry has heard of a stream that is not there was of another one of its name, which has expired since. Its links stay. */
  async #forgetFormer(path: StreamPath): Promise<void> {
    const heardOf = (await progressOf(this.#database, [path])).has(path)
    if (heardOf && isRefused(await this.#streams.head(path))) await forgetProgress(this.#database, path)
  }

  /** Whether anybody waits for the stream then. Whoever has work up to `tail` is woken. */
  async #link(path: StreamPath, tail: Offset = zeroOffset): Promise<boolean> {
    return await this.#database.transaction(async (tx) => {
      const patterns = await this.#waking.patternsFor(tx, [path])
      await this.#waking.hold(tx, [{ path }], patterns)
      await forgetAcks(tx, [path])
      await this.#waking.made(tx, [{ path, tail }], patterns)
      return (await linkedPaths(tx, [path])).has(path)
    })
  }

  /**
   * Who waits for a name that no stream has goes on waiting. A stream that the registry has heard of and that is not there any more was deleted by
   * somebody who did not come to this: a process that died, or whose answer was lost.
   */
  async delete(path: StreamPath): Promise<DeleteVerdict> {
    return await this.#counted(async () => {
      const [subscribers, heardOf] = await Promise.all([subscribersOf(this.#database, path), progressOf(this.#database, [path])])
      const verdict = await this.#streams.delete(path)
      if (isRefused(verdict) && !heardOf.has(path)) return verdict
      await this.#database.transaction(async (tx) => {
        await dropLinksOf(tx, path, subscribers)
        await forgetProgress(tx, path) // of another stream of this name
      })
      if (subscribers.length > 0) await this.#relink(path)
      return verdict
    })
  }

  /** F4: somebody may have made the stream anew. What was appended while it was not linked is drawn before and after it is (`tails.ts` T1). */
  async #relink(path: StreamPath): Promise<void> {
    const found = await this.#streams.head(path)
    if (isRefused(found)) return
    await this.#consequences.draw(path, null)
    if (await this.#link(path, found.head.tail)) await this.#consequences.draw(path, null)
  }

  /** A link that was made meanwhile has not been seen by this append, so the append looks for it (`tails.ts` T1). */
  async #appendUnlinked(append: PipelineAppend): Promise<AppendVerdict> {
    const verdict = await this.#streams.append(append.path, append)
    if (verdict.outcome === 'appended' && (await this.#isLinked(append.path))) await this.#consequences.draw(append.path, null)
    return verdict
  }

  async #isLinked(path: StreamPath): Promise<boolean> {
    return (await linkedPaths(this.#database, [path])).has(path)
  }

  async #counted<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#inFlight += 1
    try {
      return await work()
    } finally {
      this.#inFlight -= 1
      if (this.#inFlight === 0) for (const resolve of this.#idle.splice(0)) resolve()
    }
  }

  /** Rows and intents commit together; the intents are carried out at once, and by `sweep` if this process dies first. */
  async together<Result>(work: (tx: Transaction) => Promise<Together<Result>>): Promise<Result> {
    const id = operationId(`together-${randomUUID()}`)
    const result = await this.#database.transaction(async (tx) => {
      const done = await work(tx)
      await Promise.all([done.rows?.(), this.intendIn(tx, id, done.appends)])
      await done.after?.()
      return done.result
    })
    await this.landOperation(id)
    return result
  }

  async drained(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  /** Writes down appends that must happen together with `tx`; `landOperation` carries them out after the commit. */
  async intendIn(tx: Transaction, id: OperationId, appends: readonly PipelineAppend[]): Promise<void> {
    const intents = appends.map((append, index) => ({
      id: `${id}/${String(index).padStart(6, '0')}`,
      path: append.path,
      body: append.body,
      closes: append.close === true,
      begun: null,
    }))
    if (intents.length > 0) await insertIntents(tx, intents, this.#ownedMs)
  }

  /** Streams of entities that become visible in `tx`: linked, and waking whom their first messages should. */
  async linkIn(tx: Transaction, made: readonly MadeStream[]): Promise<void> {
    const mains = made.filter(({ path }) => entityOfMainStream(path) !== null) // of others the registry hears with their first append
    await Promise.all(mains.map(({ path, tail }) => advanceProgress(tx, path, null, tail)))
    await this.#waking.made(
      tx,
      made,
      await this.#waking.patternsFor(
        tx,
        made.map(({ path }) => path),
      ),
    )
  }

  /** Carries out what `intendIn` wrote down. Idempotent: what has landed is not there any more. */
  async landOperation(id: OperationId): Promise<void> {
    await this.#landAll(await intentsUpTo(this.#database, id))
  }

  /** Draws the consequences of all that stands on these streams, also of what was written when they were made; of those that are no more it forgets the tail. */
  async catchUp(paths: readonly StreamPath[]): Promise<void> {
    await this.#counted(async () => await this.#consequences.catchUp(paths))
  }

  /** Takes over what dead processes left. How many intents were landed. */
  async sweep(): Promise<number> {
    const lapsed = await this.#database.transaction((tx) => takeLapsedIntents(tx, this.#ownedMs, intentsPerSweep))
    await this.#landAll(lapsed)
    return lapsed.length
  }

  /** Streams side by side, the appends to one stream in their order. One that fails keeps nobody else waiting. */
  async #landAll(intents: readonly AppendIntent[]): Promise<void> {
    const streams = byPath(intents)
    const failures: unknown[] = []
    const lane = async () => {
      for (let stream = streams.pop(); stream !== undefined; stream = streams.pop())
        await this.#landInOrder(stream).catch((failure: unknown) => failures.push(failure))
    }
    await Promise.all(Array.from({ length: parallelStreams }, lane))
    if (failures.length > 0) throw failures[0]
  }

  async #landInOrder(stream: readonly AppendIntent[]): Promise<void> {
    for (const intent of stream)
      if (isWatch(intent)) await this.#drawWatched(intent)
      else await this.#land(intent, { mayHaveLandedAfter: intent.landsAfter })
  }

  async #admit(appends: readonly PipelineAppend[]): Promise<readonly Admission[]> {
    return await this.#database.transaction(async (tx) => {
      const asked = entitiesAskedBy(appends)
      const written = writtenBy(appends)
      const [statuses, tokens, linked] = await Promise.all([
        asked.length > 0 ? statusesOf(tx, asked) : new Map<string, EntityStatus>(),
        written.length > 0 ? writeTokenHashes(tx, written) : new Map<string, Buffer>(),
        linkedPaths(
          tx,
          appends.map(({ path }) => path),
        ),
      ])
      const admissions = appends.map((append): Admission => {
        const error = barOf(append, { statuses, tokens })
        if (error !== null) return { error }
        return { append, intent: entityOfMainStream(append.path) !== null || linked.has(append.path) ? intentOf(append) : null }
      })
      const admitted = admissions.filter((admission): admission is Admitted => 'intent' in admission && admission.intent !== null)
      const resumed = resumedBy(
        admitted.map(({ append }) => append),
        statuses,
      )
      if (resumed.length > 0) await resumePaused(tx, resumed, Date.now())
      if (admitted.length > 0)
        await insertIntents(
          tx,
          admitted.map(({ intent }) => intent),
          this.#ownedMs,
        )
      return admissions
    })
  }

  /** F3. */
  async #passOn(append: PipelineAppend, intent: NewIntent): Promise<AppendVerdict> {
    const verdict = await this.#streams.append(append.path, append)
    if (isRefused(verdict)) {
      await deleteIntents(this.#database, [intent.id])
      return verdict
    }
    await this.#drawWatched(intent, verdict.tail)
    return verdict
  }

  async #drawWatched(intent: NewIntent, landed?: Offset): Promise<void> {
    const isDrawn = await this.#consequences.draw(intent.path, intent.begun === null ? intent.id : null, landed)
    if (isDrawn) await endBegunRuns(this, intent)
  }

  /** F6. */
  async #landNew(intent: NewIntent): Promise<AppendVerdict> {
    try {
      return await this.#land(intent)
    } catch (failure) {
      if (failure instanceof Unreached) await deleteIntents(this.#database, [intent.id])
      throw failure
    }
  }

  /** F1. A refusal of the stream server is final, or is told to whoever waits (F5): there will be no entry to draw consequences from. */
  async #land(intent: NewIntent, attempt: Pick<AppendRequest, 'mayHaveLandedAfter'> = {}): Promise<AppendVerdict> {
    const verdict = await this.#streams.append(intent.path, {
      contentType: 'application/json',
      body: intent.body,
      producer: { id: intent.id, epoch: 0, seq: 0 },
      close: intent.closes,
      ...attempt,
    })
    if (isRefused(verdict)) await this.#giveUp(intent, verdict)
    else await this.#consequences.draw(intent.path, intent.id, verdict.tail)
    // To our callers an intent that had landed before is an append like any other.
    return verdict.outcome === 'duplicate' ? { outcome: 'appended', tail: verdict.tail ?? zeroOffset, closed: verdict.closed } : verdict
  }

  async #giveUp(intent: NewIntent, refusal: StreamRefusal): Promise<void> {
    if (isOfOperation(intent) && isDoubtful(refusal)) await giveUpIntent(this.#database, intent)
    else await deleteIntents(this.#database, [intent.id])
  }
}

/** F5: refusals that somebody else may have uttered than the stream's own server. */
const isDoubtful = ({ because }: StreamRefusal): boolean => because === 'missing' || because === 'body'

const isOfOperation = ({ id }: NewIntent): boolean => id.includes('/')

/** What is written down of an append through the stream protocol is only where to look: its bytes are its client's to repeat (F3). */
function intentOf(append: PipelineAppend): NewIntent {
  const { path, body, close, message } = append
  const intent = { id: randomUUID(), path, begun: begunBy(append) }
  return message === undefined ? { ...intent, body: Buffer.alloc(0), closes: false } : { ...intent, body, closes: close === true }
}

/** A fork without entries of its own: its tail is where the past ends. Main streams are drawn from, whoever makes them. */
const isBareFork = (path: StreamPath, { fork, body }: CreateRequest): boolean =>
  fork !== undefined && (body?.length ?? 0) === 0 && entityOfMainStream(path) === null

const isWatch = ({ body, closes }: NewIntent): boolean => body.length === 0 && !closes

function byPath(intents: readonly AppendIntent[]): AppendIntent[][] {
  const groups = new Map<StreamPath, AppendIntent[]>()
  for (const intent of intents) groups.set(intent.path, [...(groups.get(intent.path) ?? []), intent])
  return [...groups.values()]
}
