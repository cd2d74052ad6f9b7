/**
 * Runs that a fenced handler began. With a foreign stream server its append may be on its way while its claim ends.
 *
 * R1  Whoever ends the claim closes the runs that stand by then (`expiry.ts` X1); those that come to stand later are closed with the intent of the append
 *     that began them. Both hold the entity meanwhile: of the two the later one sees what the earlier one did. Nobody else could end them.
 * R2  A run is closed once: what is written down to be appended counts as told.
 *
 * The intent of an append that begins runs names them, and stands until they are drawn and it is certain that somebody ends them: `sweep` goes on from
 * whatever line a process died at.
 */
import type { JsonObject } from '../domain/entity.js'
import { entryOf, lostRun } from '../domain/events.js'
import { type EntityUrl, entityOfMainStream, mainStream, zeroOffset } from '../domain/ids.js'
import { writeTokenHashes } from '../registry/claims.js'
import type { Transaction } from '../registry/database.js'
import { type BegunRuns, deleteIntents, type NewIntent, plannedBodies } from '../registry/intents.js'
import { openRuns } from '../registry/projections.js'
import { lockEntities } from '../registry/statuses.js'
import { itemsOf, type Pipeline, type PipelineAppend, projectionRows } from './pipeline.js'
import { isSame } from './wake-tokens.js'

/** What is written down of a handler's append, where it begins runs. */
export function begunBy({ path, body, contentType, events, writer }: PipelineAppend): BegunRuns | null {
  if (writer === undefined) return null
  const runs = runRows({ path, body, contentType, events }).flatMap(({ key, value }) => (value === null ? [] : [key]))
  return runs.length === 0 ? null : { tokenHash: writer.tokenHash, runs }
}

/** The runs of an entity that have begun and that nobody has ended, nor is about to (R2). The caller holds the entity. */
export async function unendedRuns(tx: Transaction, url: EntityUrl): Promise<{ readonly key: string; readonly value: JsonObject }[]> {
  const path = mainStream(url)
  const [planned, open] = await Promise.all([plannedBodies(tx, path), openRuns(tx, url)]) // in this order: what has landed meanwhile is not open
  const ending = new Set(planned.flatMap((body) => runRows({ path, body, contentType: json }).map(({ key }) => key)))
  return open.filter(({ key }) => !ending.has(key))
}

/** R1. Ends the intent of an append that began runs, when its consequences have been drawn. */
export async function endBegunRuns(pipeline: Pick<Pipeline, 'together'>, { id, path, begun }: NewIntent): Promise<void> {
  const url = entityOfMainStream(path)
  if (begun === null || url === null) return
  await pipeline.together(async (tx) => {
    const [, isMine] = await Promise.all([lockEntities(tx, [url]), deleteIntents(tx, [id])])
    const lost = isMine ? await lostOf(tx, url, begun) : []
    return { result: null, appends: lost.length === 0 ? [] : [{ path, contentType: json, body: entryOf(lost) }] }
  })
}

async function lostOf(tx: Transaction, url: EntityUrl, { tokenHash, runs }: BegunRuns) {
  const current = (await writeTokenHashes(tx, [mainStream(url)])).get(mainStream(url))
  if (current !== undefined && isSame(current, tokenHash)) return [] // whoever ends this claim finds them
  const begun = new Set(runs)
  return (await unendedRuns(tx, url)).filter(({ key }) => begun.has(key)).map((run) => lostRun(run, Date.now()))
}

const json = 'application/json'

/** The last word on each run of one entry. */
const runRows = (append: Pick<PipelineAppend, 'path' | 'body' | 'contentType' | 'events'>) =>
  projectionRows(
    append.path,
    itemsOf(append).map((item) => ({ entry: zeroOffset, item })),
  ).filter(({ type }) => type === 'run')
