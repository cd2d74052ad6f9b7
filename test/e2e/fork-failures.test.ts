/** Forks that fail after their checks: their root is gone by then (spec/04 §3, rows HEAD 12 and PTR 11), or a copy cannot be made (row 18). */
import { eventually } from '../support/eventually.js'
import { Forker } from '../support/forker.js'
import { inTheWay, untilWaitedFor } from '../support/in-the-way.js'
import { expectStatus, refusal } from '../support/wire.js'

const pointer = { fork_pointer: { offset: null, sub_offset: 1 } }

describe.each(['postgres', 'http'] as const)('with streams in %s,', (streams) => {
  let forker: Forker
  beforeAll(async () => {
    forker = await Forker.start({ streams })
  })
  afterAll(async () => await forker.stop())

  /** Nobody removes rows through the server: an operator's hand does, in a transaction that ends when somebody waits for it. */
  async function removedUnderway<Answer>(url: string, asks: () => Promise<Answer>): Promise<Answer> {
    let asked: Promise<Answer> | undefined
    await inTheWay(forker.wire.house.databaseUrl, async (tx) => {
      await tx.query('DELETE FROM entities WHERE url = $1', [url])
      asked = asks()
      await untilWaitedFor(tx)
    })
    if (asked === undefined) throw new Error('nobody was asked')
    return await asked
  }

  /** What stands once `url` and its lineage are gone, and nothing of a fork is there. */
  async function leftWithout(url: string) {
    const { entities, lineage, ...others } = await forker.leftovers()
    const [row] = await forker.wire.sql('SELECT count(*)::int AS lineage FROM lineage WHERE descendant_url = $1', url)
    return { ...others, entities: Number(entities) - 1, lineage: Number(lineage) - Number(row?.lineage) }
  }

  it.each([
    ['HEAD 12', {}],
    ['PTR 11', pointer],
  ])('%s: a root that goes away between the checks and the look is not found', async (_, body) => {
    const root = await forker.root()
    await forker.child(root)
    const expected = await leftWithout(root)

    const answer = await removedUnderway(root, async () => await forker.fork(root, body))

    expect(answer).toMatchObject({ status: 404, body: refusal('NOT_FOUND', 'Entity not found') })
    expect(await forker.leftovers()).toEqual(expected)
  })

  it('HEAD 12: so is one that goes away while the fork waits for its child', async () => {
    const root = await forker.root()
    const kid = await forker.child(root)
    await forker.wire.putInto('running', kid)
    const expected = await leftWithout(root)
    const waiting = forker.fork(root, { waitTimeoutMs: 3_600_000 })
    await eventually(async () => (await forker.wire.sql('SELECT FROM waiters WHERE url = $1', kid)).length === 1)

    await forker.wire.sql('DELETE FROM entities WHERE url = $1', root)
    expectStatus(200, await forker.wire.signal(kid, { signal: 'SIGSTOP' }))

    expect(await waiting).toMatchObject({ status: 404, body: { error: { code: 'NOT_FOUND' } } })
    await eventually(async () => (await forker.wire.sql('SELECT FROM waiter_signals')).length === 0) // the relay forgets what it has told after that was heard
    expect(await forker.leftovers()).toEqual(expected)
  })

  describe('18: a fork one of whose streams cannot be copied', () => {
    const copy = '/chat/broken'
    const stray = `${copy}/attachments/a`
    /** Streams in Postgres are refused by the database; on the foreign server somebody else's stream stands where one is to be. */
    const faults = {
      postgres: {
        begin: async () => {
          await forker.wire.sql(`
            CREATE FUNCTION refuse_stray() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room for %', NEW.path; END $$`)
          await forker.wire.sql(
            `CREATE TRIGGER refuse_stray BEFORE INSERT ON streams FOR EACH ROW WHEN (NEW.path = '${stray}') EXECUTE FUNCTION refuse_stray()`,
          )
        },
        end: async () => await forker.wire.sql('DROP TRIGGER refuse_stray ON streams'),
        refusal: { status: 503, body: refusal('OPERATION_FAILED', 'The operation failed and left nothing behind') },
      },
      http: {
        begin: async () => expectStatus(201, await there('PUT')),
        end: async () => expectStatus(204, await there('DELETE')),
        refusal: { status: 409, body: { error: { code: 'DUPLICATE_URL' } } },
      },
    }
    const there = async (method: string, path = stray) =>
      await forker.wire.ask(method, path, undefined, { at: forker.wire.house.streamsUrl ?? '', headers: { 'content-type': 'text/plain' } })

    it('fails, nothing of it stays, its source goes on, and once it can be made it is (§14, MUST)', async () => {
      const root = await forker.root()
      const kid = await forker.child(root)
      await forker.attach(root, 'a')
      const [before, sources] = [await forker.leftovers(), await histories(root, kid)]
      const fault = faults[streams]
      await fault.begin()

      expect(await forker.fork(root, { instance_id: 'broken' })).toMatchObject(fault.refusal)

      expect(await forker.leftovers()).toEqual(before)
      expect((await forker.wire.get(copy)).status).toBe(404)
      expect((await forker.wire.stream(copy)).status).toBe(404)
      expect(await histories(root, kid)).toEqual(sources)
      for (const url of [root, kid]) expectStatus(200, await forker.wire.send(url, { payload: 1 }))

      await fault.end()
      const { entities } = await forker.forked(root, { instance_id: 'broken' })
      expect(entities).toHaveLength(2)
      expect((await forker.attachment(copy, 'a')).text).toBe('bytes of a')
    }, 90_000)
  })

  it('an attachment that another fork still reads and its source no longer has is not copied, and hinders nobody', async () => {
    const root = await forker.root()
    for (const id of ['a', 'b']) await forker.attach(root, id)
    const offset = String((await forker.wire.events(root)).at(-2)?.headers.offset)
    const reader = await forker.forked(root)
    expectStatus(200, await forker.wire.ask('DELETE', `/_electric/entities${root}/attachments/a`))

    const { root: copy } = await forker.forked(root, { fork_pointer: { offset, sub_offset: 1 } })

    expect((await forker.attachment(copy.url, 'b')).text).toBe('bytes of b')
    expect((await forker.attachment(copy.url, 'a')).status).toBe(404)
    expect((await forker.attachment(reader.root.url, 'a')).text).toBe('bytes of a')
  })

  const histories = async (...urls: readonly string[]) => await Promise.all(urls.map(async (url) => await forker.wire.events(url)))
})
