/** What a measurement is: many timed operations, and the numbers that are left of them. */

/** Requests over HTTP, made by the generator: the same one for ours and for the floors. */
export interface HttpLoad {
  readonly is: 'http'
  readonly origin: string
  readonly method: 'GET' | 'POST' | 'PUT'
  /** `{n}` becomes the number of the operation, `{k}` a number below `keys` that stays with its caller. */
  readonly path: string
  readonly keys?: number
  /** `{n}` as in the path. */
  readonly body?: string
  readonly contentType?: string
}

/** One writer and many live readers of what it writes. */
export interface FanoutLoad {
  readonly is: 'fanout'
  readonly origin: string
  readonly path: string
  /** Of the readers. */
  readonly query: string
  readonly readers: number
}

/** A message, until its handler is called, or until its handler is done: the generator is the handler too. */
export interface WakesLoad {
  readonly is: 'wakes'
  readonly origin: string
  /** `{k}` as above: the entity of a caller. */
  readonly entity: string
  readonly handlerPort: number
  readonly until: 'called' | 'done'
}

/** Operations on the raw parts, made inside of the floors' process. */
export interface FloorLoad {
  readonly is: 'transaction' | 'start' | 'start+transaction' | 'select' | 'page' | 'raw append'
  /** Of `select`: the stream whose bytes are read. */
  readonly stream?: string
  /** Of `page`: the type whose rows are read, and how many. */
  readonly type?: string
  readonly rows?: number
}

export interface Command {
  readonly load: HttpLoad | FanoutLoad | WakesLoad | FloorLoad
  readonly callers: number
  /** No operation begins later than this. */
  readonly forMs?: number
  /** At most so many operations. */
  readonly count?: number
  /** A lone caller begins one operation per period, whatever the one before took; absent: a closed loop. */
  readonly everyMs?: number
  /** Number of the first operation. */
  readonly from?: number
}

export interface Numbers {
  readonly operations: number
  readonly errors: number
  /** Up to ten kinds of error, as the client saw them. */
  readonly kinds: readonly string[]
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** One operation; its number and its caller's in, whether it did what it should out. */
export type Operate = (operation: number, caller: number) => Promise<string | null>

/** Carries out `command`; `operate` answers null, or what went wrong. */
export async function measure(command: Command, operate: Operate): Promise<Numbers> {
  const latencies: number[] = []
  const kinds = new Set<string>()
  let errors = 0
  const { from = 0, count = Number.POSITIVE_INFINITY, forMs = Number.POSITIVE_INFINITY, everyMs } = command
  let next = from
  const began = performance.now()
  const one = async (caller: number) => {
    const operation = next++
    const start = performance.now()
    const wrong = await operate(operation, caller).catch((failure: unknown) => String(failure))
    latencies.push(performance.now() - start)
    if (wrong === null) return
    errors += 1
    if (kinds.size < 10) kinds.add(wrong)
  }
  const goesOn = () => next - from < count && performance.now() - began < forMs
  const closedLoop = async (caller: number) => {
    while (goesOn()) await one(caller)
  }
  const paced = async () => {
    for (let turn = 1; goesOn(); turn += 1) {
      await one(0)
      const rest = began + turn * (everyMs ?? 0) - performance.now()
      if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest))
    }
  }
  if (everyMs === undefined) await Promise.all(Array.from({ length: command.callers }, (_, caller) => closedLoop(caller)))
  else await paced()
  const seconds = (performance.now() - began) / 1_000
  latencies.sort((a, b) => a - b)
  return {
    operations: latencies.length,
    errors,
    kinds: [...kinds],
    perSecond: (latencies.length - errors) / seconds,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
  }
}

const quantile = (sorted: readonly number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle) - 1] ?? Number.NaN)) / 2
}

/** Of several rounds of one command: medians, and the sum of all errors. */
export function ofRounds(rounds: readonly Numbers[]): Numbers {
  return {
    operations: rounds.reduce((sum, round) => sum + round.operations, 0),
    errors: rounds.reduce((sum, round) => sum + round.errors, 0),
    kinds: [...new Set(rounds.flatMap((round) => round.kinds))],
    perSecond: median(rounds.map((round) => round.perSecond)),
    p50Ms: median(rounds.map((round) => round.p50Ms)),
    p99Ms: median(rounds.map((round) => round.p99Ms)),
  }
}
