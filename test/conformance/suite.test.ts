/** The public conformance suite of the stream protocol (spec/14 §7) against our store: one process, and two behind a round robin. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'
import { type RoundRobin, type StreamProcess, startRoundRobin, startStreamProcess } from '../support/stream-processes.js'

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

describe('the public conformance suite', () => {
  let fresh: FreshDatabase
  const processes: StreamProcess[] = []
  let balancer: RoundRobin | undefined

  beforeEach(async () => {
    fresh = await freshDatabase()
  })

  afterEach(async () => {
    await balancer?.close()
    balancer = undefined
    for (const process of processes.splice(0)) await process.stop()
    await fresh.drop()
  })

  it(
    'passes all 332 tests against one process',
    async () => {
      processes.push(await startStreamProcess(fresh.url))

      const { passed, failures } = await runSuite(processes[0]?.url ?? '')

      expect(failures).toEqual([])
      expect(passed).toBe(332)
    },
    suiteMinutes * 60_000,
  )

  it(
    'passes all 332 tests against two processes behind a round robin',
    async () => {
      balancer = await startRoundRobin(() => processes.map((process) => process.url))
      for (let count = 0; count < 2; count += 1) processes.push(await startStreamProcess(fresh.url, { PUBLIC_URL: balancer.url }))

      const { passed, failures } = await runSuite(balancer.url)

      expect(failures).toEqual([])
      expect(passed).toBe(332)
    },
    suiteMinutes * 60_000,
  )
})
