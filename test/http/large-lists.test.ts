/** Lists of large rows: all of it arrives, and never all of it at once. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import type { StreamPath } from '../../src/domain/ids.js'
import type { Statement } from '../../src/registry/connection.js'
import { sql } from '../../src/registry/database.js'
import { type LetterPosition, listDeadLetters } from '../../src/registry/dead-letters.js'
import { listRunners, upsertRunner } from '../../src/registry/runners.js'
import { eventually } from '../support/eventually.js'
import { givenEntity, principal, type RegistryServer, registryServer } from './support/registry-server.js'

const maxListPortionBytes = 200_000
const largeBytes = 60_000
const evenRows = 40
let server: RegistryServer

beforeAll(async () => {
  server = await registryServer({ limits: { maxListPortionBytes, readStallMs: 2_000 } })
})
afterAll(async () => await server.close())

/** What no database compresses. */
const noise = (bytes: number): string => randomBytes(Math.ceil((bytes * 3) / 4)).toString('base64')

/** The bytes of JSON that each statement answers while `work` runs. */
async function answered<Result>(work: () => Promise<Result>): Promise<{ readonly result: Result; readonly bytes: readonly number[] }> {
  const bytes: number[] = []
  const { database } = server
  const query = database.query.bind(database)
  database.query = async (statement: Statement, options?: { readonly binary?: boolean }) => {
    const answer = await query(statement, options)
    bytes.push(JSON.stringify(answer.rows).length)
    return answer
  }
  try {
    return { result: await work(), bytes }
  } finally {
    database.query = query
  }
}

const urlsOf = (body: unknown) => (body as { url: string }[]).map(({ url }) => url)

describe('a list of large entities', () => {
  const urls = Array.from({ length: 25 }, (_, index) => `/large/${String(index).padStart(2, '0')}`)
  const at = (url: string) => ({ spawn_args: { text: noise(largeBytes) }, created_at: 1_000 + (Number(url.slice(-2)) % 3) })
  const expected = [2, 1, 0].flatMap((rest) => urls.filter((url) => Number(url.slice(-2)) % 3 === rest))
  beforeAll(async () => {
    for (const url of urls) await givenEntity(server.database, url, at(url))
    for (let index = 0; index < evenRows; index += 1)
      await givenEntity(server.database, `/even/${index}`, { spawn_args: { text: 'x'.repeat(1_000_000) } })
  })

  it('arrives whole where nobody asked for pages, and Postgres sends no more than a portion at once', async () => {
    const { result, bytes } = await answered(async () => await server.send('GET', '/_electric/entities?type=large'))

    expect(result.status).toBe(200)
    expect(result.headers.get('content-type')).toBe('application/json; charset=utf-8')
    expect(result.headers.get('electric-next-cursor')).toBeNull()
    expect(urlsOf(result.body)).toEqual(expected)
    expect(Math.max(...bytes)).toBeLessThan(maxListPortionBytes + 2 * largeBytes)
  })

  it('is paged without gaps or repetitions, each page as long as was asked for', async () => {
    const pages: string[][] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page = await server.send('GET', `/_electric/entities?type=large&limit=9&cursor=${cursor}`)
      pages.push(urlsOf(page.body))
      cursor = page.headers.get('electric-next-cursor')
    }

    expect(pages.map(({ length }) => length)).toEqual([9, 9, 7])
    expect(pages.flat()).toEqual(expected)
  })

  it('keeps to its page where an entity appears in the middle of it meanwhile', async () => {
    const late = '/large/00a'
    let isThere = false
    const { database } = server
    const query = database.query.bind(database)
    database.query = async (...asked) => {
      const answer = await query(...asked)
      if (!isThere && answer.rows.length === 1 && !('weight' in (answer.rows[0] ?? {}))) {
        isThere = true // the end of the page is known
        await givenEntity(database, late, { created_at: 1_001 })
      }
      return answer
    }
    const page = await server.send('GET', '/_electric/entities?type=large&limit=20')
    database.query = query
    const rest = await server.send('GET', `/_electric/entities?type=large&limit=20&cursor=${page.headers.get('electric-next-cursor')}`)
    await database.query({ name: '', text: `DELETE FROM entities WHERE url = '${late}'`, values: [] })

    expect(isThere).toBe(true)
    expect([...urlsOf(page.body), ...urlsOf(rest.body)].filter((url) => url !== late)).toEqual(expected)
  })

  it('counts what Postgres has compressed', async () => {
    const { result, bytes } = await answered(async () => await server.send('GET', '/_electric/entities?type=even'))

    expect(urlsOf(result.body)).toHaveLength(evenRows)
    expect(Math.max(...bytes)).toBeLessThan(2_100_000)
  })

  it('says to HEAD what it says to GET, without reading the rest', async () => {
    const { result, bytes } = await answered(async () => await server.send('HEAD', '/_electric/entities?type=large&limit=20'))

    expect(result.status).toBe(200)
    expect(result.headers.get('electric-next-cursor')).not.toBeNull()
    expect(bytes.length).toBeLessThanOrEqual(3)
  })

  it('is no longer read for a client that takes nothing of it, and that client is cut off', async () => {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1').on('error', () => undefined)
    const { bytes } = await answered(async () => {
      const before = await server.connections()
      socket.pause().write('GET /_electric/entities?type=even HTTP/1.1\r\nhost: here\r\n\r\n')
      await eventually(async () => (await server.connections()) > before)
      await eventually(async () => (await server.connections()) <= before)
    })

    socket.destroy()
    expect(bytes.length).toBeLessThan(evenRows)
  })
})

