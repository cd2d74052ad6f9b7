/**
 * Steps say that they are alive, so that those of a dead process are given to another one within seconds (`heartbeatTimeout`),
 * not after the time that a living one may take.
 */
import type { Context } from '@temporalio/activity'

export const heartbeatEveryMs = 1_000

/** Interceptor of every activity: a short one is over before its first heartbeat; local ones have none, their workflow task is given away. */
export const heartbeats = (context: Context) => ({
  inbound: {
    async execute<Input, Result>(input: Input, next: (input: Input) => Promise<Result>): Promise<Result> {
      if (context.info.isLocal) return await next(input)
      const beat = setInterval(() => context.heartbeat(), heartbeatEveryMs)
      try {
        return await next(input)
      } finally {
        clearInterval(beat)
      }
    },
  },
})
