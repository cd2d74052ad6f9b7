/** The harness of the other tests, on real processes. */
import { House, type HouseOptions } from '../support/house.js'

const json = { 'content-type': 'application/json' }

async function send(method: string, url: string, body?: string): Promise<{ readonly status: number; readonly text: string }> {
  const response = await fetch(url, { method, headers: json, ...(body === undefined ? {} : { body }) })
  return { status: response.status, text: await response.text() }
}

async function spawnEntity(url: string, id: string): Promise<number> {
  await send('POST', `${url}/_electric/entity-types`, '{"name":"chat","description":"for the test"}')
  return (await send('PUT', `${url}/_electric/entities/chat/${id}`, '{"initialMessage":"hello"}')).status
}
const statusOf = async (url: string, id: string): Promise<number> => (await send('GET', `${url}/_electric/entities/chat/${id}`)).status

describe('a house', () => {
  it.each<[string, HouseOptions]>([
    ['with everything in one process', {}],
    ['with two servers and a worker of its own', { replicas: 2, worker: 'separate' }],
    ['with a foreign stream server', { streams: 'http' }],
  ])('spawns and reads: %s', async (_what, options) => {
    await House.with(options, async (house) => {
      expect(await spawnEntity(house.url, 'a')).toBe(201)
      for (const url of house.urls) expect(await statusOf(url, 'a')).toBe(200)
    })
  })

  it('keeps its data when its server is killed and started again', async () => {
    await House.with({}, async (house) => {
      await spawnEntity(house.url, 'a')

      await house.kill('server')
      await expect(statusOf(house.url, 'a')).rejects.toThrow()
      await house.restart('server')

      expect(await statusOf(house.url, 'a')).toBe(200)
    })
  })

  it('keeps its data when all of it is killed and started again', async () => {
    await House.with({ own: ['postgres', 'temporal'], streams: 'http' }, async (house) => {
      expect(await spawnEntity(house.url, 'a')).toBe(201)

      await house.killAll()
      await house.restartAll()

      expect(await statusOf(house.url, 'a')).toBe(200)
      expect(await spawnEntity(house.url, 'b')).toBe(201)
    })
  })

  it('lets two houses use the same entity URLs', async () => {
    await House.with({}, async (one) => {
      await House.with({}, async (other) => {
        expect(await Promise.all([spawnEntity(one.url, 'a'), spawnEntity(other.url, 'a')])).toEqual([201, 201])
      })
    })
  })

  it('says which part is not its own', async () => {
    await House.with({}, async (house) => {
      await expect(house.kill('postgres')).rejects.toThrow('this house has no "postgres" of its own (it has server)')
    })
  })
})
