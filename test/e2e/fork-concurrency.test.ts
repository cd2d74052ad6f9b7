/** Forks of what is used meanwhile: each is what stood at one instant, all of it or nothing (docs/decisions/0012). In both stream modes. */
import { type Copies, Forker } from '../support/forker.js'
import { childEvent, manifestEvent } from '../support/runtime-writer.js'
import { expectStatus, refusal, type WireEvent } from '../support/wire.js'

const times = <Result>(count: number, work: (nth: number) => Promise<Result>) =>
  Promise.all(Array.from({ length: count }, (_, nth) => work(nth)))

describe.each(['postgres', 'http'] as const)('with streams in %s,', (streams) => {
  let forker: Forker
  beforeAll(async () => {
    forker = await Forker.start({ streams })
  })
  afterAll(async () => await forker.stop())

  const payloads = (events: readonly WireEvent[]) => events.flatMap(({ type, value }) => (type === 'inbox' ? [Number(value?.payload)] : []))
  const copyOf = (copies: Copies, source: string) => copies.entities.find(({ url }) => url.startsWith(`${source}-fork-`))?.url ?? ''
  const ended = (url: string) => ({ status: 409, body: refusal('NOT_RUNNING', `Cannot fork terminal entity "${url}"`) })
  const terminal = async (url: string) => (await forker.wire.events(url)).filter(({ type }) => type === 'signal')
  /** What must not outlive any fork. */
  const held = async () => {
    const { waiters, signals, locks } = await forker.leftovers()
    return { waiters, signals, locks }
  }

  it('forks of overlapping subtrees at once are all made, each complete and under names of its own', async () => {
    const [one, other] = [await forker.root({ initialMessage: 1 }), await forker.root()]
    const [kid, board] = [await forker.child(one), forker.id('board')]
    const below = await forker.child(kid)
    const json = { headers: { 'content-type': 'application/json' } }
    expectStatus(201, await forker.wire.ask('PUT', `/_electric/shared-state/${board}`, undefined, json))
    for (const root of [one, other])
      await forker.writer.append(
        root,
        manifestEvent(`shared-state:${board}`, { kind: 'shared-state', id: board, mode: 'create', collections: {} }),
      )
    const pointer = { fork_pointer: { offset: null, sub_offset: 1 } }

    const [whole, cut, others] = await Promise.all([
      times(6, async () => await forker.forked(one)),
      times(3, async () => await forker.forked(one, pointer)),
      times(3, async () => await forker.forked(other)),
    ])

    const all = [...whole, ...cut, ...others]
    expect(all.map(({ entities }) => entities.length)).toEqual([3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1])
    expect(new Set(all.flatMap(({ entities }) => entities.map(({ url }) => url))).size).toBe(24)
    for (const copies of whole)
      for (const source of [one, kid, below])
        expect(await forker.inherited(copyOf(copies, source))).toEqual(await forker.wire.events(source))
    const boards = [...whole, ...others].map(({ root }) => `/_electric/shared-state/${board}-fork-${root.url.slice(-8)}?offset=-1`)
    expect(new Set(await Promise.all(boards.map(async (path) => (await forker.wire.ask('GET', path)).status)))).toEqual(new Set([200]))
    expect(await held()).toEqual({ waiters: 0, signals: 0, locks: 0 })
  })

  it('a subtree that is spawned into, written to and signalled meanwhile is copied as it stood at one instant', async () => {
    const root = await forker.root()
    const kid = await forker.child(root)
    let isForking = true
    let sent = 0
    const talk = async () => {
      for (; isForking; sent += 1) for (const url of [root, kid]) expectStatus(200, await forker.wire.send(url, { payload: sent }))
    }
    const spawn = async () => {
      for (let nth = 0; isForking && nth < 12; nth += 1) {
        const url = `/worker/${forker.id('late')}`
        await forker.wire.spawned(url, { parent: root })
        await forker.writer.append(root, childEvent(url)) // a copy that knows of it has it
      }
    }
    const signal = async () => {
      for (; isForking; ) for (const name of ['SIGSTOP', 'SIGCONT']) expectStatus(200, await forker.wire.signal(kid, { signal: name }))
    }
    const meanwhile = Promise.all(streams === 'postgres' ? [talk(), spawn(), signal()] : [talk()])

    const forks: Copies[] = []
    for (let nth = 0; nth < 4; nth += 1) forks.push(...(await times(2, async () => await forker.forked(root))))
    isForking = false
    await meanwhile

    const [rootNow, kidNow] = [await forker.wire.events(root), await forker.wire.events(kid)]
    for (const copies of forks) {
      const [rootThen, kidThen] = [await forker.inherited(copies.root.url), await forker.inherited(copyOf(copies, kid))]
      expect(rootThen).toEqual(rootNow.slice(0, rootThen.length))
      expect(kidThen).toEqual(kidNow.slice(0, kidThen.length))
      const [toRoot, toKid] = [payloads(rootThen).length, payloads(kidThen).length]
      expect([toRoot, toRoot - 1]).toContain(toKid) // who is written to second has no message that the first one has not
      const known = [...(await forker.manifest(copies.root.url)).values()].map((row) => (row as { entity_url: string }).entity_url)
      expect(copies.entities.map(({ url }) => url)).toEqual(expect.arrayContaining(known))
      expect(await forker.projected(copies.root.url)).toEqual(await forker.manifest(copies.root.url))
      expect(copies.entities.map(({ status }) => status)).toEqual(copies.entities.map(() => 'idle'))
    }
    expect(payloads(rootNow)).toEqual(Array.from({ length: sent }, (_, nth) => nth))
    expect(payloads(kidNow)).toEqual(payloads(rootNow))
    expect(await held()).toEqual({ waiters: 0, signals: 0, locks: 0 })
  })

  it.each(['root', 'child'])(
    'a kill and forks are in some order, where the %s is killed: a fork is whole and alive, or refused',
    async (whose) => {
      const outcomes = await times(6, async (nth) => {
        const root = await forker.root()
        const kid = await forker.child(root)
        const victim = whose === 'root' ? root : kid
        const fork = async () => await forker.fork(root, { waitTimeoutMs: 0 })
        const early = nth % 2 === 0 ? [fork()] : []
        const [killed, ...answers] = await Promise.all([forker.wire.kill(victim), ...early, fork(), fork()])

        expect(killed.status).toBe(200)
        expect(await fork()).toMatchObject(ended(victim)) // whoever hears of the kill is behind it
        for (const answer of answers) {
          if (answer.status !== 201) expect(answer).toMatchObject(ended(victim))
          else
            for (const { url } of (answer.body as Copies).entities) {
              expect([await forker.wire.statusOf(url), await terminal(url)]).toEqual(['idle', []])
              expectStatus(200, await forker.wire.send(url, { payload: 1 }))
            }
        }
        return answers.map(({ status }) => status)
      })

      expect(outcomes.flat().every((status) => status === 201 || status === 409)).toBe(true)
      expect(await held()).toEqual({ waiters: 0, signals: 0, locks: 0 })
    },
  )

  it('of ten forks to one name one is made, and nine leave nothing; nor does it matter whose copies they are', async () => {
    const [one, other] = [await forker.root(), await forker.root()]
    for (const root of [one, other]) await forker.child(root)
    const before = await forker.leftovers()
    const instance_id = forker.id('contested')
    const url = `/chat/${instance_id}`

    const answers = await times(10, async (nth) => await forker.fork(nth % 2 === 0 ? one : other, { instance_id, initialMessage: nth }))

    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array.from({ length: 9 }, () => 409)])
    for (const answer of answers.filter(({ status }) => status === 409))
      expect(answer.body).toEqual(refusal('DUPLICATE_URL', `Entity already exists at URL "${url}"`))
    const nth = answers.findIndex(({ status }) => status === 201)
    const own = await forker.ownEvents(url)
    expect(own[0]?.headers.forkedFrom).toBe(nth % 2 === 0 ? one : other)
    expect(payloads(own)).toEqual([nth])
    const { entities, lineage, streams: standing, waiters, signals, locks } = await forker.leftovers()
    expect({ entities, standing }).toEqual({
      entities: Number(before.entities) + 2,
      standing: Number(before.streams) + (streams === 'postgres' ? 2 : 0),
    })
    expect({ lineage, waiters, signals, locks }).toEqual({ lineage: Number(before.lineage) + 3, waiters: 0, signals: 0, locks: 0 })
  })

  it('of spawns and forks to one name one is made', async () => {
    const source = await forker.root()
    const url = `/chat/${forker.id('contested')}`
    const id = url.slice('/chat/'.length)

    const answers = await Promise.all([
      ...Array.from({ length: 4 }, async () => await forker.wire.spawn(url)),
      ...Array.from({ length: 4 }, async () => await forker.fork(source, { instance_id: id })),
    ])

    const made = answers.flatMap(({ status }, nth) => (status === 201 ? [nth] : []))
    expect(made).toHaveLength(1)
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(7)
    expect((await forker.ownEvents(url)).length > 0).toBe((made[0] ?? 0) >= 4)
    expectStatus(200, await forker.wire.send(url, { payload: 1 }))
  })

  it('forks of forks of forks, made while each is written to, read through, from any offset, also when their sources have ended', async () => {
    const source = await forker.root({ initialMessage: 0 })
    const chain = [source]
    for (let depth = 1; depth <= 3; depth += 1) {
      const last = chain.at(-1) ?? source
      const [{ root }] = await Promise.all([forker.forked(last), forker.wire.send(last, { payload: depth })])
      expectStatus(200, await forker.wire.send(root.url, { payload: depth * 10 }))
      chain.push(root.url)
    }
    const before = await Promise.all(chain.map(async (url) => await forker.wire.events(url)))
    for (const url of chain.slice(0, -1)) expectStatus(200, await forker.wire.kill(url))

    for (const [depth, url] of chain.entries()) {
      const events = (await forker.wire.events(url)).filter(({ type }) => type !== 'signal')
      expect(events).toEqual(before[depth])
      const said = payloads(events)
      expect(said.filter((payload) => payload % 10 === 0)).toEqual([0, 10, 20, 30].slice(0, depth + 1))
      if (depth > 0)
        expect(events.slice(0, (await forker.inherited(url)).length)).toEqual(
          before[depth - 1]?.slice(0, (await forker.inherited(url)).length),
        )
      for (const [nth, { headers }] of events.entries()) {
        const { body } = await forker.wire.ask('GET', `${url}/main?offset=${headers.offset}`)
        const rest = (body as readonly WireEvent[]).filter(({ type }) => type !== 'signal')
        expect(rest).toEqual(events.slice(nth).filter((event) => event.headers.offset !== headers.offset))
      }
    }
    expectStatus(200, await forker.wire.send(chain.at(-1) ?? '', { payload: 99 }))
    expect((await forker.forked(chain.at(-1) ?? '')).root.status).toBe('idle')
  })
})