it('a list of large entity types arrives whole, a portion at a time', async () => {
  const names = Array.from({ length: 12 }, (_, index) => `type-${String(index).padStart(2, '0')}`)
  for (const name of names) {
    const state_schemas = Object.fromEntries(['a', 'b'].map((key) => [key, { description: noise(largeBytes) }]))
    expect((await server.register({ name, description: 'x', state_schemas }, name === 'type-05' ? 'user:kim' : undefined)).status).toBe(201)
  }

  const { result, bytes } = await answered(async () => await server.send('GET', '/_electric/entity-types'))
  const found = (result.body as { name: string }[]).map(({ name }) => name)

  expect(found).toEqual(['principal', ...names])
  expect(Math.max(...bytes)).toBeLessThan(maxListPortionBytes + 4 * largeBytes)
  const kims = await server.send('GET', '/_electric/entity-types', undefined, 'user:kim')
  expect((kims.body as { name: string }[]).map(({ name }) => name)).toEqual(['type-05'])
})

it('a list of runners with large profiles arrives whole, a portion at a time, up to its limit', async () => {
  const owner = principal('user:sam').url
  const ids = Array.from({ length: 12 }, (_, index) => `runner-${String(index).padStart(2, '0')}`)
  await server.database.transaction(async (tx) => {
    for (const id of ids) {
      const profile = { name: 'p', label: noise(largeBytes), remote: false }
      const fixed = { owner_principal: owner, label: 'L', kind: 'local', admin_status: 'enabled' } as const
      await upsertRunner(tx, { id, ...fixed, wake_stream: `/runners/${id}/wake` as StreamPath, sandbox_profiles: [profile as never] })
    }
  }) // born at one moment: their ids decide

  const { result, bytes } = await answered(async () => {
    const found: string[] = []
    for await (const some of listRunners(server.database, owner, { limit: 11, maxBytes: maxListPortionBytes }))
      found.push(...some.map(({ id }) => id))
    return found
  })

  expect(result).toEqual(ids.slice(0, 11))
  expect(Math.max(...bytes)).toBeLessThan(maxListPortionBytes + 2 * largeBytes)
})

it('a page of dead letters ends where it is full', async () => {
  const acked = JSON.stringify({ [noise(largeBytes)]: '-1' })
  for (let index = 0; index < 12; index += 1) await givenDeadLetter(`w_${index}`, acked)

  const pages: string[][] = []
  let after: LetterPosition | undefined
  do {
    const page = await listDeadLetters(server.database, { visibility: { sees: 'all' }, limit: 100, maxBytes: maxListPortionBytes, after })
    pages.push(page.rows.map(({ wake_id }) => wake_id))
    after = page.isFull ? page.rows.at(-1) : undefined
  } while (after !== undefined)

  expect(pages.flat()).toHaveLength(12)
  expect(new Set(pages.flat()).size).toBe(12)
  expect(pages.length).toBeGreaterThan(2)
})

async function givenDeadLetter(wakeId: string, acked: string): Promise<void> {
  await server.database.query(sql`
    INSERT INTO wake_notifications (wake_id, target_type, delivery_status, claim_status, generation, subscription_id, acked_before, resolved_at)
    VALUES (${wakeId}, 'webhook', 'failed', 'unclaimed', 1, 's', ${acked}::jsonb, now())`)
}
