/** Forks that fail after their checks: their root is gone by then (spec/04 §3, rows HEAD 12 and PTR 11), or their copies cannot be made (row 18). */
import pg from 'pg'
import { eventually } from '../support/eventually.js'
import { Forker } from '../support/forker.js'
import { manifestEvent } from '../support/runtime-writer.js'
import { expectStatus, refusal } from '../support/wire.js'

const pointer = { fork_pointer: { offset: null, sub_offset: 1 } }
const json = { headers: { 'content-type': 'application/json' } }

describe.each(['postgres', 'http'] as const)('with streams in %s,', (streams) => {
  let forker: Forker
  beforeAll(async () => {
    forker = await Forker.start({ streams })
  })
  afterAll(async () => await forker.stop())

  /** Nobody removes rows through the server: an operator's hand does, in a transaction that ends when somebody waits for it. */
  async function removedUnderway<Answer>(url: string, asks: () => Promise<Answer>): Promise<Answer> {
    const tx = new pg.Client({ connectionString: forker.wire.house.databaseUrl })
    await tx.connect()
    try {
      await tx.query('BEGIN')
      await tx.query('DELETE FROM entities WHERE url = $1', [url])
      const asked = asks()
      await eventually(async () => {
        const { rows } = await tx.query('SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))')
        return rows.length > 0
      })
      await tx.query('COMMIT')
      return await asked
    } finally {
      await tx.end()
    }
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
    expect(await forker.leftovers()).toEqual(expected)
  })
})
