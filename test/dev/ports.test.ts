import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { freePort, portIsFree } from '../../src/dev/ports.js'

const host = '127.0.0.1'

async function listener() {
  const server = createServer().listen(0, host)
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

describe('a port that must be free', () => {
  it('is left free', async () => {
    const port = await freePort()

    await portIsFree(port, host, 0)

    await portIsFree(port, host, 0)
  })

  it('is waited for while a process that was killed lets go of it', async () => {
    const { server, port } = await listener()
    const waiting = portIsFree(port, host, 60_000)
    await expect(portIsFree(port, host, 0)).rejects.toMatchObject({ code: 'EADDRINUSE' }) // so the first try of the other has failed too

    server.close()

    await expect(waiting).resolves.toBeUndefined()
  })

  it('is refused at once where waiting cannot help', async () => {
    await expect(portIsFree(1, '203.0.113.1', 60_000)).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' }) // an address of documentation: nobody's
  })
})
