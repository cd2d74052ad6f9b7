/** One server process of the stream protocol and nothing else: `DATABASE_URL`, settings by environment; prints its URL when it is ready. */
import { startStreamApp } from './stream-app.js'

const longPollTimeoutMs = Number(process.env.LONG_POLL_TIMEOUT_MS ?? 3_000)
const app = await startStreamApp(process.env.DATABASE_URL ?? '', { longPollTimeoutMs }, process.env.PUBLIC_URL)
process.stdout.write(`${app.url}\n`)

process.once('SIGTERM', () => {
  app.stop().then(
    () => process.exit(0),
    () => process.exit(1),
  )
})
