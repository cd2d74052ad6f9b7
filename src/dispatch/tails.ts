/**
 * Where streams end, for links that are being made: a link's cursor is its stream's tail of that moment (spec/06 §3.1).
 *
 * T1  An append is before the cursor, or it finds the link: there is none between, and no wake is lost.
 *
 * With streams in Postgres the tails are rows: they are held while the link is made, and an append waits. With a foreign stream server the registry
 * knows only how far consequences were drawn, and cannot hold anybody: it catches up before the link is made, so that the cursor is where the
 * stream really ends, and once more when the link can be seen by everybody, for what was appended meanwhile (docs/decisions/0013-links-and-tails.md).
 */
import { entityOfMainStream, mainStream, type StreamPath } from '../domain/ids.js'
import type { Queryable, Transaction } from '../registry/database.js'
import { progressOf } from '../registry/projections.js'
import { heardOfIn, streamsIn, unheardEntitiesIn } from '../registry/subscription-editing.js'
import type { TransactionalStreams } from '../streams/store.js'
import type { ForeignPipeline } from './foreign-pipeline.js'

export interface Tails {
  /** Streams at `prefix` and below it, and some others, page by page. */
  below(queryable: Queryable, prefix: string): AsyncIterable<readonly StreamPath[]>
  /** To be called before links are made, and again when they are committed. */
  catchUp(paths: readonly StreamPath[]): Promise<void>
  /** To be called in the transaction that makes links, before anything of a subscription is locked. */
  hold(tx: Transaction, paths: readonly StreamPath[]): Promise<void>
}

const perPage = 5_000

async function* pages<Name extends string>(read: (after: string) => Promise<readonly Name[]>): AsyncIterable<readonly Name[]> {
  for (let after = ''; ; ) {
    const page = await read(after)
    yield page
    const last = page.at(-1)
    if (last === undefined || page.length < perPage) return
    after = last
  }
}

/** A foreign server lists nothing: its streams are those that the registry has heard of, and the main streams of all entities. */
async function* knownBelow(queryable: Queryable, prefix: string): AsyncIterable<readonly StreamPath[]> {
  yield* pages((after) => heardOfIn(queryable, { prefix, after, limit: perPage }))
  const ofEntities = prefix.replace(/\/main$/, '') // the stream that a pattern without wildcards names
  for await (const urls of pages((after) => unheardEntitiesIn(queryable, { prefix: ofEntities, after, limit: perPage })))
    yield urls.map((url) => mainStream(url))
}

/** Streams in the same Postgres. */
export function ownTails(streams: Pick<TransactionalStreams, 'lock'>): Tails {
  return {
    below: (queryable, prefix) => pages((after) => streamsIn(queryable, { prefix, after, limit: perPage })),
    catchUp: async () => undefined,
    hold: async (tx, paths) => {
      if (paths.length > 0)
        await streams.lock(
          tx,
          paths.map((path) => ({ path })),
        )
    },
  }
}

/** Streams of a foreign server. */
export function foreignTails(database: Queryable, pipeline: Pick<ForeignPipeline, 'catchUp'>): Tails {
  return {
    below: (queryable, prefix) => knownBelow(queryable, prefix),
    catchUp: async (paths) => {
      const known = await progressOf(database, paths)
      const left = paths.filter((path) => entityOfMainStream(path) === null || !known.has(path)) // a main stream's appends are always drawn
      await pipeline.catchUp(left)
    },
    hold: async () => undefined,
  }
}
