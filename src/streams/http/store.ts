/**
 * The `http` adapter of the StreamStore port: any Durable Streams server by URL.
 *
 * H1  Verdicts are believed only where the protocol allows them; what a server is known to lose (spec/14 §5) is looked for, and repaired or reported.
 * H2  What cannot be known or repaired is `STREAM_SERVICE_UNAVAILABLE`; the reason is logged. Callers with a producer may repeat.
 * H3  A server that is not conforming, or has lost a write, gets one write at a time: its losses come from concurrency (D1, D3).
 * H4  Nothing of the server's shows: no URL, no path, no text, no ETag.
 *
 * No state but hints: a crash loses nothing that another process needs.
 */
import type { StreamPath } from '../../domain/ids.js'
import { isRefused, type StreamStore } from '../store.js'
import { append } from './append.js'
import { type Connection, headOf, StreamMemory } from './connection.js'
import { create } from './create.js'
import { readEvents } from './events.js'
import { Exchange, type Log } from './exchange.js'
import { WriteLane } from './lane.js'
import { serveRead } from './read.js'
import { gone, missing } from './verdicts.js'

export interface HttpStreamStoreOptions {
  /** `DURABLE_STREAMS_URL`: a complete prefix, e.g. `http://localhost:4438/v1/stream`. */
  readonly url: string
  readonly bearer?: string
  readonly log?: Log
  /** Skips the look at the preflight: the server is trusted with concurrent writes until it loses one. */
  readonly knownConforming?: boolean
  /** Writes under way at once at a conforming server. */
  readonly writesAtOnce?: number
  readonly maxWaitingWrites?: number
  /** One attempt of a write, a check, or the silence of a catch-up read. */
  readonly attemptTimeoutMs?: number
  /** All attempts together. */
  readonly deadlineMs?: number
  /** A service that fails at once is asked again for so long, and so often. */
  readonly holdMs?: number
  readonly minAttempts?: number
  readonly liveSilenceMs?: number
  readonly sseConnectionMs?: number
}

const defaults = {
  log: { warn: () => undefined },
  writesAtOnce: 64,
  maxWaitingWrites: 4_096,
  attemptTimeoutMs: 8_000,
  deadlineMs: 20_000,
  holdMs: 5_000,
  minAttempts: 5,
  liveSilenceMs: 75_000,
  sseConnectionMs: 180_000,
} satisfies Partial<HttpStreamStoreOptions>

export function httpStreamStore(options: HttpStreamStoreOptions): StreamStore {
  const set = { ...defaults, ...options }
  const exchange = new Exchange(set)
  const lane = new WriteLane({ width: set.writesAtOnce, maxWaiting: set.maxWaitingWrites, maxWaitMs: set.deadlineMs })
  const connection: Connection = {
    exchange,
    lane,
    memory: new StreamMemory(),
    distrust: ({ path, reason }) => {
      if (lane.width > 1) set.log.warn({ path, reason }, 'the stream server loses writes: from now on one at a time')
      lane.narrow() // H3
    },
  }
  const introduced = once(async () => {
    if (set.knownConforming !== true) await introduce(connection)
  })
  const stop = new AbortController()

  return {
    create: async (path, request) => {
      await introduced()
      return await create(connection, path, request)
    },
    append: async (path, request) => {
      await introduced()
      return await append(connection, path, request)
    },
    head: (path) => headOf(connection, path),
    delete: async (path) => {
      const message = { method: 'DELETE', path } as const
      let repeated = false
      const answer = await exchange.patiently(
        message,
        () => lane.run(() => exchange.attempt(message)),
        (failure) => {
          repeated ||= failure.arrived
          return true
        },
      )
      connection.memory.forget(path)
      if (answer.status === 204) return { outcome: 'deleted' }
      if (answer.status === 200 && isRefused(await headOf(connection, path))) return { outcome: 'deleted' } // not in the protocol: looked after
      if (answer.status === 404) return repeated ? { outcome: 'deleted' } : missing()
      if (answer.status === 410) return repeated ? { outcome: 'deleted' } : gone()
      throw exchange.unavailable(message, `DELETE answered ${answer.status}`)
    },
    serveRead: (request) => serveRead(connection, { ...set, stop: stop.signal }, request),
    readEvents: (path, after, limit) => readEvents(connection, path, after, limit, set.attemptTimeoutMs),
    close: async () => {
      stop.abort()
      await exchange.close()
    },
  }
}

/**
 * H3. The reference server fails its own suite in what it allows browsers to send (spec/14 §2, §7.2): the one public mark of it, asked for before the
 * first write. A server that lists `if-none-match` is taken for conforming until it loses something.
 */
async function introduce({ exchange, distrust }: Connection): Promise<void> {
  const answer = await exchange.ask({ method: 'OPTIONS', path: '/' as StreamPath })
  const allowed = answer.header('access-control-allow-headers') ?? ''
  if (!/\*|if-none-match/i.test(allowed)) distrust({ path: '/' as StreamPath, reason: 'its preflight is not conforming' })
}

/** Runs `task` once for all callers; a failed run is forgotten, so that the next caller tries again. */
function once(task: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined
  return async () => {
    running ??= task().catch((failure: unknown) => {
      running = undefined
      throw failure
    })
    await running
  }
}
