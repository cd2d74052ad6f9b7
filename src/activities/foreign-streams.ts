/**
 * Spawning with a foreign stream server, after the reservation: streams with their first messages, then visibility (A4 of `spawns.ts`).
 * Who sees an entity sees it complete: a caller who is told "exists" reads at once (spec/02 §6.5).
 *
 * What is to be made was written down by the reservation, in one row of the operation: each step reads it, so that a repeated step makes the same.
 * Until `activateEntities` everything is undone by `dropStreams` and `dropReservations`; after it the operation only goes forward.
 */

import { setTimeout as delay } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { DispatchPolicy } from '../domain/entity.js'
import { AgentsError, errors, type Refusal } from '../domain/errors.js'
import { entryOf } from '../domain/events.js'
import { type EntityUrl, mainStream, type Offset, type OperationId, zeroOffset } from '../domain/ids.js'
import type { SpawnBatch, SpawnVerdict } from '../domain/operations.js'
import type { SpawnPlan } from '../domain/spawn-plan.js'
import type { Transaction } from '../registry/database.js'
import { giveUp } from '../registry/given-up.js'
import { findOutcome, findPayloads, operationTransaction, recordOutcome } from '../registry/operations.js'
import { activateEntities, dropReservations, findReservations, reservedBy } from '../registry/spawning.js'
import { isRefused, type StreamStore } from '../streams/store.js'
import { inParallel } from './parallel.js'
import type { Parts } from './parts.js'
import { Standing, unlessFinished } from './standing.js'
import { travelling } from './travelling.js'

/** How long a lost race waits for its winner to become visible. */
const winnerLimitMs = 5_000

export interface Operation {
  readonly operationId: OperationId
}

export interface StreamsMade extends Operation {
  /** Entities whose stream's place was taken by a stream that is not ours. */
  readonly taken: readonly EntityUrl[]
  /** Where the others begin and end. Absent in what an older version wrote. */
  readonly made?: readonly StreamEnds[]
}

/** `first`: the end of the first entry, which wakes nobody. */
export interface StreamEnds {
  readonly url: EntityUrl
  readonly first: Offset
  readonly tail: Offset
}

export interface ForeignSpawnActivities {
  /** Makes the streams with their first entries and messages. Idempotent: a stream that this operation made counts as made. */
  createStreams(operation: Operation): Promise<StreamsMade>
  /** One transaction: rows become visible, the outcome is recorded. */
  activateEntities(made: StreamsMade): Promise<void>
  /** Reports the outcome; lands what an older version of `activateEntities` wrote down. */
  landAppends(operation: Operation): Promise<readonly SpawnVerdict[]>
  /** Compensation: removes the streams that this operation made for rows which are still reserved. */
  dropStreams(operation: Operation): Promise<void>
  /** Compensation: gives the run up, and the reserved rows. */
  dropReservations(operation: Operation & { readonly run?: string }): Promise<void>
}

export interface PlannedStream {
  readonly url: EntityUrl
  readonly first: string
  readonly messages: readonly string[]
  readonly dispatch?: DispatchPolicy | null
}

/** What the later steps need to know. */
interface ForeignSpawn {
  readonly items: readonly { readonly url: EntityUrl; readonly createdAt: number; readonly refusal: Refusal | null }[]
  readonly streams: readonly PlannedStream[]
}

const rowId = (id: OperationId): string => `${id}/streams`

/** The row that the reservation writes. */
export function foreignStreamsRow(batch: SpawnBatch, answers: readonly (SpawnPlan | AgentsError)[], reserved: readonly SpawnPlan[]) {
  const content: ForeignSpawn = {
    items: batch.items.map((item, index) => {
      const answer = answers[index]
      if (answer instanceof AgentsError) return { url: item.url, createdAt: 0, refusal: answer.refusal }
      return { url: item.url, createdAt: answer?.entity.created_at ?? 0, refusal: null }
    }),
    streams: reserved.map((plan) => ({
      url: plan.entity.url,
      first: plan.firstEntry.toString('utf8'),
      messages: plan.messages.map((event) => entryOf([event]).toString('utf8')),
      dispatch: plan.entity.dispatch_policy,
    })),
  }
  return { id: rowId(batch.operationId), payload: JSON.stringify(content) }
}

