/** Readers that ask for a stream and take nothing of it. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { StreamPath } from '../../../src/domain/ids.js'
import { eventually } from '../../support/eventually.js'
import { freshDatabase } from '../../support/postgres.js'
import { type StreamApp, startStreamApp } from '../../support/stream-app.js'

const path = '/test/large' as StreamPath
const contentType = 'text/plain'

it('a reader that takes nothing is cut off, and one that waits for news is not', async () => {
  const fresh = await freshDatabase()
  const app = await startStreamApp(fresh.url, { readStallMs: 3_000 }) // without a keep-alive meanwhile
  await app.streams.create(path, { contentType })
  await appendLarge(app)
  const patient = await fetch(`${app.url}${path}?offset=now&live=sse`)

  const late = await stalledReader(app, 'offset=now&live=sse')
  const queries = ['offset=-1', 'offset=-1&live=sse', 'offset=0000000000000000_0000000000000000&live=long-poll']
  const stalled: Socket[] = []
  for (const query of queries) stalled.push(await stalledReader(app, query))
  await eventually(async () => (await app.connections()) === 2)

  const news = patient.text()
  await appendLarge(app) // of which the late one takes nothing
  await app.streams.append(path, { contentType, body: Buffer.from('news'), close: true })
  expect(await news).toContain('data:news\n')
  await eventually(async () => (await app.connections()) === 1)
  for (const socket of [late, ...stalled]) socket.destroy()
  await app.stop()
  await fresh.drop()
})

it('readers that take nothing hold no more than there is room for, all together, and others are served', async () => {
  const fresh = await freshDatabase()
  const app = await startStreamApp(fresh.url, { maxHeldReadBytes: 2.5 * hugeBytes, readStallMs: 600_000 })
  await app.streams.create(path, { contentType })
  for (let entry = 1; entry <= 6; entry += 1)
    await app.streams.append(path, { contentType, body: Buffer.alloc(hugeBytes, 'x'), close: entry === 6 })

  const stalled: Socket[] = []
  for (let entry = 0; entry < 6; entry += 1) stalled.push(await askedOnly(app, `offset=0000000000000000_000000000000000${entry}&live=sse`))

  await answered(app)
  await eventually(async () => (await app.connections()) <= 2)
  const served = await fetch(`${app.url}${path}?offset=0000000000000000_0000000000000005&live=sse`)
  expect((await served.text()).length).toBeGreaterThan(hugeBytes)
  for (const socket of stalled) socket.destroy()
  await app.stop()
  await fresh.drop()
})

/** More than the sockets of both ends take. */
const hugeBytes = 16 * 1024 * 1024

async function appendLarge(app: StreamApp): Promise<void> {
  for (let entry = 0; entry < 16; entry += 1) await app.streams.append(path, { contentType, body: Buffer.alloc(1_000_000, 'x') })
}

/** Has asked; reads no byte of the answer. */
async function stalledReader(app: StreamApp, query: string): Promise<Socket> {
  const before = await app.connections()
  const socket = await askedOnly(app, query)
  await eventually(async () => (await app.connections()) > before)
  return socket
}

async function askedOnly(app: StreamApp, query: string): Promise<Socket> {
  const socket = connect(Number(new URL(app.url).port), '127.0.0.1').on('error', () => undefined)
  socket.pause().write(`GET ${path}?${query} HTTP/1.1\r\nhost: here\r\n\r\n`)
  await once(socket, 'connect')
  return socket
}

/** Whoever connected before has been let in. */
async function answered(app: StreamApp): Promise<void> {
  await fetch(app.url + path, { method: 'HEAD', headers: { connection: 'close' } })
}
