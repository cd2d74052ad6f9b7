/** Where a runner's wakes are announced nobody is woken by a pattern: each announcement would be work for others (runners.ts R5). */
import { eventually } from '../support/eventually.js'
import { expectStatus, Wire } from '../support/wire.js'

const json = { headers: { 'content-type': 'application/json' } }

describe.each(['postgres', 'http'] as const)('with streams in %s, no pattern links a wake stream:', (streams) => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start({ streams })
  })
  afterAll(async () => await wire.stop())

  /** A plain stream that somebody waits for: only of such has the registry heard where a foreign server has the streams. */
  const made = async (path: string) => {
    expectStatus(201, await wire.ask('PUT', path, undefined, json))
    await watch(`known${path.replaceAll('/', '-')}`, { streams: [path] })
  }
  const runner = async (id: string, wake_stream: string, as = 'system:dev-local') =>
    expectStatus(201, await wire.ask('POST', '/_electric/runners', { id, label: id, wake_stream }, { as }))
  const watch = async (id: string, named: object, as = 'system:dev-local') =>
    expectStatus(
      201,
      await wire.ask('PUT', `/__ds/subscriptions/${id}`, { type: 'pull-wake', wake_stream: `watch/${id}`, ...named }, { as }),
    )
  /** What wakes a subscription, and how often it was woken. */
  const linked = async (id: string) =>
    (await wire.sql('SELECT path FROM subscription_links WHERE subscription_id = $1 ORDER BY path', id)).map(({ path }) => path)
  const generation = async (id: string) => (await wire.sql('SELECT generation::int FROM subscriptions WHERE id = $1', id))[0]?.generation

  /** An entity that is pinned to this runner is spawned, and announced there. */
  async function announced(runnerId: string, path: string): Promise<void> {
    const dispatch_policy = { targets: [{ type: 'runner', runnerId }] }
    await wire.spawned(`/chat/for-${runnerId}`, { initialMessage: 'hello', dispatch_policy })
    await eventually(async () => {
      const { body } = expectStatus(200, await wire.ask('GET', `${path}?offset=-1`))
      return (body as readonly unknown[]).length > 0
    })
  }

  it('a new one, of a runner that is there', async () => {
    await made('/old/plain')
    await runner('old', '/old/wakes')
    await watch('after', { pattern: 'old/**' })
    await announced('old', '/old/wakes')

    expect([await linked('after'), await generation('after')]).toEqual([['/old/plain'], 0])
  })

  it('one that is there, of a new runner', async () => {
    await watch('before', { pattern: 'new/**' })
    await made('/new/plain')
    await runner('new', '/new/wakes')
    await announced('new', '/new/wakes')

    expect([await linked('before'), await generation('before')]).toEqual([['/new/plain'], 0])
  })

  it('one that has linked the stream while it was a plain one', async () => {
    await made('/once/plain')
    await watch('once', { pattern: 'once/**' })
    expect(await linked('once')).toEqual(['/once/plain'])
    await runner('once', '/once/plain')
    await announced('once', '/once/plain')

    expect([await linked('once'), await generation('once')]).toEqual([[], 0])
  })

  it('nor does what a stranger had subscribed to while it was a plain one; what its owner had, does', async () => {
    const mine = { streams: ['chosen/plain'] }
    await watch('of-a-stranger', mine, 'user:kim')
    await watch('of-its-owner', mine, 'user:sam')
    await watch('of-a-bypass', mine)
    await runner('chosen', '/chosen/plain', 'user:sam')

    expect(await Promise.all(['of-a-stranger', 'of-its-owner', 'of-a-bypass'].map(linked))).toEqual([
      [],
      ['/chosen/plain'],
      ['/chosen/plain'],
    ])
  })

  it('nor are wakes announced there of a stranger, who had chosen it while it was a plain one', async () => {
    const told = async () => (await wire.ask('GET', '/desk/wakes?offset=-1', undefined, { as: 'user:sam' })).body
    const wakesOf = async (id: string, path: string) => {
      await watch(id, { streams: [path], wake_stream: 'desk/wakes' }, id === 'sams' ? 'user:sam' : 'user:kim')
      return async () => expectStatus(204, await wire.ask('POST', `/${path}`, { work: 1 }, json))
    }
    await made('/work/of-kim')
    await made('/work/of-sam')
    const [wakeKim, wakeSam] = [await wakesOf('kims', 'work/of-kim'), await wakesOf('sams', 'work/of-sam')]
    await runner('desk', '/desk/wakes', 'user:sam')

    await wakeKim()
    const kims = async () => (await wire.sql(`SELECT last_error FROM subscriptions WHERE id = 'kims' AND wake_id IS NOT NULL`))[0]
    await eventually(async () => (await kims())?.last_error != null)
    await wakeSam()
    await eventually(async () => JSON.stringify(await told()).includes('sams'))

    expect(await told()).toMatchObject([{ subscription_id: 'sams' }])
    expect(await kims()).toEqual({ last_error: expect.stringContaining('have wakes announced on /desk/wakes') })
  })

  it('while who names it is woken by it', async () => {
    await watch('named', { streams: ['old/wakes'], pattern: 'old/**' })
    expect(await linked('named')).toEqual(['/old/plain', '/old/wakes'])
  })
})
