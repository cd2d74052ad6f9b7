/** Forks of entities with very many attachments: they are done while the request waits. */
import { Forker } from '../support/forker.js'

const most = 20_000

let forker: Forker
beforeAll(async () => {
  forker = await Forker.start()
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
