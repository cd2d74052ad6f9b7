/** Every row of the tables of appends and producers (spec/14 §2.2, §2.3), with status and headers. */
import { randomBytes } from 'node:crypto'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'
import { created, type Headers, json, newPath, post, producer, put, remove, text } from './protocol-client.js'

let fresh: FreshDatabase
let app: StreamApp

beforeAll(async () => {
  fresh = await freshDatabase()
  app = await startStreamApp(fresh.url)
})

afterAll(async () => {
  await app.stop()
  await fresh.drop()
})

const zero = '0000000000000000_0000000000000000'
const offset = (position: number) => `0000000000000000_${String(position).padStart(16, '0')}`

interface Step {
  readonly headers?: Headers
  readonly body?: string
}

interface Row {
  readonly row: string
  /** What stands before: appends after the create; `null` for no stream at all. */
  readonly before: readonly Step[] | null
  readonly request: Step
  readonly status: number
  readonly answers: Readonly<Record<string, string | null>>
  readonly text?: string
}

const closing = { 'stream-closed': 'true' }
const item = (headers: Headers = {}): Step => ({ headers: { ...json, ...headers }, body: '{"a":1}' })
const closedBy = (headers: Headers = {}): Step => ({ headers: { ...json, ...closing, ...headers }, body: '{"last":1}' })

