/** What a killed process, a lost answer, a database that is away and a reader that does not read leave behind (spec/14 §6.1, §6.3 invariant 10). */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { eventually } from '../../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../../support/postgres.js'
import { startPostgresProxy } from '../../support/postgres-proxy.js'
import { startRoundRobin } from '../../support/round-robin.js'
import { startStreamApp } from '../../support/stream-app.js'
import { type StreamProcess, startStreamProcess } from '../../support/stream-processes.js'
import { created, get, items, json, newPath, post, producer, put } from './protocol-client.js'

let fresh: FreshDatabase

beforeEach(async () => {
  fresh = await freshDatabase()
})

afterEach(async () => {
  await fresh.drop()
})

describe('killed processes', () => {
  it('lose no acknowledged append, repeat none, and show live readers each entry once', async () => {
    const processes: StreamProcess[] = [
      await startStreamProcess(fresh.url, { LONG_POLL_TIMEOUT_MS: '1000' }),
      await startStreamProcess(fresh.url, { LONG_POLL_TIMEOUT_MS: '1000' }),
    ]
    const balancer = await startRoundRobin(() => processes.map(({ url }) => url))
    const path = await created(balancer.url, newPath())
    let isOver = false
    const following = follow(balancer.url, path)
    const writers = Promise.all(Array.from({ length: 8 }, async (_, writer) => await writeUntil(() => isOver, balancer.url, path, writer)))

    for (let kill = 0; kill < 4; kill += 1) {
      const target = kill % 2
      await eventually(async () => (await items(balancer.url, path)).length > (kill + 1) * 40)
      await processes[target]?.kill()
      processes[target] = await startStreamProcess(fresh.url, { LONG_POLL_TIMEOUT_MS: '1000' })
    }
    isOver = true
    const acknowledged = await writers
    await repeated(async () => await post(balancer.url, path, { 'stream-closed': 'true' }), [204])

    const read = (await items(balancer.url, path)) as { writer: number; seq: number }[]
    for (const [writer, count] of acknowledged.entries()) {
      const own = read.filter((item) => item.writer === writer).map(({ seq }) => seq)
      expect(own).toEqual(Array.from({ length: count }, (_, seq) => seq))
    }
    expect(await following).toEqual(read)
    await balancer.stop()
    for (const process of processes) await process.stop()
  })

  it('start again at once however many streams there are', async () => {
    await fresh.database.query({
      name: 'many',
      text: `INSERT INTO streams (tenant_id, path, content_type, json, tail, closed) SELECT 'default', '/many/' || n, 'application/json', true, 0, false FROM generate_series(1, 100000) n`,
      values: [],
    })
    const app = await startStreamApp(fresh.url)

    const began = performance.now()
    const response = await put(app.url, '/many/1', json)

    expect([response.status, performance.now() - began < 1_000]).toEqual([200, true])
    await app.stop()
  })
})

/** Sends one producer's items, each until it is acknowledged; answers how many there were. */
async function writeUntil(isOver: () => boolean, url: string, path: string, writer: number): Promise<number> {
  let seq = 0
  for (; !isOver(); seq += 1) {
    const body = JSON.stringify({ writer, seq })
    await repeated(async () => await post(url, path, { ...json, ...producer(`writer-${writer}`, 0, seq) }, body), [200, 204])
  }
  return seq
}

/** A request that failed on the way, or was answered by nobody, is sent again. */
async function repeated(send: () => Promise<Response>, accepted: readonly number[]): Promise<void> {
  await eventually(
    async () => {
      const { status } = await send()
      if (status !== 502 && !accepted.includes(status)) throw new Error(`answered ${status}`)
      return accepted.includes(status)
    },
    { withinMs: 30_000 },
  )
}

async function follow(url: string, path: string): Promise<unknown[]> {
  const seen: unknown[] = []
  let offset = '-1'
  while (true) {
    const read = await longPoll(url, path, offset)
    if (read === null) continue // a process died under it: again from the same offset
    seen.push(...read.items)
    offset = read.next
    if (read.isEnd) return seen
  }
}

async function longPoll(
  url: string,
  path: string,
  offset: string,
): Promise<{ readonly items: readonly unknown[]; readonly next: string; readonly isEnd: boolean } | null> {
  try {
    const response = await get(url, path, `offset=${offset}&live=long-poll`)
    if (response.status !== 200 && response.status !== 204) return null
    const read = response.status === 200 ? ((await response.json()) as unknown[]) : []
    return {
      items: read,
      next: response.headers.get('stream-next-offset') ?? offset,
      isEnd: response.headers.get('stream-closed') === 'true',
    }
  } catch {
    return null
  }
}

describe('a database connection', () => {
  it('that breaks between a commit and its answer costs no append and doubles none, also without a producer', async () => {
    const proxy = await startPostgresProxy(fresh.url)
    const app = await startStreamApp(proxy.url)
    const path = await created(app.url, newPath())

    const answers: (string | null)[] = []
    for (let n = 0; n < 6; n += 1) {
      proxy.loseAnswersOfCommits(n % 2)
      const response = await post(app.url, path, json, `[${n}]`)
      answers.push(`${response.status} ${response.headers.get('stream-next-offset')?.slice(-1)}`)
    }
    proxy.loseAnswersOfCommits(1)
    const late = await put(app.url, newPath(), json, '["created"]')

    expect(answers).toEqual(['204 1', '204 2', '204 3', '204 4', '204 5', '204 6'])
    expect(await items(app.url, path)).toEqual([0, 1, 2, 3, 4, 5])
    expect(late.status).toBe(201)
    await app.stop()
    await proxy.close()
  })

  it('that cannot be had holds appends for some seconds, and then 503 with retry-after', async () => {
    const proxy = await startPostgresProxy(fresh.url)
    const app = await startStreamApp(proxy.url)
    const path = await created(app.url, newPath())
    proxy.refuse(true)

    const held = post(app.url, path, json, '["held"]')
    await eventually(() => proxy.refusals() > 1) // it has tried
    proxy.refuse(false)
    const answered = await held
    proxy.refuse(true)
    const refused = await post(app.url, path, json, '["lost"]')
    const unread = await get(app.url, path)
    proxy.refuse(false)

    expect([answered.status, refused.status, unread.status]).toEqual([204, 503, 503])
    expect(await items(app.url, path)).toEqual(['held'])
    await app.stop()
    await proxy.close()
  })
})

describe('a stalled reader', () => {
  it('costs a process a few chunks, not the stream', async () => {
    const server = await startStreamProcess(fresh.url)
    const path = await created(server.url, newPath(), { 'content-type': 'application/octet-stream' })
    for (let n = 0; n < 32; n += 1)
      await post(server.url, path, { 'content-type': 'application/octet-stream' }, Buffer.alloc(2 * 1024 * 1024, n))
    const before = await residentMegabytes(server.pid)

    const stalled = await Promise.all(
      Array.from({ length: 12 }, async (_, n) => {
        const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
        await once(socket, 'connect')
        socket.write(`GET ${path}?offset=-1${n % 2 === 0 ? '&live=sse' : ''} HTTP/1.1\r\nhost: x\r\n\r\n`)
        await once(socket, 'readable') // never read
        return socket
      }),
    )
    expect((await post(server.url, path, { 'content-type': 'application/octet-stream' }, 'more')).status).toBe(204)
    const after = await residentMegabytes(server.pid)

    expect(after - before).toBeLessThan(12 * 64 * 0.4) // twelve whole streams would be 768 MB and more
    for (const socket of stalled) socket.destroy()
    await server.stop()
  })
})

async function residentMegabytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
}