export const foreignSpawnActivities = (parts: Parts): ForeignSpawnActivities => {
  const readSpawn = async (id: OperationId): Promise<ForeignSpawn> => {
    const payload = (await findPayloads(parts.database, [rowId(id)])).get(rowId(id))
    return payload === undefined ? { items: [], streams: [] } : (JSON.parse(payload) as ForeignSpawn) // written by `foreignStreamsRow` alone
  }

  return {
    async createStreams({ operationId }) {
      const { streams } = await readSpawn(operationId)
      const store = foreignStore(parts)
      const standing = new Standing(parts.database, operationId)
      return await unlessFinished<StreamsMade>(parts.database, operationId, { operationId, taken: [] }, async () => {
        const ends = await inParallel(streams, async (planned) => {
          await standing.check()
          const first = await makeStream(store, planned, operationId)
          return first === null ? null : { url: planned.url, first, tail: await appendMessages(store, planned, operationId, first) }
        })
        return {
          operationId,
          taken: streams.filter((_, index) => ends[index] === null).map((planned) => planned.url),
          made: ends.filter((one) => one !== null),
        }
      })
    },

    async activateEntities({ operationId, taken, made = [] }) {
      const { items, streams } = await readSpawn(operationId)
      const mine = streams.filter((planned) => !taken.includes(planned.url))
      await untilWinnersStand(
        parts,
        operationId,
        items.filter((item) => item.refusal === null).map((item) => item.url), // what was refused may be no URL at all
      )
      await operationTransaction(parts.database, operationId, async (tx) => {
        if ((await findOutcome(tx, operationId)) !== null) return
        const active = await activateEntities(
          tx,
          operationId,
          mine.map((planned) => planned.url),
        )
        await dropReservations(tx, operationId)
        await linkIn(
          parts,
          tx,
          mine.filter(({ url }) => active.has(url)),
          made,
        )
        await recordOutcome(tx, operationId, verdictsOf(items, active, taken, tx.txid))
      })
    },

    async landAppends({ operationId }) {
      if (parts.appends.kind === 'intents') await parts.appends.landOperation(operationId)
      const verdicts = (await findOutcome<SpawnVerdict>(parts.database, operationId)) ?? []
      parts.deliver(operationId, verdicts)
      return travelling(verdicts)
    },

    async dropStreams({ operationId }) {
      const { streams } = await readSpawn(operationId)
      const reserved = new Set<string>(await reservedBy(parts.database, operationId))
      const store = foreignStore(parts)
      await inParallel(
        streams.filter((planned) => reserved.has(planned.url)),
        async (planned) => {
          if ((await endOfOurs(store, planned)) !== null) await store.delete(mainStream(planned.url))
        },
      )
    },

    async dropReservations({ operationId, run }) {
      await giveUp(parts.database, operationId, run) // first: an attempt under way is waited for, none comes after it
      await dropReservations(parts.database, operationId)
    },
  }
}

function foreignStore(parts: Parts): StreamStore {
  if (parts.appends.kind === 'intents') return parts.appends.streams
  throw new Error('streams in Postgres are made in the transaction of their rows')
}

/** Dispatch of entities that exist from now on. */
async function linkIn(parts: Parts, tx: Transaction, planned: readonly PlannedStream[], made: readonly StreamEnds[]): Promise<void> {
  if (parts.appends.kind !== 'intents') return
  const ends = new Map(made.map((one) => [one.url, one]))
  await parts.appends.linkIn(
    tx,
    planned.flatMap(({ url, dispatch }) => {
      const { first, tail } = ends.get(url) ?? {}
      if (first === undefined || tail === undefined) return []
      return [{ path: mainStream(url), tail, ...(dispatch ? { dispatch: { policy: dispatch, acked: first } } : {}) }]
    }),
  )
}

