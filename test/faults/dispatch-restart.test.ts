/** A thousand entities with pending work, and every process dies: after the restart each is delivered, none twice at a time. */
import { eventually } from '../support/eventually.js'
import { nothingIsLeft } from '../support/hand-held.js'
import { Wire } from '../support/wire.js'
import { expectEachWorkedThrough, quickTakeover, serve, startAgents } from './dispatching.js'
import { inLanes } from './findings.js'

const entities = 1_000
/** What hangs hangs until the end of everything: deliveries that failed before wait for longer and longer, which is another test. */
const patient = { ELECTRIC_AGENTS_DELIVERY_LIMIT_MS: '8000' }

it('1,000 entities with pending work are each delivered after a restart, none twice at a time, and behind a handler that hangs nobody waits', async () => {
  const wire = await Wire.start({ replicas: 1, own: ['postgres', 'temporal'], env: { ...quickTakeover, ...patient } })
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
        async (url) => await spawned(wire, url),
      )
    await Promise.all([0, 1, 2, 3, 4].map(spawnPart))
    await spawned(wire, '/other/before')
    await eventually(() => others.log.timesHandled('/other/before') === 1)

    await wire.house.killAll()
    await wire.house.restartAll()
    const since = performance.now()
    await spawned(wire, '/other/after')
    await eventually(() => others.log.timesHandled('/other/after') === 1, { withinMs: 10_000 })
    agents.heal()

    await eventually(() => expectEachWorkedThrough(agents.log, urls), { withinMs: 180_000, everyMs: 200 })
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
}, 420_000)

/** With itself as its first message. A workflow service that does not answer in time is asked again: 503 says that nothing is known to have happened. */
async function spawned(wire: Wire, url: string): Promise<void> {
  const stands = async () => [201, 409].includes((await wire.spawn(url, { initialMessage: url })).status)
  await eventually(stands, { withinMs: 30_000 })
}
