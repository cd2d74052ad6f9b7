/**
 * Operations that were given up: the mark that keeps an attempt which is late from being carried out all the same. An activity may miss its deadline
 * while its transaction waits for a lock or works on, and nobody can call that back.
 *
 * U1  Who gives up and who commits take turns at one lock: a commit that comes first is found by whoever gives up, one that comes after finds the mark.
 * U2  What is given up is one run of a workflow: another one may carry out the same operation. An attempt that does not know its run is of any.
 */
import type { OperationId } from '../domain/ids.js'
import type { Database, Transaction } from './database.js'
import { keyed } from './database.js'

const markOf = (id: OperationId, run: string | undefined): string => `${id}/given up${run === undefined ? '' : `/${run}`}`

/** To be called at the end of a transaction, or at its beginning: then who gives up waits until it has ended. */
export async function isGivenUp(tx: Transaction, id: OperationId, run: string | undefined): Promise<boolean> {
  const [, { rows }] = await Promise.all([
    takeTurn(tx, id), // the look comes after it (database.ts D7)
    tx.query(keyed`SELECT FROM operations WHERE tenant_id = ${tx.tenant} AND id = ${markOf(id, run)}`),
  ])
  return rows.length > 0
}

export async function giveUp(database: Database, id: OperationId, run: string | undefined): Promise<void> {
  await database.transaction(async (tx) => {
    const marks = [...new Set([markOf(id, undefined), markOf(id, run)])]
    await takeTurn(tx, id)
    await tx.query(keyed`
      INSERT INTO operations (tenant_id, id, verdicts) SELECT ${tx.tenant}, i.id, '[]' FROM unnest(${marks}::text[]) AS i (id)
          ON CONFLICT DO NOTHING`)
  })
}

async function takeTurn(tx: Transaction, id: OperationId): Promise<void> {
  await tx.query(keyed`SELECT pg_advisory_xact_lock(hashtextextended(${`${tx.tenant} ${id}`}, 14))`)
}