/** Idempotent: as a producer of the operation's own name. Where the stream ends then; `first` without messages. */
async function appendMessages(
  store: StreamStore,
  { url, messages }: PlannedStream,
  operation: OperationId,
  first: Offset,
): Promise<Offset> {
  for (const [seq, message] of messages.entries()) {
    const verdict = await store.append(mainStream(url), {
      contentType: 'application/json',
      body: Buffer.from(message),
      producer: { id: `${operation}${url}`, epoch: 0, seq },
      mayHaveLandedAfter: first,
    })
    if (isRefused(verdict)) throw new Error(`a first message of ${url} was refused: ${verdict.reason}`)
  }
  if (messages.length === 0) return first
  const found = await store.head(mainStream(url))
  if (isRefused(found)) throw new Error(`the stream of ${url} is gone: ${found.reason}`)
  return found.head.tail
}

/** The end of our first entry, with which the stream stands, whoever's attempt made it; null: it is somebody else's. */
export async function makeStream(store: StreamStore, planned: PlannedStream, operation: OperationId): Promise<Offset | null> {
  const verdict = await store.create(mainStream(planned.url), {
    contentType: 'application/json',
    body: Buffer.from(planned.first),
    operation,
  })
  if (isRefused(verdict) && verdict.because === 'size') throw new Error(`the stream of ${planned.url} was refused: ${verdict.reason}`)
  const isNew = verdict.outcome === 'created' && verdict.isRepeated !== true // behind a repeated one's first entry messages may stand
  return isNew ? verdict.head.tail : await endOfOurs(store, planned)
}

/** Clients cannot make main streams: one that begins with our own first entry is ours. */
export async function endOfOurs(store: StreamStore, planned: PlannedStream): Promise<Offset | null> {
  const expected = JSON.parse(planned.first) as unknown[]
  const read = await store.readEvents(mainStream(planned.url), zeroOffset, expected.length)
  if ('outcome' in read) return null
  const found = read.events.map(({ item }) => withoutOffset(item))
  const first = read.events[0]?.entry
  return first !== undefined && found.length === expected.length && isDeepStrictEqual(found, expected) ? first : null
}

function withoutOffset(item: unknown): unknown {
  if (typeof item !== 'object' || item === null || !('headers' in item)) return item
  const { offset: _, ...headers } = item.headers as Record<string, unknown>
  return { ...item, headers }
}

/** A caller who is told "exists" reads at once (spec/02 §6.5): the winner of a URL must be visible, or gone, before the loser is answered. */
async function untilWinnersStand(parts: Parts, own: OperationId, urls: readonly EntityUrl[]): Promise<void> {
  for (const deadline = Date.now() + winnerLimitMs; Date.now() < deadline; await delay(25)) {
    const others = [...(await findReservations(parts.database, urls)).values()].filter((holder) => holder !== own)
    if (others.length === 0) return
  }
}

function verdictsOf(items: ForeignSpawn['items'], active: ReadonlySet<string>, taken: readonly EntityUrl[], txid: number): SpawnVerdict[] {
  const answered = new Set<EntityUrl>()
  return items.map(({ url, createdAt, refusal }): SpawnVerdict => {
    if (refusal !== null) return { outcome: 'refused', url, refusal }
    if (taken.includes(url)) return { outcome: 'refused', url, refusal: errors.STREAM_NOT_FREE(url).refusal }
    if (!active.has(url) || answered.has(url)) return { outcome: 'refused', url, refusal: errors.DUPLICATE_URL(url).refusal }
    answered.add(url)
    return { outcome: 'spawned', url, txid, createdAt }
  })
}
