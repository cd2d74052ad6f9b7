/** Readers that ask for a stream and take nothing of it. */
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

async function appendLarge(app: StreamApp): Promise<void> {
  for (let entry = 0; entry < 16; entry += 1) await app.streams.append(path, { contentType, body: Buffer.alloc(1_000_000, 'x') })
}

/** Has asked; reads no byte of the answer. */
async function stalledReader(app: StreamApp, query: string): Promise<Socket> {
  const before = await app.connections()
  const socket = connect(Number(new URL(app.url).port), '127.0.0.1').on('error', () => undefined)
  socket.pause().write(`GET ${path}?${query} HTTP/1.1\r\nhost: here\r\n\r\n`)
  await eventually(async () => (await app.connections()) > before)
  return socket
}
