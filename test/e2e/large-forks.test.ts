/** Forks of entities with very many attachments: what may be forked is, while its request waits; what may not is refused at once. */
import { Client, Connection } from '@temporalio/client'
import { Forker } from '../support/forker.js'
import { refusal } from '../support/wire.js'

const most = 20_000

let forker: Forker
beforeAll(async () => {
  forker = await Forker.start({ env: { ELECTRIC_AGENTS_MAX_FORK_ROWS: String(most) } })
})
afterAll(async () => await forker.stop())

/** Attachments as uploads leave them, without the uploads. */
async function plant(url: string, count: number): Promise<void> {
  await forker.wire.sql(
    `WITH made AS (
       INSERT INTO streams (tenant_id, path, content_type, json, tail, closed)
       SELECT 'default', $1 || '/attachments/' || i, 'text/plain', false, 1, true FROM generate_series(1, $2::int) i RETURNING id, path
     ), written AS (
       INSERT INTO stream_entries (stream_id, end_offset, data) SELECT id, 1, convert_to(path, 'UTF8') FROM made)
     INSERT INTO projections (tenant_id, entity_url, type, key, value, entry)
     SELECT 'default', $1, 'manifest', 'attachment:' || i,
            json_build_object('key', 'attachment:' || i, 'kind', 'attachment', 'id', i::text, 'streamPath', $1 || '/attachments/' || i, 'status', 'complete',
                              'byteLength', octet_length($1 || '/attachments/' || i), 'sha256', 'x', 'mimeType', 'text/plain')::text,
            '0000000000000000_0000000000000001'
       FROM generate_series(1, $2::int) i`,
    url,
    count,
  )
}

it(`${most} attachments are copied within the time of a request`, async () => {
  const url = await forker.root()
  await plant(url, most)

  const { root } = await forker.forked(url)

  const [{ streams, ranges } = {}] = await forker.wire.sql(
    `SELECT count(*)::int AS streams, count(r.stream_id)::int AS ranges
       FROM streams s LEFT JOIN stream_ranges r ON r.stream_id = s.id WHERE s.path ^@ $1 AND s.closed`,
    `${root.url}/attachments/`,
  )
  expect([streams, ranges]).toEqual([most, most])
  for (const id of ['1', String(most)]) expect((await forker.attachment(root.url, id)).text).toBe(`${url}/attachments/${id}`)
  expect((await forker.projected(root.url)).size).toBe(most)
})

describe('one attachment more', () => {
  let url: string
  beforeAll(async () => {
    url = await forker.root()
    await plant(url, most + 1)
  })
  const message = `Subtree has more than ${most} manifest rows, attachments among them`

  it.each([
    ['at its head', {}],
    ['at a pointer', { fork_pointer: { offset: null, sub_offset: 1 } }],
  ])('is refused before anything is touched: %s', async (_, body) => {
    const before = [await forker.leftovers(), await forker.wire.counts()]

    expect(await forker.fork(url, body)).toMatchObject({ status: 400, body: refusal('INVALID_REQUEST', message) })
    expect([await forker.leftovers(), await forker.wire.counts()]).toEqual(before)
  })

  it('is refused to whoever starts the workflow, and copies nothing', async () => {
    const { house } = forker.wire
    const connection = await Connection.connect({ address: house.temporalAddress })
    const temporal = new Client({ connection, namespace: house.namespace })
    const before = await forker.leftovers()
    const items = [{ source: url, url: '/chat/copy', instanceId: 'copy', principal: 'system:dev-local' }]

    const answer = temporal.workflow.execute('forkSubtree', {
      workflowId: 'large',
      taskQueue: 'agents',
      args: [{ operationId: 'large', items }],
    })

    await expect(answer).rejects.toMatchObject({ cause: { message } })
    expect(await forker.leftovers()).toEqual(before)
    await connection.close()
  })

  it('of a whole subtree counts as well: rows of children are of the fork', async () => {
    const root = await forker.root()
    const child = await forker.child(root)
    await plant(child, most - 1)
    await forker.forked(root)
    await forker.child(root)

    expect(await forker.fork(root)).toMatchObject({ status: 400, body: refusal('INVALID_REQUEST', message) })
  })
})
