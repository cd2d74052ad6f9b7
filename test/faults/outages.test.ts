/** A part goes away and comes back, while the server stays: what goes on without it, what is refused, and that all recovers by itself. */
import { eventually } from '../support/eventually.js'
import { type Answer, expectStatus, Wire } from '../support/wire.js'

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start({ replicas: 1, own: ['temporal', 'postgres'] })
})
afterAll(async () => await wire.stop())

const timed = async <Result>(work: () => Promise<Result>) => {
  const began = Date.now()
  return { result: await work(), tookMs: Date.now() - began }
}

const outages = [
  { how: 'killed', begin: async () => await wire.house.kill('temporal'), end: async () => await wire.house.restart('temporal') },
  { how: 'frozen', begin: async () => wire.house.freeze('temporal'), end: async () => wire.house.thaw('temporal') },
] as const

describe.each(outages)('with Temporal $how', ({ how, begin, end }) => {
  beforeAll(async () => {
    for (const id of ['stays', 'ends', 'paused']) await wire.spawned(`/chat/${how}-${id}`)
    await begin()
  })

  it('spawns and closes are refused within 3 s, with the time to try again', async () => {
    const attempts = [
      () => wire.spawn(`/chat/${how}-refused`),
      () => wire.kill(`/chat/${how}-ends`),
      () => wire.signal(`/chat/${how}-ends`, { signal: 'SIGTERM' }),
      () => wire.spawn(`/chat/${how}-refused`),
    ]
    const answers = await Promise.all(attempts.map(timed))

    for (const { result, tookMs } of answers) {
      expect(result.body).toMatchObject({ error: { code: 'WORKFLOW_SERVICE_UNAVAILABLE' } })
      expect([result.status, Number(result.headers.get('retry-after')) > 0, tookMs < 3_000]).toEqual([503, true, true])
    }
  })

  it('after the first refusal the next ones come at once', async () => {
    const { result, tookMs } = await timed(() => wire.spawn(`/chat/${how}-refused`))

    expect([result.status, tookMs < 500]).toEqual([503, true])
  })

  it('reads, sends, signals that end nothing, and stream requests go on', async () => {
    const url = `/chat/${how}-stays`

    expectStatus(200, await wire.get(url))
    expectStatus(200, await wire.send(url, { payload: 'meanwhile' }))
    expectStatus(200, await wire.signal(`/chat/${how}-paused`, { signal: 'SIGSTOP' }))
    expect((await wire.events(url)).at(-1)?.value?.payload).toBe('meanwhile')
    expectStatus(201, await wire.ask('PUT', `/plain/${how}`, undefined, { headers: { 'content-type': 'application/json' } }))
  })

  it('and everything recovers by itself when it is back', async () => {
    await end()

    const url = `/chat/${how}-after`
    await eventually(async () => expectStatus(201, await wire.spawn(url, { initialMessage: 'hello' })), { withinMs: 30_000 })
    expect((await wire.events(url)).map(({ type }) => type)).toEqual(['entity_created', 'inbox'])
    expectStatus(200, await wire.kill(url))
    expect(await wire.statusOf(url)).toBe('killed')
  })

  it('what was refused meanwhile can be repeated, unless it happened after all', async () => {
    const again = async (status: number, ask: () => Promise<Answer>) =>
      await eventually(async () => {
        const answer = await ask()
        return [status, 409].includes(answer.status) && answer
      })
    await again(201, () => wire.spawn(`/chat/${how}-refused`))
    await again(200, () => wire.kill(`/chat/${how}-ends`))

    expect((await wire.events(`/chat/${how}-refused`)).map(({ type }) => type)).toEqual(['entity_created'])
    expect((await wire.events(`/chat/${how}-ends`)).map(({ type }) => type)).toEqual(['entity_created', 'signal'])
  })
})

describe('with Postgres frozen', () => {
  const url = '/chat/on-ice'

  it('whoever asks is told before a client gives up', async () => {
    await wire.spawned(url)
    wire.house.freeze('postgres')
    const sends = Array.from({ length: 8 }, (_, nth) => wire.send(url, { payload: nth }))
    const answers = await Promise.all([...sends, wire.get(url), wire.spawn('/chat/on-ice-too')])

    const refusals = answers.map(({ status, headers }) => [status, Number(headers.get('retry-after')) > 0])
    expect(refusals).toEqual(answers.map(() => [503, true]))
  })

  it('and everything recovers by itself when it is thawed: what was asked meanwhile is there completely or not at all', async () => {
    wire.house.thaw('postgres')

    await eventually(async () => expectStatus(200, await wire.send(url, { payload: 'after' })), { withinMs: 30_000 })
    const payloads = (await wire.events(url)).flatMap(({ type, value }) => (type === 'inbox' ? [value?.payload] : []))
    expect(payloads.at(-1)).toBe('after')
    expect(new Set(payloads).size).toBe(payloads.length)
    await eventually(async () => [201, 409].includes((await wire.spawn('/chat/on-ice-too')).status))
    expect((await wire.events('/chat/on-ice-too')).map(({ type }) => type)).toEqual(['entity_created'])
  })
})
