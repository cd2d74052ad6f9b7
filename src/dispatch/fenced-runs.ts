/**
 * Runs that a fenced handler began. With a foreign stream server its append may be on its way while its claim ends: whoever ends the claim closes the
 * runs that stand by then (`expiry.ts` X1), whoever has passed the append on closes those that came to stand later. Nobody else could end them.
 */
import { entryOf, lostRun } from '../domain/events.js'
import { zeroOffset } from '../domain/ids.js'
import { writeTokenHashes } from '../registry/claims.js'
import type { Database } from '../registry/database.js'
import { openRuns } from '../registry/projections.js'
import { lockEntities } from '../registry/statuses.js'
import { itemsOf, type Pipeline, type PipelineAppend, projectionRows } from './pipeline.js'
import { isSame } from './wake-tokens.js'

/** To be called when the consequences of a handler's append have been drawn. */
export async function closeFencedRuns(database: Database, pipeline: Pick<Pipeline, 'together'>, append: PipelineAppend): Promise<void> {
  const { path, writer } = append
  if (writer === undefined) return
  const begun = new Set(runsBegunBy(append))
  if (begun.size === 0) return
  const current = (await writeTokenHashes(database, [path])).get(path)
  if (current !== undefined && isSame(current, writer.tokenHash)) return
  await pipeline.together(async (tx) => {
    await lockEntities(tx, [writer.to]) // one at a time closes runs of an entity
    const lost = (await openRuns(tx, writer.to)).filter(({ key }) => begun.has(key)).map((run) => lostRun(run, Date.now()))
    return { result: null, appends: lost.length === 0 ? [] : [{ path, contentType: 'application/json', body: entryOf(lost) }] }
  })
}

const runsBegunBy = (append: PipelineAppend): readonly string[] =>
  projectionRows(
    append.path,
    itemsOf(append).map((item) => ({ entry: zeroOffset, item })),
  ).flatMap(({ type, key, value }) => (type === 'run' && value !== null ? [key] : []))
