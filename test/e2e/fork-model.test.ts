/**
 * Forks against a model (test/support/fork-model.ts): whatever was done before, a fork is the prefix that it should be, with what reconciles it
 * behind; and whatever is done afterwards, to the one or the other, shows in no other (spec/04). Streams in Postgres with two replicas, foreign
 * ones with one.
 */
import fc from 'fast-check'
import { begun, forkCommands } from '../support/fork-commands.js'
import { nothingSeen, Real } from '../support/fork-copies.js'
import { ForkModel } from '../support/fork-model.js'
import { Forker } from '../support/forker.js'

/** Enough for every command to follow every other. */
const runs = { numRuns: 14, unbiased: true, endOnFailure: true }

/** The model judges, not the clock: some 500 commands, each with its HTTP requests and workflows, on whatever machine. */
const timeLimitMs = 300_000

describe.each(['postgres', 'http'] as const)('whatever is done, with streams in %s,', (streams) => {
  let forker: Forker
  beforeAll(async () => {
    forker = await Forker.start({ streams })
  })
  afterAll(async () => await forker.stop())

  it(
    'a fork is the prefix that it should be, and lives on its own',
    async () => {
      const seen = nothingSeen()
      const commands = fc.commands(forkCommands(), {
        maxCommands: 40,
        size: 'max',
      })
      await fc.assert(
        fc.asyncProperty(commands, async (drawn) => {
          const [model, real] = [new ForkModel(), new Real(forker, seen)]
          await begun(model, real)
          await fc.asyncModelRun(() => ({ model, real }), drawn)
          await real.readAll(model)
        }),
        runs,
      )
      process.stdout.write(`forks, streams in ${streams}: ${JSON.stringify(seen)}\n`)
      for (const [what, times] of Object.entries(seen)) expect({ what, isEnough: times > 0 }).toEqual({ what, isEnough: true })
    },
    timeLimitMs,
  )
})
