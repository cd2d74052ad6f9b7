/** The public suite as vitest sees it; `suite.test.ts` starts it as a child process. */
import { runConformanceTests } from '@durable-streams/server-conformance-tests'

runConformanceTests({ baseUrl: process.env.STREAM_SERVER_URL ?? '', longPollTimeoutMs: 3_000, subscriptions: true })
