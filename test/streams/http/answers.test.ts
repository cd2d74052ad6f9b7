/** What of a foreign server's answers is believed, and what is passed on. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { holds } from '../../../src/streams/http/content.js'
import { httpStreamStore } from '../../../src/streams/http/store.js'
import { read } from '../reading.js'

it.each([
  ['public, max-age=60, stale-while-revalidate=300', undefined],
  ['no-store', 'no-store'],
])('a read that says "%s" says %s to caches', async (sent, passed) => {
  const server = createServer((_request, response) => {
    response.writeHead(200, {
      'content-type': 'application/json',
      'cache-control': sent,
      'stream-next-offset': '0000000000000000_0000000000000001',
    })
    response.end('[1]')
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const store = httpStreamStore({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, knownConforming: true })

  const { status, headers } = await read(store, '/guarded', { offset: '-1' })

  expect([status, headers['cache-control']]).toEqual([200, passed])
  await store.close()
  await new Promise((closed) => server.close(closed))
})

it('a body that makes no entry is never taken for one that landed', () => {
  const stored = Buffer.from('[1,2]')

  const found = ['[2]', '{', '[]'].map((body) => holds('application/json', stored, Buffer.from(body)))

  expect(found).toEqual([true, false, false])
})