const rows: readonly Row[] = [
  {
    row: '1: producer headers all three or none',
    before: [],
    request: item({ 'producer-id': 'p', 'producer-epoch': '0' }),
    status: 400,
    answers: {},
    text: 'All producer headers (Producer-Id, Producer-Epoch, Producer-Seq) must be provided together',
  },
  {
    row: '2: a producer id that no index holds',
    before: [],
    request: item(producer(randomBytes(2_100).toString('base64'), 0, 0)), // 2,800
    status: 400,
    answers: {},
    text: 'Invalid Producer-Id: must have at most 2600 bytes',
  },
  {
    row: '2: a producer id as long as may be',
    before: [],
    request: item(producer(randomBytes(1_950).toString('base64'), 0, 0)), // 2,600
    status: 200,
    answers: { 'producer-seq': '0' },
  },
  {
    row: '2: an empty producer id',
    before: [],
    request: item(producer('', 0, 0)),
    status: 400,
    answers: {},
    text: 'Invalid Producer-Id: must not be empty',
  },
  {
    row: '2: an epoch that is no number',
    before: [],
    request: item(producer('p', '1x', 'y')),
    status: 400,
    answers: {},
    text: 'Invalid Producer-Epoch: must be a non-negative integer',
  },
  {
    row: '2: a seq beyond 2^53−1',
    before: [],
    request: item(producer('p', 0, '9007199254740992')),
    status: 400,
    answers: {},
    text: 'Invalid Producer-Seq: must be a non-negative integer',
  },
  {
    row: '2: 2^53−1 as epoch',
    before: [],
    request: item(producer('p', '9007199254740991', 0)),
    status: 200,
    answers: { 'producer-epoch': '9007199254740991', 'producer-seq': '0' },
  },
  { row: '4: an empty body, before existence', before: null, request: { headers: json }, status: 400, answers: {}, text: 'Empty body' },
  {
    row: '5: no content type',
    before: [],
    request: { headers: { 'content-type': '' }, body: '{}' },
    status: 400,
    answers: {},
    text: 'Content-Type header is required',
  },
  { row: '6: a missing stream', before: null, request: item(), status: 404, answers: {}, text: 'Stream not found' },
  {
    row: '7: the request that closed it, again',
    before: [closedBy(producer('p', 3, 0))],
    request: closedBy(producer('p', 3, 0)),
    status: 204,
    answers: { 'stream-next-offset': offset(1), 'stream-closed': 'true', 'producer-epoch': '3', 'producer-seq': '0' },
  },
  {
    row: '8: anything else on a closed stream',
    before: [closedBy()],
    request: item(),
    status: 409,
    answers: { 'stream-closed': 'true', 'stream-next-offset': offset(1), 'producer-expected-seq': null },
    text: 'Stream is closed',
  },
  {
    row: '8: an older duplicate on a closed stream',
    before: [item(producer('p', 0, 0)), closedBy(producer('p', 0, 1))],
    request: item(producer('p', 0, 0)),
    status: 409,
    answers: { 'stream-closed': 'true', 'producer-expected-seq': '0', 'producer-received-seq': '0' },
  },
  {
    row: '8: before the content type',
    before: [closedBy()],
    request: { headers: text, body: 'x' },
    status: 409,
    answers: { 'stream-closed': 'true' },
    text: 'Stream is closed',
  },
  {
    row: '9: another media type',
    before: [],
    request: { headers: { ...text, ...producer('p', 0, 5) }, body: 'x' },
    status: 409,
    answers: { 'producer-expected-seq': '5', 'producer-received-seq': '5' },
    text: 'Content-type mismatch',
  },
  {
    row: '9: the same media type with parameters',
    before: [],
    request: { headers: { 'content-type': 'Application/JSON; charset=utf-8' }, body: '1' },
    status: 204,
    answers: { 'stream-next-offset': offset(1) },
  },
  {
    row: '11: Stream-Seq not above the last, compared as bytes',
    before: [item({ 'stream-seq': '2' })],
    request: item({ 'stream-seq': '10', ...producer('p', 0, 0) }),
    status: 409,
    answers: { 'producer-expected-seq': '0', 'producer-received-seq': '0' },
    text: 'Sequence conflict',
  },
  {
    row: '11: a repetition with producer and Stream-Seq is no conflict',
    before: [item({ 'stream-seq': 'a', ...producer('p', 0, 0) })],
    request: item({ 'stream-seq': 'a', ...producer('p', 0, 0) }),
    status: 204,
    answers: { 'producer-seq': '0' },
  },
  { row: '12: not JSON', before: [], request: { headers: json, body: '{"a":' }, status: 400, answers: {}, text: 'Invalid JSON' },
  {
    row: '12: an empty array',
    before: [],
    request: { headers: { ...json, ...closing }, body: '[]' },
    status: 400,
    answers: { 'stream-closed': null },
    text: 'Empty arrays are not allowed',
  },

  {
    row: 'appended, no producer',
    before: [],
    request: item(),
    status: 204,
    answers: { 'stream-next-offset': offset(1), 'producer-epoch': null, 'stream-closed': null },
  },
  {
    row: 'appended, producer',
    before: [],
    request: item(producer('p', 7, 0)),
    status: 200,
    answers: { 'stream-next-offset': offset(1), 'producer-epoch': '7', 'producer-seq': '0' },
  },
  {
    row: 'appended and closed, in any case of "true"',
    before: [],
    request: item({ 'stream-closed': 'TRUE' }),
    status: 204,
    answers: { 'stream-closed': 'true', 'stream-next-offset': offset(1) },
  },
  {
    row: 'another value of Stream-Closed counts as absent',
    before: [],
    request: item({ 'stream-closed': 'yes' }),
    status: 204,
    answers: { 'stream-closed': null },
  },
  {
    row: 'close-only, open stream',
    before: [item()],
    request: { headers: closing },
    status: 204,
    answers: { 'stream-next-offset': offset(1), 'stream-closed': 'true' },
  },
  {
    row: 'close-only with producer consumes the seq',
    before: [item(producer('p', 0, 0))],
    request: { headers: { ...closing, ...producer('p', 0, 1) } },
    status: 204,
    answers: { 'stream-closed': 'true', 'producer-epoch': '0', 'producer-seq': '1' },
  },
  {
    row: 'close-only, closed stream, no producer',
    before: [closedBy()],
    request: { headers: closing },
    status: 204,
    answers: { 'stream-next-offset': offset(1), 'stream-closed': 'true' },
  },
  {
    row: 'close-only, closed stream, the closing tuple',
    before: [closedBy(producer('p', 0, 0))],
    request: { headers: { ...closing, ...producer('p', 0, 0) } },
    status: 204,
    answers: { 'stream-closed': 'true' },
  },
  {
    row: 'close-only, closed stream, another producer',
    before: [closedBy(producer('p', 0, 0))],
    request: { headers: { ...closing, ...producer('q', 0, 0) } },
    status: 409,
    answers: { 'stream-closed': 'true', 'producer-expected-seq': '0', 'producer-received-seq': '0' },
  },
  { row: 'close-only, unknown stream', before: null, request: { headers: closing }, status: 404, answers: {} },
  {
    row: 'close-only, duplicate on an open stream, does not claim a close (D9)',
    before: [item(producer('p', 0, 0))],
    request: { headers: { ...closing, ...producer('p', 0, 0) } },
    status: 204,
    answers: { 'stream-closed': null, 'producer-seq': '0' },
  },

  {
    row: 'producer: unknown id, seq above 0',
    before: [],
    request: item(producer('p', 0, 4)),
    status: 409,
    answers: { 'producer-expected-seq': '0', 'producer-received-seq': '4' },
  },
  {
    row: 'producer: an older epoch',
    before: [item(producer('p', 5, 0))],
    request: item(producer('p', 4, 0)),
    status: 403,
    answers: { 'producer-epoch': '5' },
    text: 'Stale producer epoch',
  },
  {
    row: 'producer: a newer epoch at 0',
    before: [item(producer('p', 5, 0))],
    request: item(producer('p', 6, 0)),
    status: 200,
    answers: { 'producer-epoch': '6', 'producer-seq': '0' },
  },
  {
    row: 'producer: a newer epoch above 0',
    before: [item(producer('p', 5, 0))],
    request: item(producer('p', 6, 1)),
    status: 400,
    answers: {},
    text: 'New epoch must start with sequence 0',
  },
  {
    row: 'producer: a duplicate names the highest accepted seq; its body is not looked at',
    before: [item(producer('p', 0, 0)), item(producer('p', 0, 1))],
    request: { headers: { ...json, ...producer('p', 0, 0) }, body: '{' },
    status: 204,
    answers: { 'producer-epoch': '0', 'producer-seq': '1' },
  },
  {
    row: 'producer: the next seq',
    before: [item(producer('p', 0, 0))],
    request: item(producer('p', 0, 1)),
    status: 200,
    answers: { 'stream-next-offset': offset(2) },
  },
  {
    row: 'producer: a gap',
    before: [item(producer('p', 0, 0))],
    request: item(producer('p', 0, 3)),
    status: 409,
    answers: { 'producer-expected-seq': '1', 'producer-received-seq': '3' },
    text: 'Producer sequence gap',
  },
  {
    row: 'producer: ids are independent',
    before: [item(producer('p', 9, 0))],
    request: item(producer('q', 0, 0)),
    status: 200,
    answers: { 'producer-epoch': '0' },
  },
]

