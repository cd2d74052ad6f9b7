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

/** Together enough for every command to follow every other; each part few enough for seconds. */
const runs = { numRuns: 5, unbiased: true, endOnFailure: true }
const parts = [1, 2, 3]

describe.each(['postgres', 'http'] as const)('whatever is done, with streams in %s,', (streams) => {
  const seen = nothingSeen()
  let forker: Forker
  beforeAll(async () => {
    forker = await Forker.start({ streams })
  })
  afterAll(async () => await forker.stop())

  it.each(parts)(
    'a fork is the prefix that it should be, and lives on its own (%d)',
    async () => {
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
    },
    120_000,
  )

  it('every kind of fork was among it', () => {
    process.stdout.write(`forks, streams in ${streams}: ${JSON.stringify(seen)}\n`)
    for (const [what, times] of Object.entries(seen)) expect({ what, isEnough: times > 0 }).toEqual({ what, isEnough: true })
  })
})
