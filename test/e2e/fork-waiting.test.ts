/** A fork waits on facts, not on polls (spec/04 §4, §8; docs/decisions/0012). */
import { Client, Connection } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import { Forker } from '../support/forker.js'
import { refusal } from '../support/wire.js'

const hour = 3_600_000

describe.each(['postgres', 'http'] as const)('a fork of what is at work, with streams in %s,', (streams) => {
  let forker: Forker
  let connection: Connection
  let temporal: Client
  beforeAll(async () => {
    forker = await Forker.start({ streams })
    connection = await Connection.connect({ address: forker.wire.house.temporalAddress })
    temporal = new Client({ connection, namespace: forker.wire.house.namespace })
  })
  afterAll(async () => {
    await connection.close()
    await forker.stop()
  })

  const waitersOf = async (url: string) =>
    (await forker.wire.sql('SELECT workflow_id FROM waiters WHERE url = $1', url)).map((row) => row.workflow_id)
  const untilWaiting = async (url: string, count = 1) => await eventually(async () => (await waitersOf(url)).length === count)
  const timedOut = (whose: string, active: readonly string[]) =>
    refusal('FORK_WAIT_TIMEOUT', `Timed out waiting for ${whose} to become idle`, { active })
  /** A root with a child that is at work. */
  async function busy() {
    const root = await forker.root()
    const kid = await forker.child(root)
    await forker.wire.putInto('running', kid)
    return { root, kid }
  }

  it.each(['running', 'stopping', 'spawning'])('is refused at once where nobody is to wait: %s (MUST)', async (status) => {
    const { root, kid } = await busy()
    await forker.wire.putInto(status, kid)
    const before = await forker.leftovers()

    expect(await forker.fork(root, { waitTimeoutMs: 0 })).toMatchObject({ status: 409, body: timedOut('subtree', [kid]) })
    expect(await forker.leftovers()).toEqual(before)
  })

  it('is refused when its time is up, and leaves nothing', async () => {
    const { root, kid } = await busy()
    const before = await forker.leftovers()
    const began = Date.now()

    expect(await forker.fork(root, { waitTimeoutMs: 700 })).toMatchObject({ status: 409, body: timedOut('subtree', [kid]) })
    expect(Date.now() - began).toBeGreaterThanOrEqual(700)
    expect(await forker.leftovers()).toEqual(before)
  })

  it('is made as soon as the last of them comes to rest', async () => {
    const root = await forker.root()
    const kids = [await forker.child(root), await forker.child(root), await forker.child(root)]
    for (const kid of kids) await forker.wire.putInto('running', kid)
    const waiting = forker.fork(root, { waitTimeoutMs: hour })

    for (const kid of kids) {
      await untilWaiting(kid)
      expect((await forker.wire.signal(kid, { signal: 'SIGSTOP' })).status).toBe(200)
    }

    expect((await waiting).status).toBe(201)
    expect(await forker.wire.sql('SELECT FROM waiters')).toEqual([])
    expect(await forker.wire.sql('SELECT FROM waiter_signals')).toEqual([])
  })

  it('hears at once that what it waits for has ended', async () => {
    const { root, kid } = await busy()
    const waiting = forker.fork(root, { waitTimeoutMs: hour })
    await untilWaiting(kid)

    expect((await forker.wire.kill(kid)).status).toBe(200)

    expect(await waiting).toMatchObject({ status: 409, body: refusal('NOT_RUNNING', `Cannot fork terminal entity "${kid}"`) })
  })

  it('at a pointer waits for the children that it keeps, and for nobody else', async () => {
    const { root, kid } = await busy()
    const at = String((await forker.wire.events(root)).at(-1)?.headers.offset)
    const first = String((await forker.wire.events(root))[0]?.headers.offset)
    await forker.wire.putInto('running', root)
    const kept = { fork_pointer: { offset: first, sub_offset: 1 } }
    expect(at).not.toBe(first)

    expect((await forker.fork(root, { fork_pointer: { offset: null, sub_offset: 1 }, waitTimeoutMs: 0 })).status).toBe(201)
    expect(await forker.fork(root, { ...kept, waitTimeoutMs: 0 })).toMatchObject({ status: 409, body: timedOut('descendants', [kid]) })
    expect(await forker.fork(root, { ...kept, waitTimeoutMs: 300 })).toMatchObject({ status: 409, body: timedOut('descendants', [kid]) })
    const waiting = forker.fork(root, { ...kept, waitTimeoutMs: hour })
    await untilWaiting(kid)
    await forker.wire.signal(kid, { signal: 'SIGSTOP' })
    expect((await waiting).status).toBe(201)
  })

  it('waits with a first message and tags that are more than Temporal takes', async () => {
    const { root, kid } = await busy()
    const [payload, note] = ['x'.repeat(5_000_000), 'n'.repeat(100)]
    const waiting = forker.fork(root, { waitTimeoutMs: hour, initialMessage: payload, tags: { note } })
    await untilWaiting(kid)

    await forker.wire.signal(kid, { signal: 'SIGSTOP' })

    expect(await waiting).toMatchObject({ status: 201, body: { root: { tags: { note } } } })
    const copy = ((await waiting).body as { root: { url: string } }).root.url
    expect((await forker.wire.events(copy)).at(-1)).toMatchObject({ type: 'inbox', value: { payload } })
  })

  it('takes along what was spawned while it waited', async () => {
    const { root, kid } = await busy()
    const waiting = forker.fork(root, { waitTimeoutMs: hour })
    await untilWaiting(kid)
    await forker.child(root)
    await forker.child(kid)

    await forker.wire.signal(kid, { signal: 'SIGSTOP' })

    expect(await waiting).toMatchObject({ status: 201 })
    expect(((await waiting).body as { entities: unknown[] }).entities).toHaveLength(4)
  })

  it('shows in Temporal for whom it waits; cancelled or terminated it leaves nothing', async () => {
    const { root, kid } = await busy()
    const before = await forker.leftovers()
    const body = { waitTimeoutMs: hour, instance_id: forker.id('cancelled') }
    const [cancelled, terminated] = [forker.fork(root, body), forker.fork(root, { waitTimeoutMs: hour })]
    await untilWaiting(kid, 2)
    const [own, other] = (await waitersOf(kid)).map(String).sort((id) => (id === `fork:/chat/${body.instance_id}` ? -1 : 1))

    const handle = temporal.workflow.getHandle(own ?? '')
    const details = await handle.query<string>('__temporal_workflow_metadata').then(JSON.stringify)
    expect(details).toContain(kid)
    await handle.cancel()
    expect((await cancelled).status).toBe(503)
    await temporal.workflow.getHandle(other ?? '').terminate()
    expect((await terminated).status).toBe(503)

    await forker.wire.signal(kid, { signal: 'SIGSTOP' })
    await eventually(
      async () => {
        expect(await forker.leftovers()).toEqual(before)
        return true
      },
      { withinMs: 15_000 },
    )
    expect((await forker.fork(root, { instance_id: body.instance_id })).status).toBe(201)
  })

  it('does not miss who comes to rest while it looks', async () => {
    await Promise.all(
      Array.from({ length: 12 }, async () => {
        const { root, kid } = await busy()
        const [answer] = await Promise.all([forker.fork(root, { waitTimeoutMs: hour }), forker.wire.signal(kid, { signal: 'SIGSTOP' })])
        expect(answer.status).toBe(201)
      }),
    )
  })

  it('is made although the one who should tell it has died: the sweep tells', async () => {
    const { root, kid } = await busy()
    const waiting = forker.fork(root, { waitTimeoutMs: hour })
    await untilWaiting(kid)

    await forker.wire.putInto('idle', kid) // by nobody who tells
    await temporal.schedule.getHandle('sweep').trigger()

    expect((await waiting).status).toBe(201)
  })
})
