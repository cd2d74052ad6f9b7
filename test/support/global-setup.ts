/** Once per run: `dist/`, one Postgres and one Temporal server for all test files; each takes a database and a namespace of its own. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const fileAt = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

interface RunParts {
  readonly postgresUrl: string
  readonly temporalAddress: string
}

/** The parts live in a child process (jest transforms setup files in its own way); they end when its input ends, however jest ends. */
export default async function globalSetup(): Promise<void> {
  const child = spawn(process.execPath, [fileAt('./run-parts.mjs')], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
  })
  const parts = await new Promise<RunParts>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', (line) => resolve(JSON.parse(line) as RunParts))
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`the parts of the test run did not start (exit code ${code}); see above`)))
  })
  process.env.TEST_POSTGRES_URL = parts.postgresUrl
  process.env.TEST_TEMPORAL_ADDRESS = parts.temporalAddress
  Object.assign(globalThis, {
    stopTestParts: async () => {
      child.stdin.end()
      await ended
    },
  })
}
