/** Requests to the stream server at once. */
const parallelRequests = 16

/** Bounded parallelism; every result in the order of the items. */
export async function inParallel<Item, Result>(
  items: readonly Item[],
  work: (item: Item, index: number) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = []
  let next = 0
  const lane = async () => {
    for (let index = next++; index < items.length; index = next++) results[index] = await work(items[index] as Item, index)
  }
  await Promise.all(Array.from({ length: Math.min(parallelRequests, items.length) }, lane))
  return results
}
