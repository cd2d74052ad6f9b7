/** The public conformance suite of the stream protocol (spec/14 §7), subscriptions included, against the whole server: one process, and two behind a round robin. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { House } from '../support/house.js'
import { startRoundRobin } from '../support/stream-processes.js'

const suiteMinutes = 5

interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numTotalTests: number
  readonly testResults: readonly {
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: string
      readonly failureMessages: readonly string[]
    }[]
  }[]
}

async function runSuite(baseUrl: string): Promise<{ readonly passed: number; readonly failures: readonly string[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'agents-conformance-'))
  const output = join(folder, 'report.json')
  const vitest = new URL('../../node_modules/vitest/vitest.mjs', import.meta.url).pathname
  const config = new URL('./vitest.config.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [vitest, 'run', '--config', config, '--reporter=json', `--outputFile=${output}`], {
    env: { ...process.env, NODE_OPTIONS: '', NODE_ENV: 'test', VITEST: 'true', STREAM_SERVER_URL: baseUrl },
    stdio: 'ignore',
  })
  await once(child, 'exit')
  const report = JSON.parse(await readFile(output, 'utf8')) as Report // vitest's own format
  await rm(folder, { recursive: true, force: true })
  const results = report.testResults.flatMap((file) => file.assertionResults)
  const failures = results
    .filter(({ status }) => status === 'failed')
    .map(({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.slice(0, 300)}`)
  return { passed: report.numPassedTests, failures }
}

const all = 338
const env = { ELECTRIC_AGENTS_LONG_POLL_TIMEOUT_MS: '3000' }

describe('the public conformance suite', () => {
  it(
    `passes all ${all} tests against one server`,
    async () => {
      await House.with({ env }, async ({ url }) => {
        const { passed, failures } = await runSuite(url)

        expect(failures).toEqual([])
        expect(passed).toBe(all)
      })
    },
    suiteMinutes * 60_000,
  )

  it(
    `passes all ${all} tests against two servers behind a round robin`,
    async () => {
      let urls: readonly string[] = []
      const balancer = await startRoundRobin(() => urls)
      try {
        await House.with({ env: { ...env, ELECTRIC_AGENTS_BASE_URL: balancer.url }, replicas: 2 }, async (house) => {
          urls = house.urls
          const { passed, failures } = await runSuite(balancer.url)

          expect(failures).toEqual([])
          expect(passed).toBe(all)
        })
      } finally {
        await balancer.close()
      }
    },
    suiteMinutes * 60_000,
  )
})
