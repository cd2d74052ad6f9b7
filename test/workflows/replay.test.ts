import { fileURLToPath } from 'node:url'
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker'
import * as workflows from '../../src/workflows/index.js'
import { historyOf, type RecordedHistory, recordedHistories } from './histories.js'

/** The bundle that production runs. */
const codePath = fileURLToPath(new URL('../../dist/workflows.bundle.js', import.meta.url))

beforeAll(() => {
  Runtime.install({ logger: new DefaultLogger('ERROR'), telemetryOptions: { logging: { filter: 'OFF' } } }) // a history that does not replay is no news here
})

/** Every history that does not replay, with the reason. */
async function failuresOf(histories: readonly RecordedHistory[]): Promise<readonly string[]> {
  const failures: string[] = []
  const all = histories.map((recorded) => ({ workflowId: recorded.name, history: historyOf(recorded) }))
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle: { codePath } }, all))
    if (error !== undefined) failures.push(`${workflowId}: ${error.message}`)
  return failures
}

describe('running workflows survive an upgrade', () => {
  it('every recorded history replays on the bundle of today', async () => {
    expect(await failuresOf(await recordedHistories())).toEqual([])
  })

  it('every workflow has histories, with a retry, a refusal and a compensation among them', async () => {
    const names = (await recordedHistories()).map(({ name }) => name)

    for (const workflow of Object.keys(workflows)) expect(names.filter((name) => name.startsWith(`${workflow}-`))).not.toEqual([])
    for (const kind of ['-refused', '-retried', '-cancelled']) expect(names.some((name) => name.endsWith(kind))).toBe(true)
  })

  it.each([
    ['spawnEntities-foreign', 'createStreams'],
    ['spawnEntities-foreign-cancelled', 'dropStreams'],
    ['spawnEntities-foreign-late-cancelled', 'dropStreams'],
    ['closeEntities-foreign', 'landSignals'],
    ['forkSubtree-cancelled', 'forgetWaiter'],
    ['forkSubtree-foreign', 'copyStreams'],
    ['forkSubtree-foreign-cancelled', 'dropForks'],
    ['forkSubtree-foreign-late-cancelled', 'dropForks'],
  ])('a workflow that did something else than %s would be found out', async (name, activity) => {
    const recorded = (await recordedHistories()).find((one) => one.name === name)
    const text =
      recorded?.text
        .replaceAll(`"name": "${activity}"`, '"name": "somethingElse"')
        .replaceAll(`"name":"${activity}"`, '"name":"somethingElse"') ?? ''
    expect(text).not.toBe(recorded?.text)

    expect(await failuresOf([{ name, text }])).toEqual([expect.stringMatching(/nondeterminism/i)])
  })
})
