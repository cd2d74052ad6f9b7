/**
 * Lists whose rows may be large are read in portions: neither Postgres nor we hold more of them at once than `maxListPortionBytes`, and one row.
 *
 * L1  Rows are weighed where they lie, unread: what Postgres stores of them, a hundredfold where it has compressed it, which it cannot by more
 *     (pglz: 273 bytes in 3, and a bit).
 * L2  A portion ends with the row that fills it: there is always one, and the usual list is one statement, as if there were no portions.
 * L3  The next portion looks at twice as many rows as the one before had: a list of large rows does not weigh all of them again and again.
 */
import { z } from 'zod'
import type { Row } from './database.js'

export interface Portion<Found> {
  readonly rows: readonly Found[]
  /** Filled: there may be more of what was asked for. */
  readonly isFull: boolean
}

const weighed = z.object({ weight: z.number() })

/** Of rows with their `weight`. */
export function portionOf<Found>(rows: readonly Row[], maxBytes: number, found: (row: Row) => Found): Portion<Found> {
  const bytes = rows.reduce((sum, row) => sum + weighed.parse(row).weight, 0)
  return { rows: rows.map(found), isFull: bytes >= maxBytes }
}

export async function* onlyPortion<Found>({ rows }: Portion<Found>): AsyncGenerator<readonly Found[]> {
  yield rows
}

/** `first`, and what follows it up to `atMost` rows; `read` looks at so many rows behind the last one. */
export async function* portionsFrom<Found>(
  first: Portion<Found>,
  atMost: number,
  read: (last: Found, rows: number) => Promise<Portion<Found>>,
): AsyncGenerator<readonly Found[]> {
  yield first.rows
  let portion = first
  let left = atMost - first.rows.length
  let asked = 0
  while (left > 0 && (portion.isFull || portion.rows.length === asked)) {
    const last = portion.rows.at(-1)
    if (last === undefined) return
    asked = Math.min(left, 2 * portion.rows.length) // L3
    portion = await read(last, asked)
    left -= portion.rows.length
    if (portion.rows.length > 0) yield portion.rows
  }
}
