/** Requests to the stream server at once. */
const parallelRequests = 16

/** Bounded parallelism; every result in the order of the items. After a failure nothing more is begun, and it is thrown when nothing is under way. */
export async function inParallel<Item, Result>(
  items: readonly Item[],
  work: (item: Item, index: number) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = []
  let next = 0
  const lane = async () => {
    try {
      for (let index = next++; index < items.length; index = next++) results[index] = await work(items[index] as Item, index)
    } catch (failure) {
      next = items.length
      throw failure
    }
  }
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(parallelRequests, items.length) }, lane))
  for (const ended of lanes) if (ended.status === 'rejected') throw ended.reason
  return results
}
