import { ApplicationFailure } from '@temporalio/activity'
import { findPayloads } from '../registry/operations.js'
import type { Parts } from './parts.js'

/**
 * The items with what of them was too large to travel through Temporal, and waits in the registry. Throws where it is not there any more: an item
 * without it would be half of what was asked for.
 */
export async function withPayloads<Item extends { readonly payloadId?: string }>(
  { database }: Pick<Parts, 'database'>,
  items: readonly Item[],
): Promise<readonly Item[]> {
  const payloads = await findPayloads(
    database,
    items.flatMap(({ payloadId }) => payloadId ?? []),
  )
  return items.map((item) => {
    if (item.payloadId === undefined) return item
    const payload = payloads.get(item.payloadId)
    if (payload === undefined) throw ApplicationFailure.nonRetryable(`the payload ${item.payloadId} of an operation has been forgotten`)
    return { ...item, ...(JSON.parse(payload) as Partial<Item>) } // written by whoever started the operation, checked as the item is
  })
}
