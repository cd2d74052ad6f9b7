/** A thousand entities with pending work, and every process dies: after the restart each is delivered, none twice at a time. */
import { eventually } from '../support/eventually.js'
import { nothingIsLeft } from '../support/hand-held.js'
import { expectStatus, Wire } from '../support/wire.js'
import { expectEachWorkedThrough, quickTakeover, serve, startAgents } from './dispatching.js'
import { inLanes } from './findings.js'

const entities = 1_000

it('1,000 entities with pending work are each delivered after a restart, none twice at a time, and behind a handler that hangs nobody waits', async () => {
  const wire = await Wire.start({ replicas: 1, own: ['postgres', 'temporal'], env: quickTakeover })
  const agents = await startAgents({ baseUrl: wire.house.url })
  const others = await startAgents({ baseUrl: wire.house.url })
  try {
    await serve(wire, 'busy', agents.url)
    await serve(wire, 'other', others.url)
    agents.order({ kind: 'hang' })
    const urls = Array.from({ length: entities }, (_, index) => `/busy/e${index}`)
    const spawnPart = async (part: number) =>
      await inLanes(
        urls.filter((_, index) => index % 5 === part),
        async (url) => {
          await wire.spawned(url, { initialMessage: url })
        },
      )
    await Promise.all([0, 1, 2, 3, 4].map(spawnPart))
    expectStatus(201, await wire.spawn('/other/before', { initialMessage: 'before' }))
    await eventually(() => others.log.timesHandled('before') === 1)

    await wire.house.killAll()
    await wire.house.restartAll()
    const since = performance.now()
    await eventually(async () => expectStatus(201, await wire.spawn('/other/after', { initialMessage: 'after' })), { withinMs: 30_000 })
    await eventually(() => others.log.timesHandled('after') === 1, { withinMs: 10_000 })
    agents.heal()

    await eventually(() => expectEachWorkedThrough(agents.log, urls), { withinMs: 90_000, everyMs: 200 })
    const tookMs = Math.round(performance.now() - since)
    await nothingIsLeft(wire, { withinMs: 60_000 })
    agents.log.expectNoEntityTwiceAtATime()
    expect(agents.log.counts()).toMatchObject({ messagesHandled: entities, messagesHandledAgain: 0 })
    process.stdout.write(`${entities} entities with pending work, all handled ${tookMs} ms after a restart of everything: ${agents.log}\n`)
  } finally {
    await agents.stop()
    await others.stop()
    await wire.stop()
  }
}, 240_000)
