/** What the rows of main streams change in the registry, in the transaction that draws the consequences of their append (design §4, 2c). */
import { sharedStateLinks } from '../domain/shared-state.js'
import type { Transaction } from '../registry/database.js'
import { type ProjectionRow, project } from '../registry/projections.js'
import { changeLinks } from '../registry/shared-state.js'

/** At most one row per (entity, type, key). Drawing the same rows again changes nothing. */
export async function drawFrom(tx: Transaction, rows: readonly ProjectionRow[]): Promise<void> {
  if (rows.length === 0) return
  const links = sharedStateLinks(rows)
  await Promise.all([project(tx, rows), links.length > 0 && changeLinks(tx, links)])
}
