/** Readers that ask for a stream and take nothing of it. */
import { connect } from 'node:net'
import { eventually } from '../../support/eventually.js'
import { freshDatabase } from '../../support/postgres.js'
import { startStreamApp } from '../../support/stream-app.js'

it('a reader that takes nothing is cut off, and one that waits for news is not', async () => {
  const fresh = await freshDatabase()
  const app = await startStreamApp(fresh.url, { readStallMs: 3_000, sseKeepAliveMs: 150 })
  const path = `${app.url}/test/large`
  await fetch(path, { method: 'PUT', headers: { 'content-type': 'text/plain' } })
  for (let entry = 0; entry < 16; entry += 1)
    await fetch(path, { method: 'POST', headers: { 'content-type': 'text/plain' }, body: 'x'.repeat(1_000_000) })
  const patient = await fetch(`${path}?offset=now&live=sse`)
  const before = await app.connections()

  const stalled = ['offset=-1', 'offset=-1&live=sse', 'offset=0000000000000000_0000000000000000&live=long-poll'].map((query) => {
    const socket = connect(Number(new URL(app.url).port), '127.0.0.1').on('error', () => undefined)
    socket.pause().write(`GET /test/large?${query} HTTP/1.1\r\nhost: here\r\n\r\n`)
    return socket
  })
  await eventually(async () => (await app.connections()) >= before + stalled.length)
  await eventually(async () => (await app.connections()) <= before)

  await fetch(path, { method: 'POST', headers: { 'content-type': 'text/plain', 'stream-closed': 'true' }, body: 'news' })
  expect(await patient.text()).toContain('data:news\n')
  for (const socket of stalled) socket.destroy()
  await app.stop()
  await fresh.drop()
})