async function state(path: string): Promise<string> {
  const { rows: found } = await fresh.database.query({
    name: 'test_state',
    text: `SELECT (SELECT row_to_json(s)::text FROM (SELECT tail, closed, last_seq FROM streams WHERE path = $1) s)
                  || (SELECT coalesce(json_agg(p ORDER BY producer_id)::text, '') FROM stream_producers p JOIN streams s ON s.id = p.stream_id WHERE s.path = $1) AS state`,
    values: [path],
  })
  return String(found[0]?.state)
}

describe('an append answers', () => {
  it.each(rows)('$row', async ({ before, request, status, answers, text: expected }) => {
    const path = newPath()
    if (before !== null) await created(app.url, path)
    for (const step of before ?? []) expect((await post(app.url, path, step.headers ?? json, step.body)).ok).toBe(true)
    const stood = await state(path)

    const response = await post(app.url, path, request.headers ?? {}, request.body)

    expect(response.status).toBe(status)
    for (const [name, value] of Object.entries(answers)) expect([name, response.headers.get(name)]).toEqual([name, value])
    if (expected !== undefined) expect(await response.text()).toBe(expected)
    if (status >= 400) expect(await state(path)).toBe(stood) // a refusal changes nothing (§6.3 invariant 9)
  })

  it('410 on a soft-deleted stream, also to a close-only request, which does not close it (D8)', async () => {
    const source = await created(app.url, newPath('source'), json, '[1]')
    await created(app.url, newPath('fork'), { 'stream-forked-from': source })
    expect((await remove(app.url, source)).status).toBe(204)

    const appended = await post(app.url, source, json, '1')
    const closed = await post(app.url, source, closing)

    expect([appended.status, closed.status]).toEqual([410, 410])
    expect(JSON.parse(await state(source))).toMatchObject({ closed: false, tail: 1 })
  })

  it('400 to a path of 3,000 bytes, as every other method does', async () => {
    const path = `/${'x'.repeat(3_000)}`

    const statuses = [(await put(app.url, path, json)).status, (await post(app.url, path, json, '1')).status]

    expect(statuses).toEqual([400, 400])
  })

  it('to a create: the zero offset, no body, an absolute location', async () => {
    const path = newPath()

    const response = await put(app.url, path, json)

    expect(response.status).toBe(201)
    expect(response.headers.get('stream-next-offset')).toBe(zero)
    expect(response.headers.get('location')).toBe(app.url + path)
    expect(await response.text()).toBe('')
  })
})
