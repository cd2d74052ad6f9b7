import { expectStatus, Wire } from '../support/wire.js'

const times = <Result>(count: number, work: (index: number) => Promise<Result>) =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index)))

describe.each(['postgres', 'http'] as const)('with streams in %s:', (streams) => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start({ replicas: 2, streams })
  })
  afterAll(async () => await wire.stop())

  describe('spawns of one URL (spec/02 §6.5)', () => {
    it.each([10, 50])('of %d at once one wins, and its row, stream and first message are intact (DEVIATE)', async (count) => {
      const url = `/chat/contested-${count}`
      const answers = await times(count, async (index) => await wire.spawn(url, { args: { index }, initialMessage: `hello ${index}` }))

      const winners = answers.filter(({ status }) => status === 201)
      expect(winners).toHaveLength(1)
      expect(answers.filter(({ status }) => status === 409)).toHaveLength(count - 1)
      const [winner] = winners.map(({ body }) => body as { spawn_args: { index: number } })
      const spawn_args = winner?.spawn_args ?? { index: -1 }
      expect((await wire.get(url)).body).toMatchObject({ status: 'idle', spawn_args })
      expect((await wire.events(url)).map(({ type, value }) => [type, value?.payload ?? value?.args])).toEqual([
        ['entity_created', spawn_args],
        ['inbox', `hello ${spawn_args.index}`],
      ])
    })

    it('through two replicas have one winner, and a loser finds a complete entity at once', async () => {
      const url = '/chat/contested-replicas'
      const spawnAt = async (base: string) => {
        const response = await fetch(`${base}/_electric/entities${url}`, {
          method: 'PUT',
          body: JSON.stringify({ initialMessage: 'hello' }),
        })
        await response.text()
        if (response.status === 409) expect((await wire.events(url)).map(({ type }) => type)).toEqual(['entity_created', 'inbox'])
        return response.status
      }

      const statuses = await Promise.all([...wire.house.urls, ...wire.house.urls, ...wire.house.urls].map(spawnAt))

      expect(statuses.sort()).toEqual([201, 409, 409, 409, 409, 409])
    })

    it.each(['idle', 'killed'])('that exists are refused, also when it is %s', async (status) => {
      const url = `/chat/existing-${status}`
      await wire.spawned(url)
      if (status === 'killed') await wire.kill(url)

      expect((await wire.spawn(url)).status).toBe(409)
      expect(await wire.statusOf(url)).toBe(status)
    })
  })

  describe('spawns of many URLs', () => {
    it('all succeed, fifty at once, each with its own transaction’s id and its own stream', async () => {
      const answers = await times(50, async (index) => await wire.spawn(`/chat/many-${index}`, { initialMessage: index }))

      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]))
      const streams = await times(50, async (index) => await wire.events(`/chat/many-${index}`))
      expect(streams.map((events) => events[1]?.value?.payload)).toEqual(Array.from({ length: 50 }, (_, index) => index))
      const rows = await wire.sql(`SELECT url, xmin::text AS xmin FROM entities WHERE url LIKE '/chat/many-%'`)
      const txids = new Map(answers.map(({ body }) => [(body as { url: string }).url, String((body as { txid: number }).txid)]))
      expect(rows.every(({ url, xmin }) => txids.get(String(url)) === xmin)).toBe(true)
    })

    it('are not spoiled by those among them that are refused', async () => {
      await wire.spawned('/chat/mixed-1')
      const answers = await times(
        10,
        async (index) => await wire.spawn(`/chat/mixed-${index}`, index === 2 ? { parent: '/chat/none' } : {}),
      )

      expect(answers.map(({ status }) => status)).toEqual([201, 409, 404, 201, 201, 201, 201, 201, 201, 201])
    })
  })

  describe('a stream that stands where a main stream belongs (spec/02 §6.5, DEVIATE)', () => {
    it('cannot be made by clients before the spawn', async () => {
      const made = await wire.ask('PUT', '/chat/squatted/main', undefined, { headers: { 'content-type': 'application/json' } })

      expect(made.status).toBe(401)
      expectStatus(201, await wire.spawn('/chat/squatted'))
    })
  })
})
