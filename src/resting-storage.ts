/**
 * A storage of Temporal's SDK that costs nothing while nobody is inside of it.
 *
 * Before Node 24 an `AsyncLocalStorage` that ever ran is told of every promise of the process, until it is disabled. The SDK keeps two: the context of
 * activities, and that of calls. Requests know neither, and paid for both.
 *
 * S1  Whoever is inside finds its store until the promise of its `run` is settled, whatever it awaits.
 * S2  When the last has left, the storage is disabled; the next `run` enables it again.
 *
 * What is started inside and not awaited there loses its store when the last has left: activities await what they begin.
 */
import type { AsyncLocalStorage } from 'node:async_hooks'

export function restWhenEmpty<Store>(storage: AsyncLocalStorage<Store>): void {
  const run = storage.run.bind(storage)
  let inside = 0
  const leave = () => {
    inside -= 1
    if (inside === 0) storage.disable()
  }
  storage.run = <Result, Args extends unknown[]>(store: Store, body: (...args: Args) => Result, ...args: Args): Result => {
    inside += 1
    let result: Result
    try {
      result = run(store, body, ...args)
    } catch (failure) {
      leave()
      throw failure
    }
    if (result instanceof Promise) result.then(leave, leave)
    else leave()
    return result
  }
}
